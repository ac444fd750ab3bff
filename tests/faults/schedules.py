"""Tasks with rules so simple that their instants are one line of arithmetic, made without linod."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

#: Seconds from the making of the rows to the first instant.
BEFOREHAND = 3


@dataclass(frozen=True)
class Schedule:
    """A task that is due every ``every`` seconds from ``first`` (since 1970) to ``last``."""

    every: int
    first: int
    last: int
    task: int = 0
    policy: str = "once"
    body: str = "note"
    arguments: Any = None
    values: Any = None

    @property
    def instants(self) -> range:
        """All instants that it names."""
        return range(self.first, self.last + 1, self.every)


def spread(
    rng: random.Random, begin: int, seconds: int, mix: Iterable[tuple[int, int]], **values: Any
) -> list[Schedule]:
    """Tasks with phases by chance: (how many, every so many seconds)."""
    return [
        Schedule(every, begin + rng.randrange(every), begin + seconds - 1, **values)
        for count, every in mix
        for _ in range(count)
    ]


def singles(begin: int, seconds: int, a_second: int, **values: Any) -> list[Schedule]:
    """Tasks that are due once, so many in each second."""
    return [
        Schedule(1, begin + second, begin + second, **values)
        for second in range(seconds)
        for _ in range(a_second)
    ]


def soon(seconds: float = BEFOREHAND) -> int:
    """A whole second, that many seconds from now or a little more."""
    return int(time.time() + seconds) + 1


def write_rows(schedules: Sequence[Schedule]) -> list[Schedule]:
    """Make the rows; returns the schedules with the keys of their tasks."""
    from linod import wakeup
    from linod.models import BackgroundTask
    from linod.procedures import Procedures

    rows = [
        BackgroundTask(
            seqno=number,
            name=f"{schedule.body} {number}",
            procedure=Procedures.find(schedule.body),
            arguments=schedule.arguments or {},
            log_level="WARNING",
            missed=schedule.policy,
            every_unit="secondly",
            every=schedule.every,
            start_date=_utc(schedule.first).date(),
            start_time=_utc(schedule.first).time(),
            end_date=_utc(schedule.last).date(),
            end_time=_utc(schedule.last).time(),
            next_run_at=_utc(schedule.first),
            **(schedule.values or {}),
        )
        for number, schedule in enumerate(schedules)
    ]
    highest = BackgroundTask.objects.order_by("-pk").values_list("pk", flat=True).first() or 0
    for number, row in enumerate(rows):
        row.pk = highest + 1 + number
    BackgroundTask.objects.bulk_create(rows, batch_size=500)
    wakeup.send()
    return [replace(s, task=row.pk) for s, row in zip(schedules, rows, strict=True)]


def _utc(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
