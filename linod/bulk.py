"""Many rows in one statement: inserts and conditional updates.

Each row brings its own values and its own conditions; the count must say that all rows met them.
What is the same in all rows is written once. PostgreSQL and MariaDB get one statement that joins
the table with the given rows (one round trip); SQLite, which has no round trips, gets one prepared
statement that is run for each row.
"""

# ruff: noqa: S608 - the names of tables and columns only; every value is a parameter
from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.db import IntegrityError, OperationalError, models
from django.db.backends.base.base import BaseDatabaseWrapper

from linod.exceptions import LinodError
from linod.statements import (
    Given,
    Names,
    Row,
    Table,
    given_rows,
    joined_update,
    table_of,
    update_of_one,
)

#: Parameters up to which psycopg remembers how a statement is taken apart.
FEW = 50


class Mismatch(LinodError):
    """A conditional statement met fewer rows than it was given."""


class Batch:
    """Statements that belong together, sent in their order; to a server in one round trip.

    ``with Batch(connection) as batch:`` sends what was collected at the end of the block.
    """

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self.connection = connection
        self._waiting: list[tuple[str, list[Any], int | None]] = []
        #: The first row that the last statement gave which gives any.
        self.answer: tuple[Any, ...] | None = None

    def add(self, sql: str, params: list[Any], expected: int | None = None) -> None:
        """A statement as it is; :class:`Mismatch` unless it meets ``expected`` rows."""
        self._waiting.append((sql, params, expected))

    def lock(self, model: type[models.Model], key: Any) -> None:
        """Lock a row that is about to be changed on conditions, once others have committed it.

        Only PostgreSQL needs it: an update there passes by a row that does not meet the conditions
        yet ("Read Committed Isolation Level" in its documentation). It may be gone.
        """
        if self.connection.vendor == "postgresql":
            table = table_of(self.connection.alias, model, ("id",))
            self.add(
                f"SELECT FROM {table.name} WHERE {table.columns[0]} = %s FOR NO KEY UPDATE", [key]
            )

    def insert(self, model: type[models.Model], names: Names, rows: Sequence[Row]) -> None:
        """Insert rows; each gives a value per field name. IntegrityError when a key is taken."""
        if not rows:
            return
        table = table_of(self.connection.alias, model, names)
        if len(rows) == 1:
            self._run_for_one(table.insertion, table, rows[0], None)
            return
        given = given_rows(self.connection, table, rows, key=0)
        if self.connection.vendor == "sqlite":
            self._run_for_each(table.insertion, given, None)
            return
        sql = f"INSERT INTO {table.name} ({', '.join(table.columns)})"
        terms = given.terms
        if self.connection.vendor == "postgresql":
            terms = [f"{term}::{kind}" for term, kind in zip(terms, table.types, strict=True)]
        rows_sql, params = given.as_derived_table(self.connection.vendor)
        sql = f"{sql} SELECT {', '.join(terms)} FROM {rows_sql}"
        self.add(sql, [*given.same.values(), *params])

    def change(
        self,
        model: type[models.Model],
        new: Names,
        where: Names,
        rows: Sequence[Row],
        null: Names = (),
    ) -> None:
        """Update rows: each gives the new values, then the values that must stand.

        ``where`` begins with the primary key; what ``null`` names must be NULL in each row.
        :class:`Mismatch` unless all rows met the conditions.
        """
        self._update(model, new, where, rows, len(rows), null)

    def update(
        self, model: type[models.Model], new: Names, where: Names, rows: Sequence[Row]
    ) -> None:
        """:meth:`change` for rows that may be gone: whoever does not meet it is left alone."""
        self._update(model, new, where, rows, None)

    def _update(
        self,
        model: type[models.Model],
        new: Names,
        where: Names,
        rows: Sequence[Row],
        expected: int | None,
        null: Names = (),
    ) -> None:
        if not rows:
            return
        table = table_of(self.connection.alias, model, new + where)
        if len(rows) == 1:
            sql = update_of_one(self.connection.alias, model, new, where, null)
            self._run_for_one(sql, table, rows[0], expected)
            return
        given = given_rows(self.connection, table, rows, key=len(new))
        if self.connection.vendor == "sqlite":
            sql = update_of_one(self.connection.alias, model, new, where, null)
            self._run_for_each(sql, given, expected)
        else:
            empty = table_of(self.connection.alias, model, null)
            besides = "".join(f" AND {table.name}.{column} IS NULL" for column in empty.columns)
            sql, params = joined_update(self.connection.vendor, table, given, len(new))
            self.add(sql + besides, params, expected)

    def _run_for_one(self, sql: str, table: Table, row: Row, expected: int | None) -> None:
        params = [
            prepare([value])[0] for prepare, value in zip(table.preparations, row, strict=True)
        ]
        self.add(sql, params, expected)

    def _run_for_each(self, sql: str, given: Given, expected: int | None) -> None:
        """SQLite has no round trips to save: at once, one prepared statement for each row."""
        self.send()
        with self.connection.cursor() as cursor:
            cursor.executemany(sql, given.as_rows())
            _compare(cursor.rowcount, expected)

    def send(self) -> None:
        """Send what was collected."""
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        with self.connection.cursor() as cursor:
            if takes_many(self.connection):
                params = [param for _sql, params, _expected in waiting for param in params]
                sql = "; ".join(sql for sql, _params, _expected in waiting)
                if self.connection.vendor == "postgresql" and len(params) > FEW:
                    sql, params = self._with_literals(sql, params), []
                cursor.execute(sql, params or None)
                counts = [self._count(cursor)]
                while to_next(cursor):
                    counts.append(self._count(cursor))
                for count, (_sql, _params, expected) in zip(counts, waiting, strict=True):
                    _compare(count, expected)
                return
            for sql, params, expected in waiting:
                cursor.execute(sql, params)
                _compare(self._count(cursor), expected)

    def _count(self, cursor: Any) -> int:
        if cursor.description is not None:
            # All of them: on SQLite a statement that has rows left keeps its lock.
            self.answer = next(iter(cursor.fetchall()), None)
        return int(cursor.rowcount)

    def _with_literals(self, sql: str, params: Sequence[Any]) -> str:
        """The statements as psycopg would send them.

        It takes a statement with many parameters apart anew each time it is executed, which takes
        longer than all else that is done for it here.
        """
        from psycopg.adapt import Transformer

        context = Transformer(self.connection.connection)
        literals = [
            # What these look like no setting of the session changes.
            "NULL" if param is None
            else f"{param}::bigint" if type(param) is int
            else f"'{param.hex}'::uuid" if type(param) is UUID
            else f"'{param}'::timestamptz" if type(param) is datetime and param.tzinfo is UTC
            else context.as_literal(param).decode(context.encoding)
            for param in params
        ]  # fmt: skip
        return sql % tuple(literals)

    def __enter__(self) -> Batch:
        return self

    def __exit__(self, kind: type[BaseException] | None, *details: object) -> None:
        if kind is None:
            self.send()


def takes_many(connection: BaseDatabaseWrapper) -> bool:
    """Whether several statements may travel together; SQLite has nowhere to travel to."""
    options = connection.settings_dict.get("OPTIONS") or {}
    driver: str = connection.Database.__name__  # type: ignore[attr-defined]
    if connection.vendor == "mysql":
        # What stands in for mysqlclient does not ask the server for it, unless told to.
        return driver == "MySQLdb" and bool(options.get("multi_statements", True))
    # psycopg 2 would not commit a transaction that it has not begun itself.
    return driver == "psycopg" and not options.get("server_side_binding")


def to_next(cursor: Any) -> bool:
    """Go on to the next statement's answer; False: there is none.

    Its error is the one that it would be if the statement had gone alone.
    """
    try:
        return bool(cursor.nextset())
    except OperationalError as error:
        # MariaDB's numbers for values that a column refuses: Django looks at the first answer only.
        if error.args and error.args[0] in getattr(cursor.cursor, "codes_for_integrityerror", ()):
            raise IntegrityError(*error.args) from error
        raise


def _compare(count: int, expected: int | None) -> None:
    if expected is not None and count != expected:
        raise Mismatch(f"{count} of {expected} rows met the conditions")
