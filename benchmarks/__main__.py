"""``python -m benchmarks``: every benchmark on every database, as tables."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks import machine, report
from benchmarks.figures import Figure, table

DATABASES = ("sqlite", "sqlite-wal", "postgresql", "mariadb")
BENCHMARKS = tuple(report.TITLES)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; the exit code is 1 when a measurement failed."""
    options = parser().parse_args(arguments)
    databases = options.db or ["all"]
    for_each = list(options.only or BENCHMARKS)
    for_each += ["--quick"] * options.quick
    if options.profile:
        options.profile.mkdir(parents=True, exist_ok=True)
        for_each += ["--profiles", str(options.profile.resolve())]
    figures: list[Figure] = []
    conditions = [machine.conditions()]
    failed = [
        database
        for database in (DATABASES if "all" in databases else databases)
        if not measured(database, for_each, figures, conditions)
    ]
    if figures:
        whole = report.text(figures, conditions)
        print(f"\n{whole}")
        if options.write:
            report.write(options.write, whole)
    for database in failed:
        print(f"\n{database}: not measured to the end", file=sys.stderr)
    return 1 if failed else 0


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure linod's daemon beside the limits of this machine.",
    )
    add = found.add_argument
    add("--db", action="append", choices=(*DATABASES, "all"), help="default: all; repeatable")
    add("--only", action="append", choices=BENCHMARKS, help="leave out the others; repeatable")
    add("--quick", action="store_true", help="smaller and shorter: to see that it works")
    add("--profile", type=Path, metavar="FOLDER", help="profile the daemon, one file for each case")
    add("--write", type=Path, metavar="FILE", help="put the figures into docs/benchmarks.rst")
    return found


def measured(
    database: str, arguments: Sequence[str], figures: list[Figure], conditions: list[str]
) -> bool:
    """Measure on one database, in a process of its own; False when that failed."""
    with tempfile.TemporaryDirectory(prefix="linod-bench-") as folder:
        env = os.environ | {
            "DJANGO_SETTINGS_MODULE": "benchmarks.settings",
            "LINOD_BENCH_DB": database,
            "LINOD_BENCH_FOLDER": folder,
        }
        command = [sys.executable, "-m", "benchmarks.measure", *arguments]
        with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                message = json.loads(line)
                if "conditions" in message:
                    conditions.append(f"{database}: {message['conditions']}")
                    continue
                figures.append(Figure(**message["figure"]))
                print(f"\n{figures[-1].benchmark}\n{table(figures[-1:])}", flush=True)
    return process.returncode == 0


if __name__ == "__main__":
    sys.exit(main())
