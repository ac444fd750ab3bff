"""From ``task.request_run()`` in another process until the body begins.

The clock starts before the call, so the request's own commit is part of it; the body notes its
begin on the monotonic clock, which all processes of a Linux machine share. Between the samples,
while the daemon waits, a commit of one row is measured on the same connection, after a pause like
the request's own: the caches of a processor that had nothing to do are as cold for both.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Iterator

from benchmarks import limits, rows
from benchmarks.daemon import Running, daemon, wait_until
from benchmarks.figures import Figure, Spread, load, ms
from benchmarks.notes import BEGAN, RECORDED
from benchmarks.procedures import tell
from benchmarks.run import Run
from linod.models import BackgroundTask

#: Samples that go first and do not count.
WARM_UP = 5
#: Seconds between two samples, at random.
GAPS = 0.05, 0.25
PATIENCE = 30.0
MOST_COMMITS = 3


def measure(run: Run) -> Iterator[Figure]:
    """200 requests, one after another."""
    run.settle()
    before = load()
    rows.clear()
    rows.make(1, tell)
    task = BackgroundTask.objects.get()
    with daemon(run.profile_of("start")) as running:
        samples = [_sample(running, task) for _ in range(WARM_UP + (10 if run.quick else 200))]
    started, called, commits = zip(*samples[WARM_UP:], strict=True)
    spread = Spread.of(started)
    commit = statistics.median(commits)
    ratio = spread.p50 / commit
    yield Figure(
        "start",
        run.database,
        {
            "samples": str(len(started)),
            "p50 ms": ms(spread.p50),
            "p99 ms": ms(spread.p99),
            "max ms": ms(spread.max),
            "call ms": ms(statistics.median(called)),
            "p50 in commits": f"{ratio:.1f}",
        },
        {"commit ms": ms(commit)},
        before,
        f"p50 <= {MOST_COMMITS} commits",
        ratio <= MOST_COMMITS,
    )


def _sample(running: Running, task: BackgroundTask) -> tuple[float, float, float]:
    """Seconds until the body began, of the call, and of a commit after the same pause."""
    time.sleep(random.uniform(*GAPS))
    asked = time.monotonic()
    task.request_run()
    called = time.monotonic() - asked
    seen: dict[int, float] = {}

    def is_done() -> bool:
        seen.update((note.kind, note.monotonic) for note in running.notes.fresh())
        return RECORDED in seen

    wait_until(is_done, PATIENCE, "the requested job")
    time.sleep(random.uniform(*GAPS))
    return seen[BEGAN] - asked, called, limits.one_row_commit(task)
