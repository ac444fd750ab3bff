"""Rows changed together on conditions; where one does not meet them, each alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from django.db import DataError, IntegrityError, OperationalError

from linod import transactions
from linod.bulk import Mismatch
from linod.records import Claimed, Finished

Row = TypeVar("Row")
#: What an owner has in its hands.
Held = TypeVar("Held", Claimed, Finished)


def in_groups(
    rows: Sequence[Row],
    together: Callable[[Sequence[Row]], None],
    alone: Callable[[Row, Exception], None],
) -> list[Row]:
    """Do it for all rows in one transaction; when that fails, row by row.

    Returns the rows for which it worked; ``alone`` hears of each other one and why: also of one
    that somebody else has locked for longer than we wait, so that it holds up itself and no other.
    What else may pass by itself (a lost connection) is raised: the caller tries the same group
    again.
    """
    if not rows:
        return []
    try:
        together(rows)
    except (Mismatch, IntegrityError, DataError, OperationalError) as error:
        is_locked = transactions.is_locked_out(error)
        if isinstance(error, OperationalError) and not is_locked:
            raise
        if len(rows) == 1:
            alone(rows[0], error)
            return []
        with transactions.impatient(is_locked):
            return [row for each in rows for row in in_groups([each], together, alone)]
    return list(rows)


def held_in_groups(
    rows: Sequence[Held],
    together: Callable[[Sequence[Held]], None],
    alone: Callable[[Held, Exception], None],
) -> list[Held]:
    """:func:`in_groups` of what is in this owner's hands; notes which of it others hold up.

    What was held up before is not waited for again: it must not keep the rest waiting.
    """

    def note(row: Held, error: Exception) -> None:
        row.is_held_up = transactions.is_locked_out(error)
        alone(row, error)

    again = [row for row in rows if row.is_held_up]
    done = in_groups([row for row in rows if not row.is_held_up], together, note)
    with transactions.impatient():
        freed = in_groups(again, together, note)
    for row in freed:
        row.is_held_up = False
    return done + freed
