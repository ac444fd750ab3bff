"""Queries whose SQL Django writes once and that are asked again and again: the engine's looks.

To write the statement takes Django longer than the database needs to answer it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import connections
from django.db.models import DateTimeField, QuerySet
from django.db.models.expressions import RawSQL

#: They stand for what is given later among the parameters of a statement.
_MOMENT, _KEYS = object(), object()


def moment() -> RawSQL:
    """What a prepared query compares with: the moment that :meth:`Prepared.until` is given."""
    return RawSQL("%s", (_MOMENT,), output_field=DateTimeField())


def keys() -> Any:
    """What a prepared query looks for: the keys that :meth:`Prepared.among` is given."""
    return [RawSQL("%s", (_KEYS,))]


@dataclass(frozen=True)
class Prepared:
    """A query for the values of some columns."""

    using: str
    sql: str
    params: tuple[Any, ...]
    names: tuple[str, ...]
    converters: list[tuple[int, list[Callable[..., Any]], Any]]

    @classmethod
    def of(cls, rows: QuerySet[Any], *names: str) -> Prepared:
        """Let Django write the statement that reads those columns of ``rows``, in their order."""
        compiler = rows.values_list(*names).query.get_compiler(using=rows.db)
        sql, params = compiler.as_sql()
        converters = compiler.get_converters([column for column, *_rest in compiler.select])
        return cls(
            rows.db,
            sql,
            params,
            names,
            [(i, functions, column) for i, (functions, column) in converters.items()],
        )

    def all(self) -> Iterator[dict[str, Any]]:
        """The values by column of all rows."""
        return self._rows(self.sql, self.params)

    def until(self, at: datetime, limit: int) -> Iterator[dict[str, Any]]:
        """The values by column of at most ``limit`` rows, compared with that moment."""
        given = connections[self.using].ops.adapt_datetimefield_value(at)
        params = [given if value is _MOMENT else value for value in self.params]
        return self._rows(f"{self.sql} LIMIT %s", [*params, limit])

    def among(self, pks: Sequence[int]) -> Iterator[dict[str, Any]]:
        """The values by column of the rows with these keys, at least one."""
        pieces = self.sql.split("%s")
        sql, params = pieces[0], list[Any]()
        for value, piece in zip(self.params, pieces[1:], strict=True):
            values = pks if value is _KEYS else [value]
            # Django writes each in parentheses of its own.
            sql += "), (".join(["%s"] * len(values)) + piece
            params += values
        return self._rows(sql, params)

    def _rows(self, sql: str, params: Sequence[Any]) -> Iterator[dict[str, Any]]:
        connection = connections[self.using]
        with connection.cursor() as cursor:
            cursor.execute(sql, params)
            columns: list[Sequence[Any]] = list(zip(*cursor.fetchall(), strict=True))
        if not columns:
            return
        for i, functions, column in self.converters:
            for convert in functions:
                columns[i] = [convert(value, column, connection) for value in columns[i]]
        for row in zip(*columns, strict=True):
            yield dict(zip(self.names, row, strict=True))
