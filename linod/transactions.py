"""Transactions of the engine: short, bounded, and write-locked from their first statement."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from django.db import (
    DatabaseError,
    InterfaceError,
    OperationalError,
    connections,
    transaction,
)
from django.db.backends.base.base import BaseDatabaseWrapper

from linod.bulk import Batch, takes_many, to_next

#: A process that freezes inside a transaction would hide its rows behind SKIP LOCKED for ever;
#: PostgreSQL ends it after a second. And rows are found by their keys: of a table that grows faster
#: than it is analyzed, the planner believes that to read all of it is quicker.
#: LOCAL: poolers share sessions, a transaction is ours.
POSTGRESQL_BOUNDS = (
    "SET LOCAL idle_in_transaction_session_timeout = 1000",
    "SET LOCAL lock_timeout = 1000",
    "SET LOCAL statement_timeout = 5000",
    "SET LOCAL enable_seqscan = off",
)
#: What it says then (25P03), or for a like reason (PostgreSQL, appendix A): an InternalError.
POSTGRESQL_ENDED = ("25P03", "25P04", "57P05")
#: MariaDB has no such bounds for one transaction: they are the engine's own sessions'.
MARIADB_BOUNDS = (
    "SET SESSION idle_transaction_timeout = 1, innodb_lock_wait_timeout = 1, max_statement_time = 5"
)
#: What they say when a row was locked for too long: PostgreSQL's lock_not_available (appendix A),
#: MariaDB's ER_LOCK_WAIT_TIMEOUT. And how each is told not to wait at all.
POSTGRESQL_LOCKED, MARIADB_LOCKED = "55P03", 1205
POSTGRESQL_AT_ONCE = "SET LOCAL lock_timeout = 1"
MARIADB_AT_ONCE = (
    "SET @linod_wait = @@innodb_lock_wait_timeout, SESSION innodb_lock_wait_timeout = 0"
)
MARIADB_AS_BEFORE = "SET SESSION innodb_lock_wait_timeout = @linod_wait"
#: What a server says that takes no writes: a standby, or set so. PostgreSQL's is an InternalError;
#: MariaDB's, by its option, by its session and by InnoDB's options, are OperationalErrors.
POSTGRESQL_READ_ONLY, MARIADB_READ_ONLY = "25006", (1290, 1792, 1836, 1036)
#: The same of a file of SQLite (sqlite.org/rescode.html); the number's further bits say why.
SQLITE_READ_ONLY = 8
#: What MariaDB's client says (a ProgrammingError) of a connection whose answers it has lost count
#: of; the next connection knows nothing of that.
MARIADB_OUT_OF_SYNC = 2014
#: How a transaction begins that holds SQLite's write lock.
SQLITE_BEGIN = "BEGIN IMMEDIATE"
#: Seconds between two looks for SQLite's write lock, at least and at most; in between a quarter of
#: the time that it was waited for: whoever asks for a run has it for a commit, about a millisecond.
LOOKING = 0.0002, 0.01


@contextmanager
def write(using: str, *, bounded: bool = True) -> Iterator[BaseDatabaseWrapper]:
    """A transaction that may write at once and cannot stay open for long.

    :param bounded: False in a process of the site, which waits for its locks as it likes.

    On SQLite it begins IMMEDIATE whatever the settings say: a deferred one that reads first and
    then writes fails with "database is locked" without waiting (sqlite.org/lang_transaction.html).
    It begins with its first statement: on a server that is a round trip less, and on SQLite nobody
    has the lock while statements are put together.
    """
    connection: Any = connections[using]
    connection.ensure_connection()
    if connection.in_atomic_block:
        # The bounds would stay with somebody else's transaction.
        with transaction.atomic(using=using):
            yield connection
        return
    bounds = POSTGRESQL_BOUNDS if bounded and connection.vendor == "postgresql" else ()
    if _is_impatient() and connection.vendor == "postgresql":
        bounds = (*bounds, POSTGRESQL_AT_ONCE)
    opening = _Opening(connection, bounds)
    with ExitStack() as stack:
        if _is_impatient() and connection.vendor == "mysql":
            stack.enter_context(_at_once(connection))
        if connection.vendor == "sqlite" or takes_many(connection):
            stack.enter_context(connection.execute_wrapper(opening))
            stack.enter_context(_beginning(connection, opening.begin))
        stack.enter_context(transaction.atomic(using=using))
        if not opening.has_begun:
            opening.bound()
        try:
            yield connection
        finally:
            # What is called after the commit is not in the transaction.
            opening.close()


_patience = threading.local()


def _is_impatient() -> bool:
    return getattr(_patience, "is_over", False)


@contextmanager
def impatient(when: bool = True) -> Iterator[None]:
    """In this thread :func:`write` does not wait for rows that somebody else has locked.

    :param when: False: it goes on as it did.
    """
    former, _patience.is_over = _is_impatient(), when or _is_impatient()
    try:
        yield
    finally:
        _patience.is_over = former


@contextmanager
def _at_once(connection: Any) -> Iterator[None]:
    """MariaDB's bound is a session's: it is put back, unless the session is gone with an error."""
    with connection.cursor() as cursor:
        cursor.execute(MARIADB_AT_ONCE)
    try:
        yield
    finally:
        if connection.connection is not None and connection.is_usable():
            with connection.cursor() as cursor:
                cursor.execute(MARIADB_AS_BEFORE)


def is_free(connection: BaseDatabaseWrapper) -> bool:
    """Whether a statement is a transaction of its own: nobody else's is open."""
    return connection.get_autocommit() and not connection.in_atomic_block


@contextmanager
def write_batch(using: str, *, bounded: bool = True) -> Iterator[Batch]:
    """:func:`write` of one batch."""
    with write(using, bounded=bounded) as connection, Batch(connection) as batch:
        yield batch


@contextmanager
def _beginning(connection: Any, begin: Callable[[], None]) -> Iterator[None]:
    """Let Django's next transaction begin in our way, and no other behind it."""

    def once() -> None:
        del connection._start_transaction_under_autocommit
        begin()

    # The only place where Django lets a transaction begin otherwise.
    connection._start_transaction_under_autocommit = once
    try:
        yield
    finally:
        vars(connection).pop("_start_transaction_under_autocommit", None)


class _Opening:
    """The statements that begin a transaction: they travel with the first one of it.

    A wrapper of database calls (Django's documentation, "Database instrumentation").
    """

    def __init__(self, connection: Any, bounds: Sequence[str]) -> None:
        self.connection = connection
        self._bounds = bounds
        self._waiting: Sequence[str] = ()
        self.has_begun = False

    def begin(self) -> None:
        """Send BEGIN and the bounds with whatever comes first."""
        self.has_begun = True
        self._waiting = ["BEGIN", *self._bounds]

    def bound(self) -> None:
        """Django began the transaction: send the bounds alone."""
        if self._bounds:
            with self.connection.cursor() as cursor:
                cursor.execute("; ".join(self._bounds))

    def close(self) -> None:
        """Nothing came: there is nothing to begin."""
        self._waiting = ()

    def __call__(
        self, execute: Any, sql: str, params: Any, many: bool, context: dict[str, Any]
    ) -> Any:
        waiting, self._waiting = self._waiting, ()
        if not waiting:
            return execute(sql, params, many, context)
        if self.connection.vendor == "sqlite":
            _begin_locked(self.connection)
            return execute(sql, params, many, context)
        if many:
            with self.connection.cursor() as cursor:
                cursor.execute("; ".join(waiting))
            return execute(sql, params, many, context)
        result = execute("; ".join([*waiting, sql]), params, many, context)
        for _statement in waiting:
            to_next(context["cursor"])
        return result


@contextmanager
def locked(using: str) -> Iterator[None]:
    """For one statement that stands alone: SQLite's write lock, waited for as in :func:`write`."""
    if connections[using].vendor == "sqlite":
        with write(using):
            yield
    else:
        yield


def _begin_locked(connection: Any) -> None:
    """Begin a transaction on SQLite as soon as its write lock is free.

    It waits as long as the site's ``timeout`` says, but not inside SQLite. That sleeps longer and
    longer, 100 ms in the end: beside a site that writes, the lock is always taken when it looks.
    And it keeps the connection's mutex meanwhile: a thread that has the lock, and in which the
    garbage collector just then finds one of this connection's cursors, would wait for the mutex,
    and both for each other until the ``timeout`` is over.
    """
    raw = connection.connection
    (patience,) = raw.execute("PRAGMA busy_timeout").fetchone()
    began = time.monotonic()
    shortest, longest = LOOKING
    raw.execute("PRAGMA busy_timeout = 0")
    try:
        while True:
            try:
                # Closed, whatever comes: errors keep cursors alive, until the garbage collector.
                with connection.cursor() as cursor:
                    cursor.execute(SQLITE_BEGIN)
                return
            except OperationalError as error:
                waited = time.monotonic() - began
                if "locked" not in str(error) or waited >= patience / 1000:
                    raise
            time.sleep(min(max(shortest, waited / 4), longest))
    finally:
        raw.execute(f"PRAGMA busy_timeout = {patience}")


def bound_session(using: str) -> None:
    """Bound all transactions of this thread's connection; for the engine's own connections only."""
    connection: Any = connections[using]
    connection.ensure_connection()
    if connection.vendor == "mysql" and not getattr(connection.connection, "linod_bound", False):
        with connection.cursor() as cursor:
            cursor.execute(MARIADB_BOUNDS)
        connection.connection.linod_bound = True


def is_locked_out(error: BaseException) -> bool:
    """Whether somebody else has kept a row locked; SQLite has one lock for all of them."""
    if not isinstance(error, OperationalError):
        return False
    is_mariadb_s = error.args[:1] == (MARIADB_LOCKED,)
    return is_mariadb_s or getattr(error.__cause__, "sqlstate", None) == POSTGRESQL_LOCKED


def is_undone(error: BaseException) -> bool:
    """Whether a lock is what the transaction failed by: then nothing of it stays.

    Of a lost connection nobody knows: the answer to a COMMIT that worked may be what was lost.
    """
    text = str(error).lower()
    return is_locked_out(error) or "deadlock" in text or "is locked" in text


def is_passing(error: BaseException) -> bool:
    """Whether the same statements may work in a moment: a lock, a lost connection, a failover."""
    if isinstance(error, OperationalError | InterfaceError):
        # SQLite says OperationalError of a table that is missing, too: no wait makes one.
        return not str(error).startswith("no such ")
    if getattr(error.__cause__, "sqlstate", None) in POSTGRESQL_ENDED or refuses_writes(error):
        return True
    if not isinstance(error, DatabaseError):
        return False
    return error.args[:1] == (MARIADB_OUT_OF_SYNC,) or "deadlock" in str(error).lower()


def refuses_writes(error: BaseException) -> bool:
    """Whether the database answers and takes no writes: until a failover ends, or as it was set."""
    cause = error.__cause__
    if getattr(cause, "sqlstate", None) == POSTGRESQL_READ_ONLY:
        return True
    if getattr(cause, "sqlite_errorcode", 0) & 0xFF == SQLITE_READ_ONLY:
        return True
    return isinstance(error, OperationalError) and next(iter(error.args), None) in MARIADB_READ_ONLY


def first_line(error: BaseException) -> str:
    """What a database says, without what servers put below it: the statement, hints."""
    return str(error).strip().partition("\n")[0] or type(error).__name__
