"""Rows changed together on conditions; where one does not meet them, each alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from django.db import DataError, IntegrityError

from linod.bulk import Mismatch

Row = TypeVar("Row")


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
