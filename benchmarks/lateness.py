"""Tasks that are due each second, all at the same instant: what is missed, how late the rest is.

A body's begin is what counts: it notes the moment itself. An instant is missed when no body began
for it, also when a later run stands for it (``Job.missed``).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from benchmarks import limits, rows
from benchmarks.daemon import daemon
from benchmarks.figures import Figure, Spread, load, ms
from benchmarks.notes import BEGAN
from benchmarks.procedures import tell
from benchmarks.run import Run
from linod import wakeup

#: Until the first instant; the rows are written meanwhile.
BEFOREHAND = timedelta(seconds=3)
#: Seconds of work before the first instant that counts.
WARM_UP = 2
#: Seconds after the last instant in which its bodies may still begin.
AFTERWARDS = 1.5
TARGET_TASKS, TARGET_LATENESS = 100, 0.05
TARGET = "100 tasks: 0 missed, p99 <= 50 ms"


def measure(run: Run) -> Iterator[Figure]:
    """10, 100 and 1,000 tasks each second."""
    for count in (100,) if run.quick else (10, 100, 1000):
        run.settle()
        yield _measure(run, count, seconds=2 if run.quick else 30)


def _measure(run: Run, count: int, seconds: int) -> Figure:
    before = load()
    rows.clear()
    timer, hand_off = limits.timer_lateness(200), limits.hand_off(200)
    with daemon(run.profile_of(f"lateness-{count}")) as running:
        first = datetime.now(UTC).replace(microsecond=0) + BEFOREHAND
        rows.make(count, tell, **rows.every_second_from(first))
        wakeup.send()
        counted_from = first.timestamp() + WARM_UP
        until = counted_from + seconds
        time.sleep(max(until - time.time(), 0) + AFTERWARDS)
        began = list(running.notes.fresh())
    late = {
        (note.number, note.due): note.wall - note.due
        for note in began
        if note.kind == BEGAN and counted_from <= note.due < until
    }
    expected = count * seconds
    missed = expected - len(late)
    spread = Spread.of(list(late.values()) or [float("inf")])
    return Figure(
        "lateness",
        run.database,
        {
            "tasks": f"{count:,}",
            "missed": f"{missed:,} of {expected:,}",
            "late p50 ms": ms(spread.p50),
            "p99 ms": ms(spread.p99),
            "max ms": ms(spread.max),
        },
        {"timer p99 ms": ms(timer.p99), "thread p99 ms": ms(hand_off.p99)},
        before,
        TARGET if count == TARGET_TASKS else "",
        missed == 0 and spread.p99 <= TARGET_LATENESS,
    )
