"""Transactions of the engine: short, bounded, and write-locked from their first statement."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import (
    DatabaseError,
    InterfaceError,
    OperationalError,
    connections,
    transaction,
)
from django.db.backends.base.base import BaseDatabaseWrapper

#: A process that freezes inside a transaction would hide its rows behind SKIP LOCKED for ever;
#: PostgreSQL ends it after two seconds. LOCAL: poolers share sessions, a transaction is ours.
POSTGRESQL_BOUNDS = (
    "SET LOCAL idle_in_transaction_session_timeout = 2000;"
    " SET LOCAL lock_timeout = 1000;"
    " SET LOCAL statement_timeout = 5000"
)
#: MariaDB has no such bounds for one transaction: they are the engine's own sessions'.
MARIADB_BOUNDS = (
    "SET SESSION idle_transaction_timeout = 2, innodb_lock_wait_timeout = 1, max_statement_time = 5"
)


@contextmanager
def write(using: str) -> Iterator[BaseDatabaseWrapper]:
    """A transaction that may write at once and cannot stay open for long.

    On SQLite it begins IMMEDIATE whatever the settings say: a deferred one that reads first and
    then writes fails with "database is locked" without waiting (sqlite.org/lang_transaction.html).
    """
    connection: Any = connections[using]
    connection.ensure_connection()
    if connection.vendor == "sqlite" and not connection.in_atomic_block:
        former = connection.transaction_mode
        connection.transaction_mode = "IMMEDIATE"
        try:
            atomic = transaction.atomic(using=using)
            atomic.__enter__()
        finally:
            connection.transaction_mode = former
        with _entered(atomic):
            yield connection
        return
    is_ours = not connection.in_atomic_block
    with transaction.atomic(using=using):
        # Inside somebody else's transaction the bounds would stay with it.
        if is_ours and connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute(POSTGRESQL_BOUNDS)
        yield connection


@contextmanager
def _entered(atomic: Any) -> Iterator[None]:
    """The rest of a ``with`` block whose beginning has happened already."""
    try:
        yield
    except BaseException as error:
        if not atomic.__exit__(type(error), error, error.__traceback__):
            raise
    else:
        atomic.__exit__(None, None, None)


def bound_session(using: str) -> None:
    """Bound all transactions of this thread's connection; for the engine's own connections only."""
    connection: Any = connections[using]
    connection.ensure_connection()
    if connection.vendor == "mysql" and not getattr(connection.connection, "linod_bound", False):
        with connection.cursor() as cursor:
            cursor.execute(MARIADB_BOUNDS)
        connection.connection.linod_bound = True


def is_passing(error: BaseException) -> bool:
    """Whether the same statements may work in a moment: a lock, a deadlock, a lost connection."""
    if isinstance(error, OperationalError | InterfaceError):
        # SQLite says OperationalError of a table that is missing, too: no wait makes one.
        return not str(error).startswith("no such ")
    return isinstance(error, DatabaseError) and "deadlock" in str(error).lower()
