"""SQLite's write lock in the hands of a process that a signal has stopped."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
from django.db import OperationalError, connection, connections
from django.test import override_settings

from linod import bridge, wakeup, writelock
from linod.bridge import Bridge
from tests.daemons import empty_site, running_daemon
from tests.waiting import DEADLINE, wait_until

pytestmark = pytest.mark.skipif(not writelock.LOCKS.exists(), reason="Linux only: /proc/locks")

#: Does what its arguments say, is stopped by a signal, and commits once it goes on.
WRITER = """
import os, signal, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
for statement in sys.argv[2:]:
    connection.execute(statement)
os.kill(os.getpid(), signal.SIGSTOP)
connection.execute("COMMIT")
"""
WRITE = "INSERT INTO line VALUES ('written')"


@pytest.fixture(params=["delete", "wal"])
def database(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A database for itself, known to Django by the alias ``apart``, and an empty RUN_DIR."""
    # Not pytest's tmp_path: a socket's path must be short.
    with tempfile.TemporaryDirectory(prefix="linod") as folder:
        path = Path(folder) / "site (1).sqlite3"
        with closing(sqlite3.connect(path)) as made:
            made.execute(f"PRAGMA journal_mode = {request.param}")
            made.execute("CREATE TABLE line (text)")
            # In WAL mode the last one to close it would remove the lock's file.
            values = {"ENGINE": "django.db.backends.sqlite3", "NAME": path}
            monkeypatch.setitem(
                connections.settings, "apart", {**connections.settings["default"], **values}
            )
            (Path(folder) / "run").mkdir()
            with override_settings(LINOD={"RUN_DIR": f"{folder}/run"}):
                yield path
            with suppress(AttributeError):  # nobody asked for it
                del connections["apart"]


@contextmanager
def stopped_writer(
    database: Path, *statements: str, begin: str = "BEGIN IMMEDIATE"
) -> Iterator[subprocess.Popen]:
    with subprocess.Popen([sys.executable, "-c", WRITER, database, begin, *statements]) as writer:
        try:
            wait_until(lambda: writelock.is_stopped(writer.pid), "it is stopped")
            yield writer
        finally:
            writer.kill()


def present(pid: int) -> None:
    """Let a process look like a daemon of this site."""
    (wakeup.run_dir() / f"{pid}-{'0' * 32}.sock").touch()


def lines(database: Path) -> list[str]:
    with closing(sqlite3.connect(database, timeout=20)) as reader:
        return [text for (text,) in reader.execute("SELECT text FROM line")]


@pytest.mark.parametrize("begin", ["BEGIN IMMEDIATE", "BEGIN EXCLUSIVE"])
def test_a_daemon_that_is_stopped_with_the_lock_goes_on(
    database: Path, begin: str, caplog: pytest.LogCaptureFixture
) -> None:
    with stopped_writer(database, WRITE, begin=begin) as writer:
        assert writelock.holders(database) == {writer.pid}
        present(writer.pid)
        writelock.release("apart")
        assert writer.wait(20) == 0
        assert f"process id {writer.pid} was stopped" in caplog.text
    assert lines(database) == ["written"]
    assert not writelock.holders(database)


def test_who_is_no_daemon_of_this_site_stays_stopped(database: Path) -> None:
    with stopped_writer(database, WRITE) as writer:
        present(os.getpid())
        writelock.release("apart")
        assert writelock.is_stopped(writer.pid)
    assert lines(database) == []


def test_who_is_stopped_without_the_lock_stays_stopped(database: Path) -> None:
    other = database.with_name("other.sqlite3")
    with closing(sqlite3.connect(other)) as made:
        made.execute("CREATE TABLE line (text)")
    with stopped_writer(other) as writer:
        present(writer.pid)
        writelock.release("apart")
        assert writelock.is_stopped(writer.pid)
        assert not writelock.holders(database)


def test_who_reads_keeps_others_from_committing_unless_there_is_a_log(database: Path) -> None:
    with closing(sqlite3.connect(database, isolation_level=None)) as reader:
        (mode,) = reader.execute("PRAGMA journal_mode").fetchone()
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM line").fetchall()
        assert writelock.holders(database) == (set() if mode == "wal" else {os.getpid()})
        reader.execute("COMMIT")
        assert not writelock.holders(database)


def test_who_may_not_be_told_is_named(
    database: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(pid: int, number: int) -> None:
        assert number == signal.SIGCONT
        raise PermissionError("not yours")

    with stopped_writer(database) as writer:
        present(writer.pid)
        with monkeypatch.context() as patched:
            patched.setattr(os, "kill", refuse)
            writelock.release("apart")
        assert f"Process {writer.pid} was stopped with a lock of SQLite's: not yours" in caplog.text


def test_where_linux_does_not_tell_nothing_happens(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with stopped_writer(database) as writer:
        present(writer.pid)
        monkeypatch.setattr(writelock, "LOCKS", Path("/nowhere"))
        writelock.release("apart")
        assert writelock.is_stopped(writer.pid)


def test_names_that_tell_no_process_id_are_passed_by() -> None:
    with (
        tempfile.TemporaryDirectory(prefix="linod") as folder,
        override_settings(LINOD={"RUN_DIR": folder}),
    ):
        for name in ("12-a.sock", "b.sock", "-3-c.sock", "x4-d.sock", "56-e.txt"):
            (Path(folder) / name).touch()
        assert wakeup.neighbours() == {12}


def test_a_link_to_the_database_is_the_database(database: Path) -> None:
    link = database.with_name("link.sqlite3")
    link.symlink_to(database)
    with closing(sqlite3.connect(link, isolation_level=None)) as idle:
        idle.execute("SELECT * FROM line").fetchall()
        assert not writelock.holders(link)
        idle.execute("BEGIN IMMEDIATE")
        assert writelock.holders(link) == writelock.holders(database) == {os.getpid()}
        idle.execute("COMMIT")


def test_a_process_may_have_any_name(tmp_path: Path) -> None:
    named = tmp_path / "ö) T öööööööööö"
    named.symlink_to("/bin/sleep")
    with subprocess.Popen([named, "60"]) as sleeper:
        try:
            sleeper.send_signal(signal.SIGSTOP)
            wait_until(lambda: writelock.is_stopped(sleeper.pid), "it is stopped")
            sleeper.send_signal(signal.SIGCONT)
            wait_until(lambda: not writelock.is_stopped(sleeper.pid), "it goes on")
        finally:
            sleeper.kill()


@pytest.mark.django_db(transaction=True)
def test_what_takes_long_is_told_again_and_again_and_what_does_not_never(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR, "asyncio")
    told: list[int] = []
    enough = threading.Event()

    def held_up() -> None:
        told.append(len(told))
        if len(told) == 3:
            enough.set()

    async def main() -> None:
        one = Bridge("default", held_up=held_up)
        monkeypatch.setattr(bridge, "LONG", 0.05)
        await one.call(int)
        await pass_time(one)
        assert told == []
        monkeypatch.setattr(bridge, "LONG", 0.001)
        assert await one.call(enough.wait, 20)
        so_far = list(told)
        await pass_time(one)
        assert told == so_far
        one.close()

    async def pass_time(one: Bridge) -> None:
        """So long that a timer which nobody stopped would have come."""
        monkeypatch.setattr(bridge, "LONG", 3600.0)
        assert await one.call(threading.Event().wait, 0.2) is False

    asyncio.run(main())
    assert told[:3] == [0, 1, 2]
    assert not caplog.records


@pytest.mark.django_db(transaction=True)
def test_what_fails_before_it_takes_long_is_told_as_well() -> None:
    """SQLite's ``timeout`` may be short."""
    told: list[bool] = []

    def fail_once() -> str:
        if not told:
            raise OperationalError("database is locked")
        return "done"

    async def main() -> str:
        one = Bridge("default", held_up=lambda: told.append(True))
        try:
            return await one.insist(fail_once)
        finally:
            one.close()

    assert asyncio.run(main()) == "done"
    assert told == [True]


@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif(connection.vendor != "sqlite", reason="SQLite only")
def test_a_daemon_with_nothing_to_do_releases_it_as_well() -> None:
    """It is the heart's beat that waits: without one the daemon would not trust itself any more."""
    path = Path(connection.settings_dict["NAME"])
    with empty_site(LEASE=1.5, BACKGROUND_SLEEP_TIME=3600.0), running_daemon() as (thread,):
        with stopped_writer(path) as writer:
            present(writer.pid)
            assert writer.wait(DEADLINE) == 0
        wait_until(lambda: thread.daemon.heart.is_trusted, "the heart beats again")
