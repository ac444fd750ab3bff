"""What a daemon costs that has nothing to do: CPU, statements, memory, by the number of tasks."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from benchmarks import rows
from benchmarks.daemon import bare_django, daemon
from benchmarks.figures import Figure, load
from benchmarks.run import Run

#: Seconds after the start that do not count: the first polls and heartbeats.
WARM_UP = 12
#: What a minute may cost, and how much more memory than Django alone.
CPU_SECONDS, STATEMENTS, MEGABYTES = 0.1, 20, 15


def measure(run: Run) -> Iterator[Figure]:
    """10, 1,000 and 100,000 tasks that are due in a year."""
    for count in (1000,) if run.quick else (10, 1000, 100_000):
        run.settle()
        yield _measure(run, count, seconds=3 if run.quick else 60)


def _measure(run: Run, count: int, seconds: int) -> Figure:
    before = load()
    rows.clear()
    rows.make(count, every_unit="yearly", next_run_at=datetime.now(UTC) + timedelta(days=365))
    with bare_django(with_linod=False) as django, bare_django(with_linod=True) as site:
        bare, installed = django.megabytes, site.megabytes
    with daemon(run.profile_of(f"idle-{count}"), count=True) as running:
        time.sleep(2 if run.quick else WARM_UP)
        cpu, statements, began = running.cpu_seconds, running.statements, time.monotonic()
        time.sleep(seconds)
        minutes = (time.monotonic() - began) / 60
        cpu = (running.cpu_seconds - cpu) / minutes
        asked = (running.statements - statements) / minutes
        megabytes = running.megabytes
    more = megabytes - bare
    return Figure(
        "idle",
        run.database,
        {
            "tasks": f"{count:,}",
            "CPU s/min": f"{cpu:.3f}",
            "statements/min": f"{asked:.1f}",
            "MB": f"{megabytes:.1f}",
            "more than Django": f"+{more:.1f}",
        },
        {"Django MB": f"{bare:.1f}", "with linod MB": f"{installed:.1f}"},
        before,
        f"<= {CPU_SECONDS} CPU s and < {STATEMENTS} statements a minute, + {MEGABYTES} MB",
        cpu <= CPU_SECONDS and asked < STATEMENTS and more <= MEGABYTES,
    )
