"""Numbers, and how they are shown."""

from __future__ import annotations

import os
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """What one case came to, beside what bounds it.

    :param values: what was measured, by heading.
    :param limits: what the machine and the database allow, by heading.
    :param load: the load average of the last minute when the measurement began.
    :param target: what must be reached; empty: nothing.
    """

    benchmark: str
    database: str
    values: Mapping[str, str]
    limits: Mapping[str, str]
    load: float
    target: str = ""
    reached: bool = True

    @property
    def verdict(self) -> str:
        """Whether the target was reached, if there is one."""
        if not self.target:
            return ""
        return "reached" if self.reached else "missed"

    @property
    def cells(self) -> dict[str, str]:
        """The row of a table, by heading; limits stand in brackets."""
        return {
            "database": self.database,
            **self.values,
            **{name: f"[{value}]" for name, value in self.limits.items()},
            "load": f"{self.load:.1f}",
            "target": self.verdict,
        }


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


def ms(seconds: float) -> str:
    """Milliseconds with as many digits as a reader needs.

    >>> ms(0.00123), ms(0.0456), ms(1.5)
    ('1.23', '46', '1,500')
    """
    value = seconds * 1000
    return f"{value:.2f}" if abs(value) < 10 else f"{value:,.0f}"


def median_of(values: Sequence[float]) -> str:
    """The median of repeated measurements, and between what they lay.

    >>> median_of([3000.0, 1000.0, 2000.0])
    '2,000 (1,000-3,000)'
    """
    middle = f"{statistics.median(values):,.0f}"
    if len(values) == 1:
        return middle
    return f"{middle} ({min(values):,.0f}-{max(values):,.0f})"


def load() -> float:
    """The load average of the last minute."""
    return os.getloadavg()[0]


def table(figures: Sequence[Figure]) -> str:
    """Figures of one benchmark as a table of plain text (a "simple table" of reStructuredText)."""
    rows = [list(figures[0].cells), *(list(figure.cells.values()) for figure in figures)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    rule = " ".join("=" * width for width in widths)
    lines = [
        " ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return "\n".join([rule, lines[0], rule, *lines[1:], rule])
