"""Rows changed together on conditions; where one does not meet them, each alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from django.db import DataError, IntegrityError
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Model

from linod import bulk
from linod.exceptions import LinodError

Row = TypeVar("Row")
Names = tuple[str, ...]


class Mismatch(LinodError):
    """A conditional statement met fewer rows than it was given."""


def change(
    connection: BaseDatabaseWrapper,
    model: type[Model],
    new: Names,
    where: Names,
    rows: Sequence[Sequence[Any]],
) -> None:
    """Update rows, each by its own values and conditions; :class:`Mismatch` unless all met them."""
    count = bulk.update(connection, model, change=new, where=where, rows=rows)
    if count != len(rows):
        raise Mismatch(f"{count} of {len(rows)} rows met the conditions")


def in_groups(
    rows: Sequence[Row],
    together: Callable[[Sequence[Row]], None],
    alone: Callable[[Row, Exception], None],
) -> list[Row]:
    """Do it for all rows in one transaction; when that fails, row by row.

    Returns the rows for which it worked; ``alone`` hears of each other one and why. What may pass
    by itself (a lock, a lost connection) is raised: the caller tries the same group again.
    """
    if not rows:
        return []
    try:
        together(rows)
    except (Mismatch, IntegrityError, DataError) as error:
        if len(rows) == 1:
            alone(rows[0], error)
            return []
        return [row for each in rows for row in in_groups([each], together, alone)]
    return list(rows)
