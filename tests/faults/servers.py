"""Database servers of our own, on free ports and in temporary folders.

The shared ones are left alone. Ours keep their defaults: a commit waits for the disk, as it does on
a site.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

from tests.ports import free_port

PR_SET_PDEATHSIG = 1
#: Seconds that a server gets to come up.
PATIENCE = 60.0
DATABASE = "faults"
_libc = ctypes.CDLL(None)


def dies_with_parent(number: int = signal.SIGKILL) -> Callable[[], None]:
    """For ``preexec_fn``: the child gets this signal when the harness ends, however it does."""

    def ask() -> None:
        _libc.prctl(PR_SET_PDEATHSIG, number)

    return ask


class MissingError(Exception):
    """A program that an experiment needs is not installed."""


class Server:
    """A database that daemons use; this class is the part that all have in common."""

    kind: ClassVar[str]
    has_clock = True

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.name = DATABASE
        self.extra_env: dict[str, str] = {}

    def start(self) -> None:
        """Come up, and wait until it answers."""

    def stop(self) -> None:
        """End for good."""

    def crash(self) -> None:
        """End at once; what was committed is on the disk."""
        raise NotImplementedError

    def cut_connections(self) -> int:
        """End every connection but our own; returns how many."""
        raise NotImplementedError

    def environment(self, port: int | None = None) -> dict[str, str]:
        """What tells the site where its database is; ``port`` names a proxy before it."""
        return {
            "LINOD_FAULTS_DB": self.kind,
            "LINOD_FAULTS_NAME": self.name,
            "LINOD_FAULTS_PORT": str(port or self.port),
        }


class SQLite(Server):
    """A file."""

    kind = "sqlite"
    has_clock = False

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.name = str(folder / "site.sqlite3")


class Process(Server):
    """A server that is a process."""

    user: ClassVar[str]

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.data = folder / "data"
        self._popen: subprocess.Popen[bytes] | None = None

    @property
    def _as_user(self) -> dict[str, Any]:
        """Servers refuse to run as root."""
        if os.geteuid() != 0:
            return {}
        return {"user": self.user, "group": self.user, "extra_groups": []}

    def _own(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        if os.geteuid() == 0:
            shutil.chown(folder, self.user, self.user)

    def _run(self, command: Sequence[str]) -> None:
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=self.data, check=False, **self._as_user
        )
        if done.returncode != 0:
            raise RuntimeError(f"{command[0]}: {done.stdout[-1000:]}{done.stderr[-1000:]}")

    def _spawn(self, command: Sequence[str], orphaned: int) -> None:
        with (self.folder / "server.log").open("ab") as log:
            self._popen = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.data,
                env=os.environ | self.extra_env,
                preexec_fn=dies_with_parent(orphaned),  # noqa: PLW1509 - one call of prctl
                **self._as_user,
            )
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                self.connect("").close()
                return
            except Exception as error:
                if self._popen.poll() is not None or time.monotonic() > deadline:
                    said = (self.folder / "server.log").read_text(errors="replace")[-2000:]
                    raise RuntimeError(f"{self.kind} does not come up: {said}") from error
                time.sleep(0.02)

    def _end(self, number: int) -> None:
        if self._popen is not None and self._popen.poll() is None:
            self._popen.send_signal(number)
            self._popen.wait(PATIENCE)

    def connect(self, database: str) -> Any:
        """A connection of the driver, not Django's, in autocommit mode."""
        raise NotImplementedError

    def execute(self, *statements: str, database: str = DATABASE) -> list[tuple[Any, ...]]:
        """The rows of the last statement."""
        connection = self.connect(database)
        try:
            cursor = connection.cursor()
            for statement in statements:
                cursor.execute(statement)
            return list(cursor.fetchall()) if cursor.description else []
        finally:
            connection.close()


def _tool(name: str, *folders: str) -> str:
    path = os.pathsep.join([os.environ.get("PATH", ""), *folders])
    found = shutil.which(name, path=path)
    if found is None:
        raise MissingError(f"{name} is missing: install the server; what runs of it is not used")
    return found


class PostgreSQL(Process):
    """A cluster that initdb makes."""

    kind = "postgresql"
    user = "postgres"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=_version, reverse=True)
        self._initdb = _tool("initdb", *map(str, versions))
        self._postgres = str(Path(self._initdb).resolve().with_name("postgres"))

    def start(self) -> None:
        if not (self.data / "PG_VERSION").exists():
            self._own(self.data)
            self._run([self._initdb, "-D", str(self.data), "-U", "postgres", "-A", "trust",
                       "-E", "UTF8", "--no-instructions"])  # fmt: skip
            self._launch()
            self.execute(f"CREATE DATABASE {DATABASE}", database="postgres")
        else:
            self._launch()

    def _launch(self) -> None:
        command = [self._postgres, "-D", str(self.data), "-p", str(self.port), "-h", "127.0.0.1",
                   "-k", str(self.data)]  # fmt: skip
        self._spawn(command, signal.SIGQUIT)

    def stop(self) -> None:
        self._end(signal.SIGQUIT)

    crash = stop

    def connect(self, database: str) -> Any:
        import psycopg

        return psycopg.connect(
            host="127.0.0.1", port=self.port, user="postgres", dbname=database or "postgres",
            autocommit=True, connect_timeout=5,
        )  # fmt: skip

    def cut_connections(self) -> int:
        return len(
            self.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
            )
        )


def _version(folder: Path) -> tuple[int, ...]:
    return tuple(int(part) for part in folder.parent.name.split(".") if part.isdigit())


class MariaDB(Process):
    """A data folder that mariadb-install-db makes; ``options`` are mariadbd's own."""

    kind = "mariadb"
    user = "mysql"

    def __init__(self, folder: Path, *options: str) -> None:
        super().__init__(folder)
        # Whichever begins or ends in a common one removes what the others have there.
        self._temporary = folder / "tmp"
        self._options = (f"--tmpdir={self._temporary}", *options)
        self._install = _tool("mariadb-install-db", "/usr/bin")
        self._mariadbd = _tool("mariadbd", "/usr/sbin", "/usr/libexec")
        if find_spec("MySQLdb") is None:
            raise MissingError("MariaDB's driver is missing: pip install mysqlclient")

    def start(self) -> None:
        if not (self.data / "mysql").exists():
            self._own(self.data)
            self._own(self._temporary)
            user = [f"--user={self.user}"] if os.geteuid() == 0 else []
            self._run([self._install, "--no-defaults",
                       f"--datadir={self.data}", "--auth-root-authentication-method=normal",
                       "--skip-test-db", f"--tmpdir={self._temporary}", *user])  # fmt: skip
            self._launch()
            self.execute(f"CREATE DATABASE {DATABASE} CHARACTER SET utf8mb4", database="")
        else:
            self._launch()

    def _launch(self) -> None:
        command = [self._mariadbd, "--no-defaults",
                   f"--datadir={self.data}", f"--port={self.port}", "--bind-address=127.0.0.1",
                   f"--socket={self.data / 'sock'}", "--skip-name-resolve",
                   f"--pid-file={self.data / 'pid'}", *self._options]  # fmt: skip
        self._spawn(command, signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGKILL)

    crash = stop

    def connect(self, database: str) -> Any:
        import MySQLdb

        return MySQLdb.connect(
            host="127.0.0.1", port=self.port, user="root", db=database, autocommit=True,
            connect_timeout=5,
        )  # fmt: skip

    def cut_connections(self) -> int:
        import MySQLdb

        connection = self.connect(DATABASE)
        try:
            cursor = connection.cursor()
            cursor.execute(
                "SELECT id FROM information_schema.processlist"
                " WHERE id <> CONNECTION_ID() AND user = 'root'"
            )
            count = 0
            for (number,) in cursor.fetchall():
                try:
                    cursor.execute(f"KILL {number}")
                    count += 1
                except MySQLdb.OperationalError as error:
                    if error.args[0] != NO_SUCH_THREAD:
                        raise
            return count
        finally:
            connection.close()


#: MariaDB's error when a connection that is to be killed has ended by itself.
NO_SUCH_THREAD = 1094
SERVERS: Mapping[str, type[Server]] = {
    server.kind: server for server in (SQLite, PostgreSQL, MariaDB)
}
