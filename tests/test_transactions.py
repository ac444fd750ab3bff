"""The engine's transactions: write-locked from the start, bounded, and only where they are ours."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from django.db import (
    DataError,
    IntegrityError,
    InterfaceError,
    OperationalError,
    connection,
    connections,
    transaction,
)

from linod import transactions
from linod.history import Decision

pytestmark = pytest.mark.django_db(transaction=True)

BOUNDS = ("idle_in_transaction_session_timeout", "lock_timeout", "statement_timeout")


def note(reason: str) -> None:
    Decision.objects.record("edited", reason=reason)


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

    def test_sqlite_locks_from_the_first_moment_and_leaves_the_settings_alone() -> None:
        wrapper: Any = connection
        before = wrapper.transaction_mode
        refused: list[OperationalError] = []

        def other() -> None:
            mine: Any = connections["default"]
            mine.ensure_connection()
            mine.connection.execute("PRAGMA busy_timeout = 0")
            try:
                with transactions.write("default"):
                    pass
            except OperationalError as error:
                refused.append(error)
            finally:
                mine.close()

        with transactions.write("default"):
            thread = threading.Thread(target=other)
            thread.start()
            thread.join(20)
        assert len(refused) == 1
        assert transactions.is_passing(refused[0])
        assert wrapper.transaction_mode == before


if connection.vendor == "postgresql":

    def test_postgresql_bounds_are_the_transaction_s() -> None:
        before = shown(BOUNDS)
        with transactions.write("default"):
            assert shown(BOUNDS) == ["2s", "1s", "5s"]
        assert shown(BOUNDS) == before
        with transaction.atomic():
            with transactions.write("default"):
                assert shown(BOUNDS) == before
            assert shown(BOUNDS) == before  # a caller's own transaction is not bounded


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
        assert bounds() == (2, 1, 5)
        connection.close()
        assert bounds() == before
        transactions.bound_session("default")
        assert bounds() == (2, 1, 5)
        connection.close()


def test_what_may_pass_by_itself() -> None:
    assert transactions.is_passing(OperationalError("database is locked"))
    assert transactions.is_passing(InterfaceError("connection already closed"))
    assert not transactions.is_passing(IntegrityError("duplicate key"))
    assert not transactions.is_passing(DataError("too long"))
    assert not transactions.is_passing(ValueError("deadlock"))
