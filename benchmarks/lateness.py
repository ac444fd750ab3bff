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
from benchmarks.figures import Figure, Spread, load
from benchmarks.procedures import tell
from benchmarks.run import Run
from linod.models import Job

#: Seconds of work before the first instant that counts.
WARM_UP = 3
TARGET = "0 missed, p99 <= 50 ms"
TARGET_TASKS = 100


def measure(run: Run) -> Iterator[Figure]:
    """10, 100 and 1,000 tasks each second."""
    for count in (10, 100, 1000):
        run.settle()
        yield _measure(run, count, seconds=5 if run.quick else 30)


def _measure(run: Run, count: int, seconds: int) -> Figure:
    before = load()
    rows.clear()
    # The daemon needs a moment to come up; nothing is due before.
    first = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=6)
    rows.make(count, tell, **rows.every_second_from(first))
    limit = f"timer {limits.timer_lateness(200)}; thread hand-off {limits.hand_off(200)}"
    counted_from = first.timestamp() + WARM_UP
    until = counted_from + seconds
    with daemon(run.profile_of(f"lateness-{count}")) as running:
        if time.time() > first.timestamp():
            raise TimeoutError("the daemon came up after the first instant: the machine is busy")
        time.sleep(max(until - time.time(), 0) + 1.5)
        began = list(running.notes.fresh())
    late = {
        (note.number, note.due): note.wall - note.due
        for note in began
        if note.due and counted_from <= note.due < until
    }
    expected = count * seconds
    missed = expected - len(late)
    spread = Spread.of(list(late.values()) or [float("inf")])
    counted = Job.objects.filter(due_at__gte=datetime.fromtimestamp(counted_from, UTC))
    coalesced = sum(counted.values_list("missed", flat=True))
    return Figure(
        "lateness",
        run.database,
        f"{count:,} tasks due each second, {seconds} s",
        f"{missed:,} of {expected:,} missed ({coalesced:,} of them coalesced);"
        f" body begins late by {spread}",
        limit,
        before,
        TARGET if count == TARGET_TASKS else "",
        missed == 0 and spread.p99 <= 0.05 if count == TARGET_TASKS else None,
    )
