"""``python -m benchmarks``: every benchmark on every database, as a table."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from benchmarks.figures import Figure

DATABASES = ("sqlite", "sqlite-wal", "postgresql", "mariadb")
BENCHMARKS = ("lateness", "requested", "start", "idle")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("--db", action="append", choices=(*DATABASES, "all"))
    parser.add_argument("--only", action="append", choices=BENCHMARKS, metavar="NAME")
    parser.add_argument("--quick", action="store_true", help="smaller and shorter")
    parser.add_argument("--profile", type=Path, metavar="FOLDER", help="also profile the daemon")
    options = parser.parse_args()
    chosen = options.db or ["all"]
    if options.profile:
        options.profile.mkdir(parents=True, exist_ok=True)
    arguments = list(options.only or BENCHMARKS)
    arguments += ["--quick"] * options.quick
    arguments += ["--profiles", str(options.profile.resolve())] if options.profile else []
    failed = [
        database
        for database in (DATABASES if "all" in chosen else chosen)
        if not measured(database, arguments)
    ]
    return 1 if failed else 0


def measured(database: str, arguments: Iterable[str]) -> bool:
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
                if "figure" in message:
                    print(Figure(**message["figure"]).text, flush=True)
                else:
                    print(message["conditions"], flush=True)
    return process.returncode == 0


if __name__ == "__main__":
    sys.exit(main())
