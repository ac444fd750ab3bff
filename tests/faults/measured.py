"""The file of what was measured; ``docs/reliability.rst`` shows it."""

from __future__ import annotations

import csv
import platform
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from tests.faults.world import Finding

FILE = Path(__file__).parents[2] / "docs" / "measured" / "reliability.csv"
COLUMNS = ("date", "promise", "database", "measured", "held", "seed", "versions")


def append(promise: str, database: str, findings: Sequence[Finding], seed: int) -> None:
    """Add a line about one promise on one database, at full size."""
    is_new = not FILE.exists()
    FILE.parent.mkdir(parents=True, exist_ok=True)
    with FILE.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        if is_new:
            writer.writerow(COLUMNS)
        broken = [finding.what for finding in findings if not finding.held]
        writer.writerow(
            (
                datetime.now(UTC).date(), promise, database,
                "; ".join(f"{finding.what}: {finding.value}" for finding in findings),
                f"no: {', '.join(broken)}" if broken else "yes", seed, versions(),
            )
        )  # fmt: skip


def versions() -> str:
    """Of everything that takes part."""
    import django
    from django.db import connection

    import linod

    match connection.vendor:
        case "sqlite":
            import sqlite3

            database = f"SQLite {sqlite3.sqlite_version}"
        case "postgresql":
            number = connection.pg_version
            database = f"PostgreSQL {number // 10000}.{number % 10000}"
        case _:
            database = "MariaDB " + ".".join(map(str, connection.mysql_version))
    python = platform.python_version()
    return f"linod {linod.__version__}, {database}, Django {django.__version__}, Python {python}"


def is_supported() -> bool:
    """Whether this machine has what the harness stands on."""
    return sys.platform == "linux"
