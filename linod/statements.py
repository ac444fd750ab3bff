"""The text and the parameters of statements about many rows.

What is the same in all rows is written once. PostgreSQL and MariaDB get one statement that joins
the table with the given rows.
"""

# ruff: noqa: S608 - the names of tables and columns only; every value is a parameter
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache, partial
from itertools import repeat
from typing import Any
from uuid import UUID

from django.db import connections, models
from django.db.backends.base.base import BaseDatabaseWrapper

Row = Sequence[Any]
Names = tuple[str, ...]
#: Makes values of a column ready for the driver.
Preparation = Callable[[Sequence[Any]], list[Any]]


@dataclass(frozen=True)
class Table:
    """A table and the columns that a statement names, quoted, with their types."""

    name: str
    columns: list[str]
    preparations: list[Preparation]
    types: list[str]
    #: Inserts one row.
    insertion: str


@lru_cache(maxsize=64)
def table_of(alias: str, model: type[models.Model], names: tuple[str, ...]) -> Table:
    """The table of a model, as a statement that names these fields needs it."""
    connection = connections[alias]
    quote = connection.ops.quote_name
    fields: list[Any] = [model._meta.get_field(name) for name in names]
    name, columns = quote(model._meta.db_table), [quote(field.column) for field in fields]
    places = ", ".join(["%s"] * len(columns))
    return Table(
        name,
        columns,
        [_preparation(field, connection) for field in fields],
        [field.db_type(connection) or "" for field in fields],
        f"INSERT INTO {name} ({', '.join(columns)}) VALUES ({places})",
    )


@lru_cache(maxsize=64)
def update_of_one(
    alias: str, model: type[models.Model], new: Names, where: Names, null: Names
) -> str:
    """An update of one row: its parameters are the new values, then those that must stand."""
    table, empty = table_of(alias, model, new + where), table_of(alias, model, null)
    terms = [f"{column} = %s" for column in table.columns]
    held = [*terms[len(new) :], *(f"{column} IS NULL" for column in empty.columns)]
    return f"UPDATE {table.name} SET {', '.join(terms[: len(new)])} WHERE {' AND '.join(held)}"


@dataclass(frozen=True)
class Given:
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


def given_rows(
    connection: BaseDatabaseWrapper, table: Table, rows: Sequence[Row], key: int
) -> Given:
    """Prepare each value for the driver, once where all rows share it; ``key`` always varies."""
    same: dict[int, Any] = {}
    varying: dict[int, list[Any]] = {}
    for i, values in enumerate(zip(*rows, strict=True)):
        prepare = table.preparations[i]
        if i != key and values.count(values[0]) == len(values):
            same[i] = prepare(values[:1])[0]
        else:
            varying[i] = prepare(values)
    return Given(len(rows), same, varying)


def _preparation(field: Any, connection: BaseDatabaseWrapper) -> Preparation:
    """What makes values ready for the driver: ``field.get_db_prep_save()``, without its detours.

    It asks each value again what it is. These fields take what they hold as it is.
    """
    whole = partial(field.get_db_prep_save, connection=connection)
    kept = field.target_field if isinstance(field, models.ForeignKey) else field
    is_native = connection.features.has_native_uuid_field
    as_json, encoder = connection.ops.adapt_json_value, getattr(kept, "encoder", None)
    short: dict[type, tuple[type | None, Preparation]] = {
        models.CharField: (str, list),
        models.TextField: (str, list),
        models.IntegerField: (int, list),
        models.PositiveIntegerField: (int, list),
        models.BigIntegerField: (int, list),
        models.BigAutoField: (int, list),
        models.UUIDField: (UUID, list if is_native else _as_hex),
        models.DateTimeField: (datetime, _moments_preparation(connection)),
        models.JSONField: (dict, lambda values: [as_json(each, encoder) for each in values]),
    }
    kind, all_of_kind = short.get(type(kept), (None, list))

    def prepared(value: Any) -> Any:
        if value is None and field.null:
            return None
        return all_of_kind([value])[0] if type(value) is kind else whole(value)

    def prepared_all(values: Sequence[Any]) -> list[Any]:
        if {*map(type, values)} == {kind}:
            return all_of_kind(values)
        return [prepared(value) for value in values]

    return prepared_all


def _as_hex(values: Sequence[UUID]) -> list[str]:
    return [value.hex for value in values]


def _moments_preparation(connection: BaseDatabaseWrapper) -> Preparation:
    """What makes moments ready for the driver: Django's way, or a short one to the same text.

    Where a database keeps moments as text without a zone, and in UTC, one in UTC is what it says.
    """
    whole: Callable[[datetime], Any] = connection.ops.adapt_datetimefield_value
    utc = "+00:00"

    def as_texts(moments: Sequence[datetime]) -> list[Any]:
        if connection.timezone is UTC and {moment.tzinfo for moment in moments} == {UTC}:
            return [moment.isoformat(" ").removesuffix(utc) for moment in moments]
        return list(map(whole, moments))

    if connection.features.supports_timezones:
        return lambda moments: list(map(whole, moments))
    return as_texts


def joined_update(vendor: str, table: Table, given: Given, changed: int) -> tuple[str, list[Any]]:
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


def _listed(table: Table, given: Given, changed: int) -> tuple[str, list[Any]]:
    """An update of rows that differ by their key only: a list does, which is planned faster."""
    terms = [f"{column} = %s" for column in table.columns]
    keys = given.varying[changed]
    terms[changed] = f"{table.columns[changed]} IN ({', '.join(['%s'] * len(keys))})"
    params = [*given.same.values()]
    params[changed:changed] = keys
    changes, conditions = ", ".join(terms[:changed]), " AND ".join(terms[changed:])
    return f"UPDATE {table.name} SET {changes} WHERE {conditions}", params
