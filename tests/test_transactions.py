"""The engine's transactions: write-locked at once, bounded, and only where they are ours."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from django.db import (
    DatabaseError,
    DataError,
    IntegrityError,
    InterfaceError,
    OperationalError,
    ProgrammingError,
    connection,
    connections,
    transaction,
)

from linod import transactions
from linod.history import Decision
from tests.readonly import read_only

pytestmark = pytest.mark.django_db(transaction=True)

BOUNDS = (
    "idle_in_transaction_session_timeout", "lock_timeout", "statement_timeout", "enable_seqscan",
)  # fmt: skip


def note(reason: str) -> None:
    Decision.objects.record("edited", reason=reason)


def look() -> None:
    """A first statement."""
    Decision.objects.first()


def reasons() -> list[str]:
    return list(Decision.objects.order_by("id").values_list("reason", flat=True))


def shown(names: tuple[str, ...]) -> list[str]:
    with connection.cursor() as cursor:
        found = []
        for name in names:
            cursor.execute(f"SHOW {name}")
            found.append(cursor.fetchone()[0])
        return found


def test_it_commits_at_its_end_and_rolls_back_on_an_error() -> None:
    with transactions.write("default"):
        note("kept")
    with pytest.raises(KeyboardInterrupt), transactions.write("default"):  # noqa: PT012
        note("dropped")
        raise KeyboardInterrupt
    assert reasons() == ["kept"]
    assert not connection.in_atomic_block


def by_itself() -> None:
    note("dropped")


def behind_a_savepoint() -> None:
    with transaction.atomic():
        note("dropped")


def many_at_once() -> None:
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO linod_decision (kind, reason, who, at) VALUES ('edited', %s, '', %s)",
            [("dropped", "2026-01-01 00:00:00"), ("dropped", "2026-01-01 00:00:00")],
        )


@pytest.mark.parametrize("travels", [True, False], ids=["together", "one by one"])
@pytest.mark.parametrize("first", [by_itself, behind_a_savepoint, many_at_once])
def test_whatever_comes_first_is_in_the_transaction(
    first: Callable[[], None], travels: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not travels:
        monkeypatch.setattr(transactions, "takes_many", lambda connection: False)
    with pytest.raises(KeyboardInterrupt), transactions.write("default"):  # noqa: PT012
        first()
        assert set(reasons()) == {"dropped"}
        raise KeyboardInterrupt
    assert reasons() == []
    with transactions.write("default"):
        first()
    assert set(reasons()) == {"dropped"}
    assert connection.get_autocommit()


def test_what_is_called_after_the_commit_may_write_in_transactions_of_its_own() -> None:
    def write_more() -> None:
        with transactions.write("default"):
            note("by the engine")
        with transaction.atomic():
            note("by the site")
        note("alone")

    with transactions.write("default"):
        note("first")
        transaction.on_commit(write_more)
    with transactions.write("default"):
        transaction.on_commit(write_more)  # of a transaction that said nothing
    connection.close()  # an open transaction would be gone with it
    more = ["by the engine", "by the site", "alone"]
    assert reasons() == ["first", *more, *more]


def test_what_a_column_refuses_is_no_passing_error() -> None:
    with transactions.write("default") as mine:
        mine.cursor().execute("CREATE TABLE refusing (n INTEGER CHECK (n > 0))")
    try:
        with pytest.raises(IntegrityError), transactions.write("default") as mine:
            mine.cursor().execute("INSERT INTO refusing VALUES (0)")
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP TABLE refusing")


def test_a_first_statement_that_fails_leaves_no_transaction_open() -> None:
    with pytest.raises(DatabaseError), transactions.write("default") as mine:
        mine.cursor().execute("SELECT nothing FROM nowhere")
    with transactions.write("default"):
        pass  # nothing to send, so nothing begins
    note("kept")
    connection.close()  # an open transaction would be gone with it
    assert reasons() == ["kept"]


def test_inside_another_transaction_it_is_a_part_of_it() -> None:
    def inner() -> None:
        with transactions.write("default"):
            note("inner")
            raise ValueError("inner")

    with pytest.raises(RuntimeError, match="outer"), transaction.atomic():  # noqa: PT012
        note("outer")
        with pytest.raises(ValueError, match="inner"):
            inner()
        assert reasons() == ["outer"]
        with transactions.write("default"):
            note("second")
        raise RuntimeError("outer")
    assert reasons() == []


def test_on_commit_waits_for_the_commit() -> None:
    heard: list[int] = []
    with transactions.write("default"):
        transaction.on_commit(lambda: heard.append(1))
        assert heard == []
    assert heard == [1]


if connection.vendor == "sqlite":

    def test_sqlite_locks_from_the_first_statement_and_leaves_the_settings_alone() -> None:
        wrapper: Any = connection
        before = vars(wrapper).copy()
        refused: list[OperationalError] = []

        def other() -> None:
            mine: Any = connections["default"]
            mine.ensure_connection()
            mine.connection.execute("PRAGMA busy_timeout = 0")
            try:
                with transactions.write("default"):
                    look()
            except OperationalError as error:
                refused.append(error)
            finally:
                mine.close()

        with transactions.write("default"):
            thread = threading.Thread(target=other)
            look()
            thread.start()
            thread.join(20)
        assert len(refused) == 1
        assert transactions.is_passing(refused[0])
        assert vars(wrapper).keys() == before.keys()

    def test_sqlite_waits_for_the_lock_as_long_as_the_site_does() -> None:
        wrapper: Any = connection
        wrapper.ensure_connection()
        before = wrapper.connection.execute("PRAGMA busy_timeout").fetchone()
        held, waits = threading.Event(), threading.Event()

        def hold() -> None:
            with transactions.write("default"):
                look()
                held.set()
                waits.wait(20)
            connections["default"].close()

        thread = threading.Thread(target=hold)
        thread.start()
        assert held.wait(20)
        # Far longer than it takes to look.
        threading.Timer(10 * max(transactions.LOOKING), waits.set).start()
        with transactions.write("default"):
            assert not waits.is_set()  # nobody waits yet
            note("written")
            assert waits.is_set()
        thread.join(20)
        assert reasons() == ["written"]
        assert wrapper.connection.execute("PRAGMA busy_timeout").fetchone() == before

    def test_who_waits_for_sqlite_s_lock_does_not_hold_up_a_garbage_collection() -> None:
        """Which may come in the very thread that has the lock."""
        waits, thread = threading.Event(), threading.Thread()

        def wait() -> None:
            mine: Any = connection
            mine.ensure_connection()
            garbage: list[Any] = [mine.connection.execute("SELECT 1 UNION SELECT 2")]
            garbage.append(garbage)
            del garbage
            # The last thing before it looks for the lock.
            mine.connection.set_trace_callback(lambda sql: waits.set())
            with transactions.locked("default"):
                note("written")
            mine.close()

        # The collection looks at what is new: not at all that the process has imported.
        gc.freeze()
        gc.disable()
        try:
            with transactions.write("default"):
                look()
                thread = threading.Thread(target=wait)
                thread.start()
                assert waits.wait(20)
                waits.clear()
                assert waits.wait(20)
                began = time.monotonic()
                gc.collect()
                took = time.monotonic() - began
        finally:
            gc.enable()
            gc.unfreeze()
        thread.join(20)
        assert took < 2
        assert reasons() == ["written"]


if connection.vendor == "postgresql":

    def test_postgresql_bounds_are_the_transaction_s() -> None:
        before, behind = shown(BOUNDS), list[list[str]]()

        def look_behind() -> None:
            with transaction.atomic():
                behind.append(shown(BOUNDS))

        with transactions.write("default"):
            assert shown(BOUNDS) == ["1s", "1s", "5s", "off"]
        assert shown(BOUNDS) == before
        with transactions.write("default"):
            transaction.on_commit(look_behind)
        assert behind == [before]
        with transaction.atomic():
            with transactions.write("default"):
                assert shown(BOUNDS) == before
            assert shown(BOUNDS) == before  # a caller's own transaction is not bounded

    def test_a_session_that_postgresql_ended_for_its_silence_is_made_again() -> None:
        def stand_still() -> None:
            with transactions.write("default") as mine, mine.cursor() as cursor:
                cursor.execute("SET LOCAL idle_in_transaction_session_timeout = 1")
                threading.Event().wait(0.2)
                cursor.execute("SELECT 1")

        with pytest.raises(DatabaseError) as ended:
            stand_still()
        connection.close()
        assert transactions.is_passing(ended.value)


if connection.vendor == "mysql":

    def test_mariadb_bounds_are_the_engine_s_sessions() -> None:
        def bounds() -> tuple[Any, ...]:
            with connection.cursor() as cursor:
                names = "idle_transaction_timeout innodb_lock_wait_timeout max_statement_time"
                cursor.execute("SELECT " + ", ".join(f"@@{name}" for name in names.split()))
                return tuple(cursor.fetchone())

        before = bounds()
        with transactions.write("default"):
            assert bounds() == before
        transactions.bound_session("default")
        assert bounds() == (1, 1, 5)
        connection.close()
        assert bounds() == before
        transactions.bound_session("default")
        assert bounds() == (1, 1, 5)
        connection.close()


def test_a_database_that_takes_no_writes_may_take_them_later() -> None:
    with (
        read_only(),
        pytest.raises(DatabaseError) as refused,
        transactions.write("default"),
    ):
        note("dropped")
    assert transactions.refuses_writes(refused.value)
    assert transactions.is_passing(refused.value)


def test_what_else_a_server_says_that_takes_no_writes() -> None:
    read_only = "The MariaDB server is running with the --read-only option"
    assert transactions.refuses_writes(OperationalError(1290, read_only))
    assert not transactions.refuses_writes(OperationalError(1205, "Lock wait timeout exceeded"))
    assert not transactions.refuses_writes(OperationalError("database is locked"))
    assert not transactions.refuses_writes(ValueError(1290))


def test_the_first_line_says_something() -> None:
    error = DatabaseError("permission denied\nLINE 1: SELECT")
    assert transactions.first_line(error) == "permission denied"
    assert transactions.first_line(InterfaceError()) == "InterfaceError"


def test_what_may_pass_by_itself() -> None:
    assert transactions.is_passing(OperationalError("database is locked"))
    assert transactions.is_passing(InterfaceError("connection already closed"))
    assert transactions.is_passing(ProgrammingError(2014, "Commands out of sync"))
    assert not transactions.is_passing(ProgrammingError(1064, "error in your SQL syntax"))
    assert not transactions.is_passing(IntegrityError("duplicate key"))
    assert not transactions.is_passing(DataError("too long"))
    assert not transactions.is_passing(ValueError("deadlock"))
