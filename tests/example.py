"""The sites of ``example_project`` as processes; each has a folder and a database of its own.

The example has settings of its own, so nothing of it runs inside the tests' process.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.db import OperationalError
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.utils import ConnectionHandler

from tests import settings

EXAMPLE = Path(__file__).parents[1] / "example_project"
REQUIRE_SERVICES = os.environ.get("LINOD_REQUIRE_SERVICES") == "1"
PATIENCE = 3  # seconds that a server gets to answer
#: Seconds that a daemon gets to end: GRACE and what follows it.
STOP_LIMIT = 90
#: What the tests' own process has in its environment and a site must not find.
FOREIGN = (
    "DJANGO_SETTINGS_MODULE",
    "EMAIL_HOST",
    "EMAIL_PORT",
    "LINOD_EXAMPLE_DB",
    "LINOD_EXAMPLE_DB_NAME",
    "MAILDIR",
)


class Process:
    """A running command, with all it says in a file."""

    def __init__(self, command: list[str], env: dict[str, str], log: Path) -> None:
        self.log = log
        with log.open("wb") as output:
            self.popen = subprocess.Popen(
                command,
                cwd=EXAMPLE,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def output(self) -> str:
        return self.log.read_text("utf-8", "replace")

    def wait_until(self, condition: Callable[[], object], seconds: float, what: str) -> None:
        """Wait until the condition holds while the process runs, so many seconds at most."""
        deadline = time.monotonic() + seconds
        while not condition():
            with suppress(subprocess.TimeoutExpired):
                code = self.popen.wait(timeout=0.1)
                if not condition():
                    pytest.fail(f"It ended with {code} before {what}:\n{self.output}")
            if time.monotonic() > deadline:
                pytest.fail(f"Not within {seconds} seconds: {what}\n{self.output}")

    def end(self, number: int) -> int:
        """Send a signal and wait for the end; returns the exit code."""
        self.popen.send_signal(number)
        return self.wait(STOP_LIMIT)

    def wait(self, seconds: float) -> int:
        """Wait for the end; returns the exit code."""
        try:
            return self.popen.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            pytest.fail(f"It did not end within {seconds} seconds:\n{self.output}")


class Site:
    """A site with a folder and a database of its own."""

    def __init__(
        self, name: str, folder: Path, database: BaseDatabaseWrapper, env: dict[str, str]
    ) -> None:
        self.folder = folder
        self.database = database
        self.env = env | {
            "DJANGO_SETTINGS_MODULE": f"{name}.settings",
            "LINOD_EXAMPLE_VAR": str(folder),
            "PYTHONUNBUFFERED": "1",
        }
        self.processes: list[Process] = []

    def manage(self, *arguments: str, seconds: float = 120) -> str:
        """Run a management command to its end; returns what it prints."""
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=EXAMPLE,
            env=self.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        if done.returncode:
            pytest.fail(f"{arguments} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout

    def python(self, code: str) -> str:
        """Run code on the site, with linod's names at hand; returns what it prints."""
        return self.manage("shell", "--verbosity=0", "-c", f"from linod import *\n{code}")

    def start(self, *command: str) -> Process:
        """Start a script of the example; it is killed at the end of the test at the latest."""
        return self.launch(sys.executable, *command)

    def launch(self, *command: str) -> Process:
        """Start any command in the example's folder, as :meth:`start` does."""
        log = self.folder / f"process{len(self.processes)}.log"
        process = Process(list(command), self.env, log)
        self.processes.append(process)
        return process

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """The rows that a statement finds in the site's database."""
        with self.database.cursor() as cursor:
            cursor.execute(sql)
            return list(cursor.fetchall())

    def number(self, sql: str) -> int:
        """The one number that a statement finds."""
        return int(self.rows(sql)[0][0])

    def left_over(self) -> list[int]:
        """The processes that live and have this site's folder in their environment."""
        mark = f"LINOD_EXAMPLE_VAR={self.folder}\0".encode()
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if mark in (process / "environ").read_bytes():
                    found.append(int(process.name))
        return found


@contextmanager
def new_site(
    name: str, folder: Path, blocker: Any, kind: str = "sqlite", **variables: str
) -> Iterator[Site]:
    """A site without tables yet; ``blocker`` is pytest-django's, as databases are opened here.

    A server that is absent skips the test, or fails it with LINOD_REQUIRE_SERVICES=1.
    """
    var = folder / "var"
    var.mkdir()
    env = {name: value for name, value in os.environ.items() if name not in FOREIGN}
    database_name = str(var / "db.sqlite3") if kind == "sqlite" else f"linod_{uuid4().hex[:16]}"
    env |= {"LINOD_EXAMPLE_DB": kind, "LINOD_EXAMPLE_DB_NAME": database_name, **variables}
    with blocker.unblock(), new_database(kind, database_name) as database:
        site = Site(name, var, database, env)
        try:
            yield site
        finally:
            for process in site.processes:
                if process.popen.poll() is None:
                    os.killpg(process.popen.pid, signal.SIGKILL)  # with all that it started
                    process.popen.wait()


@contextmanager
def new_database(kind: str, name: str) -> Iterator[BaseDatabaseWrapper]:
    """An empty database of that name, dropped in the end; SQLite makes its file when it is used."""
    described = settings.database(kind) | {"NAME": name}
    if described["ENGINE"].endswith("dummy"):
        absent(f"{kind}: its driver is missing")
    if kind == "mariadb":
        # Standard SQL here as elsewhere: "procedure" in quotes is a column.
        mode = "SET SESSION sql_mode = CONCAT(@@sql_mode, ',ANSI_QUOTES')"
        described["OPTIONS"] = {"init_command": mode, "connect_timeout": PATIENCE}
    elif kind == "postgresql":
        described["OPTIONS"] = {"connect_timeout": PATIENCE}
    database = ConnectionHandler({"default": described})["default"]
    if kind == "sqlite":
        try:
            yield database
        finally:
            database.close()
        return
    quoted = database.ops.quote_name(name)
    if reason := silence(database):
        absent(f"{kind} does not answer: {reason}")
    with database._nodb_cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {quoted}")
    try:
        yield database
    finally:
        database.close()
        with database._nodb_cursor() as cursor:
            force = " WITH (FORCE)" if kind == "postgresql" else ""
            cursor.execute(f"DROP DATABASE {quoted}{force}")


def silence(database: BaseDatabaseWrapper) -> str:
    """Why the database's server cannot be used; nothing when it can."""
    probe = database.copy()
    probe.settings_dict |= {"NAME": None}
    try:
        with probe.wrap_database_errors:
            probe.get_new_connection(probe.get_connection_params()).close()
    except OperationalError as error:
        return " ".join(str(error).split())
    return ""


def absent(reason: str) -> None:
    """Skip the test, or fail it where every server must be there."""
    if REQUIRE_SERVICES:
        pytest.fail(f"LINOD_REQUIRE_SERVICES=1, but {reason}")
    pytest.skip(reason)
