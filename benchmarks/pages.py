"""How long the pages of a large site take: 10,000 tasks, 200,000 jobs.

A page is asked for inside the process, through all of Django: routing, middleware, permissions,
queries and templates; the network is left out. The site with the admin is a process of its own
(``python -m benchmarks.pages``), so that the other benchmarks measure daemons without it.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import django

from benchmarks.figures import Figure, load, ms

TASKS, JOBS = 10_000, 200_000
QUICK_TASKS, QUICK_JOBS = 200, 2_000
#: Seconds and queries within which each page is there.
LIMIT, QUERIES = 0.3, 12
TARGET = f"each page in less than {LIMIT * 1000:.0f} ms and {QUERIES} queries"
#: How often a page is asked for; the first time, which fills caches, does not count.
TIMES = 7
#: How many days the jobs are spread over, as the default of ``KEEP_JOBS_DAYS`` leaves them.
DAYS = 30

ADMIN = "/admin/linod/"
PAGES = {
    "task list": f"{ADMIN}backgroundtask/",
    "its last page": f"{ADMIN}backgroundtask/?p=last",
    "failing tasks": f"{ADMIN}backgroundtask/?condition=failing",
    "a task": f"{ADMIN}backgroundtask/task/change/",
    "job list": f"{ADMIN}job/",
    "its page 100": f"{ADMIN}job/?p=100",
    "jobs of a day": f"{ADMIN}job/?day=day",
    "failed jobs": f"{ADMIN}job/?state__exact=failed",
    "lost jobs (none)": f"{ADMIN}job/?state__exact=lost",
    "jobs of a task": f"{ADMIN}job/?task=task",
    "a job": f"{ADMIN}job/job/change/",
    "what is new": f"{ADMIN}job/job/live/",
    "ledger": f"{ADMIN}decision/",
}


def measure(run: Any) -> Iterator[Figure]:
    """The pages on the run's database, each a figure."""
    from benchmarks.daemon import environment

    began = load()
    env = environment(LINOD_BENCH_PAGES="1")
    command = [sys.executable, "-m", "benchmarks.pages", *(["--quick"] if run.quick else [])]
    done = subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True, check=True)
    for page, (seconds, queries, size) in json.loads(done.stdout).items():
        values = {
            "page": page,
            "ms": ms(statistics.median(seconds)),
            "slowest": ms(max(seconds)),
            "queries": str(queries),
            "KiB": str(size // 1024),
        }
        reached = statistics.median(seconds) < LIMIT and queries < QUERIES
        yield Figure("pages", run.database, values, {}, began, TARGET, reached)


def main() -> None:
    """Make the rows, ask for each page, say what it took, and take the rows away."""
    is_quick = "--quick" in sys.argv
    django.setup()
    from benchmarks import rows

    rows.clear()
    fill(QUICK_TASKS if is_quick else TASKS, QUICK_JOBS if is_quick else JOBS)
    try:
        json.dump(dict(timed(is_quick)), sys.stdout)
    finally:
        rows.clear()


def timed(is_quick: bool) -> Iterator[tuple[str, tuple[list[float], int, int]]]:
    """Each page: the seconds it took, its queries, its size."""
    from django.contrib.auth.models import User
    from django.db import connection
    from django.test import Client
    from django.test.utils import CaptureQueriesContext

    from linod.models import BackgroundTask, Job

    user, _made = User.objects.get_or_create(
        username="boss", defaults={"is_staff": True, "is_superuser": True}
    )
    client = Client()
    client.force_login(user)
    job = Job.objects.order_by("-id").first()
    assert job is not None
    names = {
        "=last": f"={-(-BackgroundTask.objects.count() // 50)}",
        "=task": f"={job.task_id}",
        "p=100": f"p={min(100, Job.objects.count() // 100)}",
        "=day": f"={job.due_at - timedelta(days=3):%Y-%m-%d}",
        "/task/": f"/{job.task_id}/",
        "/job/job/": f"/job/{job.pk}/",
    }
    for page, address in PAGES.items():
        for name, value in names.items():
            address = address.replace(name, value)  # noqa: PLW2901 - step by step
        with CaptureQueriesContext(connection) as seen:
            response = client.get(address)
            queries = len(seen)
        assert response.status_code == 200, f"{address}: {response.status_code}"
        seconds = []
        for _number in range(2 if is_quick else TIMES):
            began = time.perf_counter()
            client.get(address)
            seconds.append(time.perf_counter() - began)
        yield page, (seconds, queries, len(response.content))


def fill(tasks: int, jobs: int) -> None:
    """A site with that many tasks and jobs; every hundredth job failed, with a traceback."""
    from django.db import connection

    from benchmarks import rows
    from benchmarks.procedures import no_op
    from linod import clock
    from linod.models import BackgroundTask, Decision, Job, JobLog
    from linod.procedures import Procedures
    from linod.recent import first_id

    now = clock.db_now()
    day = now.date() - timedelta(days=400)
    rows.make(
        tasks, every_unit="daily", start_date=day, start_time=now.time().replace(microsecond=0),
        next_run_at=now + timedelta(hours=3), last_start_time=now, message="x" * 2000,
    )  # fmt: skip
    some = BackgroundTask.objects.order_by("seqno")
    some.filter(seqno__lt=tasks // 100).update(failures=1)
    # The first thousand have run: some often, some now and then.
    keys = list(some.values_list("pk", flat=True)[: tasks // 10])
    procedure, error = Procedures.find(no_op.__name__), "Traceback\n" + "  File x\n" * 40
    step = timedelta(days=DAYS) / jobs
    made = (
        Job(
            id=type(first_id(due))(int=first_id(due).int + n),
            task_id=keys[n % len(keys)],
            procedure=procedure,
            arguments={"number": n},
            due_at=due,
            start_time=due + timedelta(milliseconds=5),
            end_time=due + timedelta(milliseconds=900),
            state="failed" if n % 100 == 99 else "succeeded",
            trigger="schedule",
            error=error if n % 100 == 99 else "",
            host="web1",
        )
        for n in range(jobs)
        for due in [now - timedelta(days=DAYS) + n * step]
    )
    Job.objects.bulk_create(made, batch_size=2000)
    newest = Job.objects.order_by("-id").first()
    assert newest is not None
    JobLog.objects.create(job=newest, n=1, text="2026-11-22 05:00:00 INFO hello\n" * 500)
    Decision.objects.bulk_create(
        (
            Decision(
                task_id=keys[n % len(keys)],
                kind="edited",
                reason="every",
                who="x",
                at=now - 4 * n * step,
            )
            for n in range(jobs // 4)
        ),
        batch_size=2000,
    )
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE")  # as autovacuum does on a site within a minute


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.settings")
    main()
