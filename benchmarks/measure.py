"""One run on one database that is made for it: ``python -m benchmarks`` starts this for each.

Writes each figure to its standard output, as a line of JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import warnings
from dataclasses import asdict
from importlib import import_module
from pathlib import Path

import django
from django.core.exceptions import ImproperlyConfigured
from django.db import OperationalError, connection

from benchmarks.run import Run


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="+")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--profiles", type=Path)
    options = parser.parse_args()
    # What was begun is cleaned up, whichever way the run is stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    refuse_absent_database()
    run = Run(os.environ["LINOD_BENCH_DB"], options.quick, options.profiles)
    former = connection.settings_dict["NAME"]
    connection.creation.create_test_db(verbosity=0, autoclobber=True, serialize=False)
    try:
        say(conditions=conditions())
        for name in options.names:
            for figure in import_module(f"benchmarks.{name}").measure(run):
                say(figure=asdict(figure))
    finally:
        connection.creation.destroy_test_db(former, verbosity=0)


def refuse_absent_database() -> None:
    """End with one line when the driver is missing or the server does not answer."""
    name = os.environ["LINOD_BENCH_DB"]
    try:
        django.setup()
        if connection.vendor != "sqlite":  # a file answers always
            with warnings.catch_warnings(action="ignore"), connection._nodb_cursor():
                pass
    except (ImproperlyConfigured, OperationalError) as error:
        sys.exit(f"{name} cannot be measured: {' '.join(str(error).split())}")


def say(**message: object) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


#: What decides how long a commit takes, by vendor.
DURABILITY = {
    "sqlite": ("journal_mode", "synchronous"),
    "postgresql": ("fsync", "synchronous_commit"),
    "mysql": ("innodb_flush_log_at_trx_commit", "sync_binlog"),
}
ASK = {"sqlite": "PRAGMA {}", "postgresql": "SHOW {}", "mysql": "SELECT @@{}"}


def conditions() -> str:
    """The database's version and how durable its commits are."""
    version = ".".join(map(str, connection.get_database_version()))
    with connection.cursor() as cursor:
        settings = []
        for name in DURABILITY[connection.vendor]:
            cursor.execute(ASK[connection.vendor].format(name))
            settings.append(f"{name}={cursor.fetchone()[0]}")
    return f"{connection.display_name} {version} ({', '.join(settings)})"


if __name__ == "__main__":
    main()
