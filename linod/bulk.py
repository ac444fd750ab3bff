"""Many rows in one statement's time: inserts and conditional updates through ``executemany``.

Each row brings its own values and its own conditions; the count says how many rows met them. The
drivers make this fast in their own ways (SQLite prepares once, psycopg pipelines, mysqlclient joins
inserts), and the SQL is the same for all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper

Prepare = Callable[..., Any]


@lru_cache(maxsize=64)
def _columns(model: type[models.Model], names: tuple[str, ...]) -> tuple[list[str], list[Prepare]]:
    fields = [model._meta.get_field(name) for name in names]
    return [f.column for f in fields], [f.get_db_prep_save for f in fields]


def _prepared(
    prepare: Sequence[Prepare], rows: Sequence[Sequence[Any]], connection: BaseDatabaseWrapper
) -> list[tuple[Any, ...]]:
    return [
        tuple(
            None if value is None else p(value, connection=connection)
            for p, value in zip(prepare, row, strict=True)
        )
        for row in rows
    ]


def insert(
    connection: BaseDatabaseWrapper,
    model: type[models.Model],
    names: tuple[str, ...],
    rows: Sequence[Sequence[Any]],
) -> None:
    """Insert rows; each gives a value per field name. IntegrityError when a key is taken."""
    if not rows:
        return
    columns, prepare = _columns(model, names)
    quote = connection.ops.quote_name
    sql = "INSERT INTO {} ({}) VALUES ({})".format(
        quote(model._meta.db_table),
        ", ".join(map(quote, columns)),
        ", ".join(["%s"] * len(columns)),
    )
    with connection.cursor() as cursor:
        cursor.executemany(sql, _prepared(prepare, rows, connection))


def update(
    connection: BaseDatabaseWrapper,
    model: type[models.Model],
    *,
    change: tuple[str, ...],
    where: tuple[str, ...],
    rows: Sequence[Sequence[Any]],
) -> int:
    """Update rows one by one: each gives the new values, then the values that must stand.

    Returns how many rows were changed; the caller compares it with ``len(rows)``.
    """
    if not rows:
        return 0
    columns, prepare = _columns(model, change + where)
    quote = connection.ops.quote_name
    quoted = [f"{quote(column)} = %s" for column in columns]
    sql = "UPDATE {} SET {} WHERE {}".format(
        quote(model._meta.db_table),
        ", ".join(quoted[: len(change)]),
        " AND ".join(quoted[len(change) :]),
    )
    with connection.cursor() as cursor:
        cursor.executemany(sql, _prepared(prepare, rows, connection))
        return cursor.rowcount
