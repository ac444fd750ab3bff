"""Many rows in one statement: inserts and conditional updates.

Each row brings its own values and its own conditions; the count says how many rows met them.
What is the same in all rows is written once. PostgreSQL and MariaDB get one statement that joins
the table with the given rows (one round trip); SQLite, which has no round trips, gets one prepared
statement that is run for each row.
"""

# ruff: noqa: S608 - the names of tables and columns only; every value is a parameter
from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper

Row = Sequence[Any]


def insert(
    connection: BaseDatabaseWrapper,
    model: type[models.Model],
    names: tuple[str, ...],
    rows: Sequence[Row],
) -> None:
    """Insert rows; each gives a value per field name. IntegrityError when a key is taken."""
    if not rows:
        return
    columns, fields = _columns(connection.alias, model, names)
    values = _prepared(connection, fields, rows)
    sql = f"INSERT INTO {_table(connection, model)} ({', '.join(columns)}) "
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.executemany(f"{sql} VALUES ({', '.join(['%s'] * len(columns))})", values)
            return
        varying = [i for i in range(len(columns)) if i == 0 or not _is_same(values, i)]
        terms = [f"v.c{i}" if i in varying else "%s" for i in range(len(columns))]
        if connection.vendor == "postgresql":
            terms = [f"{t}::{f.db_type(connection)}" for t, f in zip(terms, fields, strict=True)]
        constants = [values[0][i] for i in range(len(columns)) if i not in varying]
        given, params = _given(connection.vendor, varying, values)
        cursor.execute(f"{sql} SELECT {', '.join(terms)} FROM {given}", constants + params)


def update(
    connection: BaseDatabaseWrapper,
    model: type[models.Model],
    *,
    change: tuple[str, ...],
    where: tuple[str, ...],
    rows: Sequence[Row],
) -> int:
    """Update rows: each gives the new values, then the values that must stand.

    ``where`` begins with the primary key. Returns how many rows were changed; the caller compares
    it with ``len(rows)``.
    """
    if not rows:
        return 0
    columns, fields = _columns(connection.alias, model, change + where)
    values = _prepared(connection, fields, rows)
    table = _table(connection, model)
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            terms = [f"{column} = %s" for column in columns]
            changes, conditions = terms[: len(change)], terms[len(change) :]
            sql = f"UPDATE {table} SET {', '.join(changes)} WHERE {' AND '.join(conditions)}"
            cursor.executemany(sql, values)
        else:
            types = [field.db_type(connection) or "" for field in fields]
            cursor.execute(*_joined(connection.vendor, table, columns, types, len(change), values))
        return int(cursor.rowcount)


def _joined(
    vendor: str,
    table: str,
    columns: Sequence[str],
    types: Sequence[str],
    changed: int,
    values: Sequence[Row],
) -> tuple[str, list[Any]]:
    """An update of ``table`` joined with the rows; the first ``changed`` columns are set."""
    key = changed
    varying = [i for i in range(len(columns)) if i == key or not _is_same(values, i)]
    terms, constants = [], []
    for i, column in enumerate(columns):
        if i in varying:
            cast = f"::{types[i]}" if vendor == "postgresql" else ""
            terms.append(f"{table}.{column} = v.c{i}{cast}")
        else:
            terms.append(f"{table}.{column} = %s")
            constants.append((i, values[0][i]))
    conditions = " AND ".join(terms[changed:])
    set_to = [value for i, value in constants if i < changed]
    held = [value for i, value in constants if i >= changed]
    given, params = _given(vendor, varying, values)
    if vendor == "postgresql":
        # There, the columns that are set must not name their table.
        changes = ", ".join(terms[:changed]).replace(f"{table}.", "")
        return f"UPDATE {table} SET {changes} FROM {given} WHERE {conditions}", (
            set_to + params + held
        )
    changes = ", ".join(terms[:changed])
    sql = f"UPDATE {table} JOIN {given} SET {changes} WHERE {conditions}"
    return sql, params + set_to + held


def _given(vendor: str, varying: Sequence[int], values: Sequence[Row]) -> tuple[str, list[Any]]:
    """The varying values of the rows as a derived table ``v`` with columns c0, c1 ..."""
    params = [row[i] for row in values for i in varying]
    if vendor == "postgresql":
        one = f"({', '.join(['%s'] * len(varying))})"
        names = ", ".join(f"c{i}" for i in varying)
        return f"(VALUES {', '.join([one] * len(values))}) AS v ({names})", params
    first = "SELECT " + ", ".join(f"%s AS c{i}" for i in varying)
    other = " UNION ALL SELECT " + ", ".join(["%s"] * len(varying))
    return f"({first}{other * (len(values) - 1)}) AS v", params


def _is_same(values: Sequence[Row], i: int) -> bool:
    first = values[0][i]
    return all(row[i] is first or row[i] == first for row in values)


def _table(connection: BaseDatabaseWrapper, model: type[models.Model]) -> str:
    return connection.ops.quote_name(model._meta.db_table)


@lru_cache(maxsize=64)
def _columns(
    alias: str, model: type[models.Model], names: tuple[str, ...]
) -> tuple[list[str], list[Any]]:
    from django.db import connections

    fields: list[Any] = [model._meta.get_field(name) for name in names]
    quote = connections[alias].ops.quote_name
    return [quote(field.column) for field in fields], fields


def _prepared(
    connection: BaseDatabaseWrapper, fields: Sequence[Any], rows: Sequence[Row]
) -> list[tuple[Any, ...]]:
    """The values as the driver takes them; a value that many rows share is prepared once."""
    prepare = [_preparation(connection, field) for field in fields]
    return [tuple(p(value) for p, value in zip(prepare, row, strict=True)) for row in rows]


def _preparation(connection: BaseDatabaseWrapper, field: Any) -> Callable[[Any], Any]:
    last: list[Any] = [None, None]
    to_driver = field.get_db_prep_save

    def prepare(value: Any) -> Any:
        if value is not last[0]:
            last[:] = value, to_driver(value, connection=connection)
        return last[1]

    return prepare
