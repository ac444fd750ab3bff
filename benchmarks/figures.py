"""Numbers and how they are shown."""

from __future__ import annotations

import os
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

CORES = len(os.sched_getaffinity(0))


@dataclass(frozen=True)
class Figure:
    """What one case came to, beside what bounds it.

    :param load: the load average of the last minute when the measurement began.
    :param reached: whether the target was; None: the case has none.
    """

    benchmark: str
    database: str
    case: str
    measured: str
    limit: str
    load: float
    target: str = ""
    reached: bool | None = None

    @property
    def verdict(self) -> str:
        """The target and whether it was reached."""
        if self.reached is None:
            return self.target
        return f"{self.target}: {'reached' if self.reached else 'MISSED'}"

    @property
    def text(self) -> str:
        """All of it, for a terminal."""
        lines = [f"{self.database}: {self.case}", f"  {self.measured}", f"  limit: {self.limit}"]
        if self.target:
            lines.append(f"  target: {self.verdict}")
        return "\n".join([*lines, f"  load: {self.load:.1f}"])


@dataclass(frozen=True)
class Spread:
    """Percentiles of seconds."""

    p50: float
    p99: float
    max: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Spread:
        """The percentiles of at least one value, each a value that occurred."""
        ordered = sorted(seconds)
        last = len(ordered) - 1
        return cls(ordered[round(last * 0.5)], ordered[round(last * 0.99)], ordered[-1])

    def __str__(self) -> str:
        return f"p50 {ms(self.p50)}, p99 {ms(self.p99)}, max {ms(self.max)}"


def ms(seconds: float) -> str:
    """Milliseconds with as many digits as a reader needs."""
    value = seconds * 1000
    return f"{value:.2f} ms" if abs(value) < 10 else f"{value:,.0f} ms"


def median_of(values: Sequence[float]) -> str:
    """The median of repeated measurements, and what lay around it."""
    middle = f"{statistics.median(values):,.0f}"
    if len(values) == 1:
        return middle
    return f"{middle} ({min(values):,.0f} to {max(values):,.0f}, {len(values)} runs)"


def load() -> float:
    """The load average of the last minute."""
    return os.getloadavg()[0]
