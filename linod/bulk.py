"""Many rows in one statement: inserts and conditional updates.

Each row brings its own values and its own conditions; the count must say that all rows met them.
What is the same in all rows is written once. PostgreSQL and MariaDB get one statement that joins
the table with the given rows (one round trip); SQLite, which has no round trips, gets one prepared
statement that is run for each row.
"""

# ruff: noqa: S608 - the names of tables and columns only; every value is a parameter
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache, partial
from itertools import repeat
from operator import attrgetter
from typing import Any
from uuid import UUID

from django.db import IntegrityError, OperationalError, connections, models
from django.db.backends.base.base import BaseDatabaseWrapper

from linod.exceptions import LinodError

#: Parameters up to which psycopg remembers how a statement is taken apart.
FEW = 50

Row = Sequence[Any]
Names = tuple[str, ...]


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
            table = _table(self.connection.alias, model, ("id",))
            self.add(
                f"SELECT FROM {table.name} WHERE {table.columns[0]} = %s FOR NO KEY UPDATE", [key]
            )

    def insert(self, model: type[models.Model], names: Names, rows: Sequence[Row]) -> None:
        """Insert rows; each gives a value per field name. IntegrityError when a key is taken."""
        if not rows:
            return
        table = _table(self.connection.alias, model, names)
        if len(rows) == 1:
            self._run_for_one(table.insertion, table, rows[0], None)
            return
        given = _given(self.connection, table, rows, key=0)
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
        table = _table(self.connection.alias, model, new + where)
        if len(rows) == 1:
            sql = _update_of_one(self.connection.alias, model, new, where, null)
            self._run_for_one(sql, table, rows[0], expected)
            return
        given = _given(self.connection, table, rows, key=len(new))
        if self.connection.vendor == "sqlite":
            sql = _update_of_one(self.connection.alias, model, new, where, null)
            self._run_for_each(sql, given, expected)
        else:
            empty = _table(self.connection.alias, model, null)
            besides = "".join(f" AND {table.name}.{column} IS NULL" for column in empty.columns)
            sql, params = _joined(self.connection.vendor, table, given, len(new))
            self.add(sql + besides, params, expected)

    def _run_for_one(self, sql: str, table: _Table, row: Row, expected: int | None) -> None:
        params = [prepare(value) for prepare, value in zip(table.preparations, row, strict=True)]
        self.add(sql, params, expected)

    def _run_for_each(self, sql: str, given: _Given, expected: int | None) -> None:
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


@dataclass(frozen=True)
class _Table:
    """A table and the columns that a statement names, quoted, with their types."""

    name: str
    columns: list[str]
    preparations: list[Callable[[Any], Any]]
    types: list[str]
    #: Inserts one row.
    insertion: str


@lru_cache(maxsize=64)
def _table(alias: str, model: type[models.Model], names: tuple[str, ...]) -> _Table:
    connection = connections[alias]
    quote = connection.ops.quote_name
    fields: list[Any] = [model._meta.get_field(name) for name in names]
    name, columns = quote(model._meta.db_table), [quote(field.column) for field in fields]
    places = ", ".join(["%s"] * len(columns))
    return _Table(
        name,
        columns,
        [_preparation(field, connection) for field in fields],
        [field.db_type(connection) or "" for field in fields],
        f"INSERT INTO {name} ({', '.join(columns)}) VALUES ({places})",
    )


@lru_cache(maxsize=64)
def _update_of_one(
    alias: str, model: type[models.Model], new: Names, where: Names, null: Names
) -> str:
    table, empty = _table(alias, model, new + where), _table(alias, model, null)
    terms = [f"{column} = %s" for column in table.columns]
    held = [*terms[len(new) :], *(f"{column} IS NULL" for column in empty.columns)]
    return f"UPDATE {table.name} SET {', '.join(terms[: len(new)])} WHERE {' AND '.join(held)}"


@dataclass(frozen=True)
class _Given:
    """Rows by column, as the driver takes them: what all rows share, and what varies."""

    count: int
    same: dict[int, Any]
    varying: dict[int, list[Any]]

    @property
    def terms(self) -> list[str]:
        """For each column its value in a statement: a parameter, or a column of ``v``."""
        size = len(self.same) + len(self.varying)
        return [f"v.c{i}" if i in self.varying else "%s" for i in range(size)]

    def as_rows(self) -> list[tuple[Any, ...]]:
        """The whole rows again."""
        size = len(self.same) + len(self.varying)
        columns = [
            self.varying[i] if i in self.varying else repeat(self.same[i], self.count)
            for i in range(size)
        ]
        return list(zip(*columns, strict=True))

    def as_derived_table(self, vendor: str) -> tuple[str, list[Any]]:
        """The varying columns as a table ``v``, and its parameters."""
        params = [value for row in zip(*self.varying.values(), strict=True) for value in row]
        one = ", ".join(["%s"] * len(self.varying))
        names = [f"c{i}" for i in self.varying]
        if vendor == "postgresql":
            rows = ", ".join([f"({one})"] * self.count)
            return f"(VALUES {rows}) AS v ({', '.join(names)})", params
        first = ", ".join(f"%s AS {name}" for name in names)
        return f"(SELECT {first}{f' UNION ALL SELECT {one}' * (self.count - 1)}) AS v", params


def _given(connection: BaseDatabaseWrapper, table: _Table, rows: Sequence[Row], key: int) -> _Given:
    """Prepare each value for the driver, once where all rows share it; ``key`` always varies."""
    same: dict[int, Any] = {}
    varying: dict[int, list[Any]] = {}
    for i, values in enumerate(zip(*rows, strict=True)):
        prepare = table.preparations[i]
        if i != key and values.count(values[0]) == len(values):
            same[i] = prepare(values[0])
        else:
            varying[i] = [prepare(value) for value in values]
    return _Given(len(rows), same, varying)


def _preparation(field: Any, connection: BaseDatabaseWrapper) -> Callable[[Any], Any]:
    """What makes a value ready for the driver: ``field.get_db_prep_save()``, without its detours.

    It asks each value again what it is. These fields take what they hold as it is.
    """
    whole = partial(field.get_db_prep_save, connection=connection)
    as_moment = connection.ops.adapt_datetimefield_value
    is_native = connection.features.has_native_uuid_field
    short: dict[type, tuple[type, Callable[[Any], Any]]] = {
        models.CharField: (str, _unchanged),
        models.TextField: (str, _unchanged),
        models.IntegerField: (int, _unchanged),
        models.PositiveIntegerField: (int, _unchanged),
        models.BigIntegerField: (int, _unchanged),
        models.BigAutoField: (int, _unchanged),
        models.UUIDField: (UUID, _unchanged if is_native else attrgetter("hex")),
        models.DateTimeField: (datetime, as_moment),
    }
    kind, prepare = short.get(type(field), (type(None), whole))

    def prepared(value: Any) -> Any:
        if value is None and field.null:
            return None
        return prepare(value) if type(value) is kind else whole(value)

    return prepared


def _unchanged(value: Any) -> Any:
    return value


def _joined(vendor: str, table: _Table, given: _Given, changed: int) -> tuple[str, list[Any]]:
    """An update of the table joined with the rows; the first ``changed`` columns are set."""
    if len(given.varying) == 1:
        return _listed(table, given, changed)
    rows, params = given.as_derived_table(vendor)
    set_to = [value for i, value in given.same.items() if i < changed]
    held = [value for i, value in given.same.items() if i >= changed]
    is_postgresql = vendor == "postgresql"
    # There, the columns that are set must not name their table, and types are not guessed.
    terms = [
        f"{column if is_postgresql and i < changed else f'{table.name}.{column}'} = {term}"
        + (f"::{table.types[i]}" if is_postgresql and i in given.varying else "")
        for i, (column, term) in enumerate(zip(table.columns, given.terms, strict=True))
    ]
    changes, conditions = ", ".join(terms[:changed]), " AND ".join(terms[changed:])
    if is_postgresql:
        sql = f"UPDATE {table.name} SET {changes} FROM {rows} WHERE {conditions}"
        return sql, [*set_to, *params, *held]
    return f"UPDATE {table.name} JOIN {rows} SET {changes} WHERE {conditions}", [
        *params, *set_to, *held,
    ]  # fmt: skip


def _listed(table: _Table, given: _Given, changed: int) -> tuple[str, list[Any]]:
    """An update of rows that differ by their key only: a list does, which is planned faster."""
    terms = [f"{column} = %s" for column in table.columns]
    keys = given.varying[changed]
    terms[changed] = f"{table.columns[changed]} IN ({', '.join(['%s'] * len(keys))})"
    params = [*given.same.values()]
    params[changed:changed] = keys
    changes, conditions = ", ".join(terms[:changed]), " AND ".join(terms[changed:])
    return f"UPDATE {table.name} SET {changes} WHERE {conditions}", params
