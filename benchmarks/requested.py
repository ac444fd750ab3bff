"""Jobs that are requested all at once: how many a second are run and recorded.

From the daemon's first claim, by the database's clock, to the commit of the last outcome, which the
daemon notes as it happens.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator

from django.db.models import Min

from benchmarks import limits, rows
from benchmarks.daemon import Running, daemon, wait_until
from benchmarks.figures import Figure, load, median_of, ms
from benchmarks.procedures import no_op, one_line
from benchmarks.run import Run
from linod import clock, wakeup
from linod.models import BackgroundTask, Job, JobLog

#: Jobs that go first and do not count.
WARM_UP = 300
#: Jobs a second that must be reached.
TARGETS = {"sqlite": 2500, "sqlite-wal": 2500, "postgresql": 2000, "mariadb": 800}
#: Seconds after which a measurement is given up.
PATIENCE = 180.0


def measure(run: Run) -> Iterator[Figure]:
    """5,000 jobs that do nothing, and 5,000 that log a line."""
    count = 200 if run.quick else 5000
    for procedure in (no_op, one_line):
        run.settle()
        yield _measure(run, procedure, count)


def _measure(run: Run, procedure: Callable[..., object], count: int) -> Figure:
    before, name = load(), procedure.__name__
    rates = [_rates(run, procedure, count, attempt) for attempt in range(run.repeats)]
    from_claim, from_request, cpu, groups = zip(*rates, strict=True)
    commits = limits.commits(0.5 if run.quick else 3)
    target = TARGETS[run.database]
    return Figure(
        "requested",
        run.database,
        {
            "jobs": f"{count:,}",
            "body": name,
            "jobs/s": median_of(from_claim),
            "from request": f"{statistics.median(from_request):,.0f}",
            "CPU ms a job": ms(statistics.median(cpu)),
            "jobs a commit": f"{count / statistics.median(groups):.0f}",
        },
        {"commits/s": f"{commits:,.0f}", "rows/s": f"{limits.inserted_rows(count):,.0f}"},
        before,
        f"{run.database} >= {target:,}/s",
        statistics.median(from_claim) >= target,
    )


def _rates(
    run: Run, procedure: Callable[..., object], count: int, attempt: int
) -> tuple[float, float, float, int]:
    """Jobs a second from the first claim and from the request, CPU seconds a job, groups."""
    rows.clear()
    rows.make(WARM_UP + count, procedure)
    with daemon(run.profile_of(f"requested-{procedure.__name__}-{attempt}")) as running:
        _request(0, WARM_UP)
        _wait_until_recorded(running, WARM_UP)
        time.sleep(0.5)
        asked, cpu = time.time(), running.cpu_seconds
        _request(WARM_UP, count)
        last, groups = _wait_until_recorded(running, count)
        cpu = running.cpu_seconds - cpu
    jobs = Job.objects.filter(task__seqno__gte=WARM_UP, state=Job.State.SUCCEEDED)
    lines = 1 + (procedure is one_line)
    texts = JobLog.objects.filter(job__in=jobs).values_list("text", flat=True)
    if jobs.count() != count or sum(text.count("\n") for text in texts) != count * lines:
        raise RuntimeError(f"not every one of {count} jobs succeeded with {lines} lines of log")
    first = jobs.aggregate(first=Min("claimed_at"))["first"].timestamp()
    return count / (last - first), count / (last - asked), cpu / count, groups


def _request(first: int, count: int) -> None:
    """One UPDATE for all of them, and a hint to the daemon."""
    tasks = BackgroundTask.objects.filter(seqno__gte=first, seqno__lt=first + count)
    tasks.filter(name__contains=" ").update(requested_at=clock.db_now())
    wakeup.send()


def _wait_until_recorded(running: Running, count: int) -> tuple[float, int]:
    """When (seconds since the epoch) so many more outcomes were committed; in how many groups."""
    recorded, last, groups = 0, 0.0, 0

    def is_done() -> bool:
        nonlocal recorded, last, groups
        for note in running.notes.fresh():
            recorded, last, groups = recorded + note.number, note.wall, groups + 1
        return recorded >= count

    wait_until(is_done, PATIENCE, f"{count} recorded jobs")
    return last, groups
