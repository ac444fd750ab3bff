"""How long the live page takes: ``python -m benchmarks.livepage``, on the tests' site.

A thousand tasks, of which some run, fail or are late, and a month of jobs. Measured is the time
from the request to the whole answer inside the process, without a web server: once the page, and
what its script asks for every few seconds (``poll``: the parts that change often; ``poll, all``).
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from uuid import UUID

import django
from django.db import connection

from benchmarks.figures import Figure, Spread, load, ms, table

DATABASES = ("sqlite", "postgresql", "mariadb")
#: Milliseconds that the page may take, and how many statements.
TARGET, STATEMENTS = 500, 25
UNITS = ("secondly", "minutely", "hourly", "daily", "weekly", "monthly")
DAYS = 30


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure on each database; the exit code is 1 when one could not be measured."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.livepage", description=__doc__)
    parser.add_argument("--db", action="append", choices=DATABASES, help="default: all")
    parser.add_argument("--quick", action="store_true", help="few rows: to see that it works")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.here:
        print(table(list(measure(options.db[0], quick=options.quick))))
        return 0
    codes = [
        subprocess.run(
            [sys.executable, "-m", "benchmarks.livepage", "--here", f"--db={name}"]
            + ["--quick"] * options.quick,
            env=os.environ | {"DJANGO_SETTINGS_MODULE": "tests.settings", "LINOD_TEST_DB": name},
            check=False,
        ).returncode
        for name in options.db or DATABASES
    ]
    return int(any(codes))


def measure(database: str, *, quick: bool) -> Iterator[Figure]:
    """The figures of one database, which is made for them."""
    django.setup()
    former = connection.settings_dict["NAME"]
    connection.creation.create_test_db(verbosity=0, autoclobber=True, serialize=False)
    try:
        tasks, jobs = (60, 500) if quick else (1000, 100_000)
        fill(tasks, jobs)
        yield from _measure(database, tasks, jobs, rounds=3 if quick else 60)
    finally:
        connection.creation.destroy_test_db(former, verbosity=0)


def _measure(database: str, tasks: int, jobs: int, rounds: int) -> Iterator[Figure]:
    from django.contrib.auth.models import User
    from django.test import Client
    from django.test.utils import CaptureQueriesContext

    client = Client()
    client.force_login(User.objects.create_superuser("boss"))
    cases = {
        "page": "/linod/",
        "poll": "/linod/state/?only=strip-cards-tasks-log",
        "poll, all": "/linod/state/",
    }
    for name, address in cases.items():
        before = load()
        client.get(address)  # templates are read once
        with CaptureQueriesContext(connection) as statements:
            size = len(client.get(address).content)
            asked = len(statements)
        times = []
        for _ in range(rounds):
            began = time.perf_counter()
            assert client.get(address).status_code == 200
            times.append(time.perf_counter() - began)
        spread = Spread.of(times)
        is_page = name == "page"
        yield Figure(
            "livepage",
            database,
            {
                "tasks": f"{tasks:,}",
                "jobs": f"{jobs:,}",
                "case": name,
                "p50 ms": ms(spread.p50),
                "p99 ms": ms(spread.p99),
                "statements": str(asked),
                "kB": f"{size / 1000:.0f}",
            },
            {},
            before,
            f"the page in < {TARGET} ms with < {STATEMENTS} statements" if is_page else "",
            spread.p99 * 1000 < TARGET and asked < STATEMENTS,
        )


def fill(tasks: int, jobs: int) -> None:
    """Tasks of all kinds and a month of their jobs, most of which ran well."""
    from linod import clock
    from linod.history import Daemon, Job
    from linod.models import BackgroundTask
    from linod.procedures import declare

    chance, now = random.Random(1), clock.db_now()
    procedure = declare(lambda: None, "measured")
    BackgroundTask.objects.bulk_create(
        BackgroundTask(
            seqno=number,
            name=f"measured {number}",
            procedure=procedure,
            every_unit=UNITS[number % len(UNITS)],
            every=chance.randint(1, 30),
            start_date=now.date() - timedelta(days=60),
            start_time=now.time().replace(microsecond=0),
            next_run_at=now + timedelta(minutes=chance.randint(-5, 3000)),
            failures=int(number % 50 == 7),
            disabled=number % 20 == 11,
            disabled_reason="by boss" if number % 20 == 11 else "",
        )
        for number in range(tasks)
    )
    keys = list(BackgroundTask.objects.values_list("pk", flat=True))
    made = (_job(chance, keys, procedure, now, number, jobs) for number in range(jobs))
    Job.objects.bulk_create(made, batch_size=2000)
    for number, key in enumerate(keys[:10]):
        job = _job(chance, [key], procedure, now, jobs - number, jobs)
        job.state, job.end_time, job.active_task = Job.State.RUNNING, None, key
        job.due_at = job.start_time = now - timedelta(seconds=number, microseconds=1)
        job.lease_until = now + timedelta(hours=1)
        job.progress = {"done": number, "total": 10, "text": "rows"}
        job.save()
    Daemon.objects.create(
        owner=UUID(int=1), host="here", pid=1, version="1", started_at=now, last_seen_at=now,
        state=Daemon.State.RUNNING,
    )  # fmt: skip
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE" if connection.vendor != "mysql" else "ANALYZE TABLE linod_job")


def _job(
    chance: random.Random, keys: list[int], procedure: object, now: datetime, number: int, jobs: int
) -> object:
    from linod.history import Job
    from linod.recent import first_id

    start = now - timedelta(days=DAYS) * (1 - number / jobs) + timedelta(milliseconds=number % 997)
    failed = chance.random() < 0.01
    return Job(
        id=UUID(int=first_id(start).int | chance.getrandbits(60)),
        task_id=chance.choice(keys),
        procedure=procedure,
        due_at=start,
        trigger=Job.Trigger.SCHEDULE,
        state=Job.State.FAILED if failed else Job.State.SUCCEEDED,
        start_time=start,
        end_time=start + timedelta(seconds=chance.uniform(0.1, 400)),
        error="ValueError: measured" if failed else "",
        host="here",
    )


if __name__ == "__main__":
    sys.exit(main())
