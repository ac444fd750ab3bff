"""Asking for a run: whoever asks waits for it, so all that it takes travels to the server at once.

The statements are written out: to let Django write them takes longer than to answer them.
"""

# ruff: noqa: S608 - the names of tables, and the database's own clock; every value is a parameter
from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from linod import clock
from linod.bulk import Batch
from linod.history import Decision

TASKS, LINES = "linod_backgroundtask", Decision._meta.db_table
ASK = f"""UPDATE {TASKS} SET requested_at = {{now}}, requested_by_id = %s
WHERE id = %s AND requested_at IS NULL"""
NOTE = f"""INSERT INTO {LINES} (task_id, due_at, kind, reason, who, at)
SELECT id, requested_at, %s, '', %s, requested_at FROM {TASKS} WHERE id = %s"""
READ = f"SELECT requested_at FROM {TASKS} WHERE id = %s"


def ask(connection: BaseDatabaseWrapper, task_id: int, user_id: Any, who: str) -> datetime:
    """Write the request and its line of the ledger; returns its moment, by the database's clock.

    To be called in a transaction; ``user_id`` is as the driver takes it. Raises
    :class:`linod.bulk.Mismatch` when a request stands already, or the task is gone.
    """
    now, params = clock.as_term(connection)
    batch = Batch(connection)
    batch.add(ASK.format(now=now), [*params, user_id, task_id], expected=1)
    batch.add(NOTE, [Decision.Kind.REQUESTED.value, who, task_id])
    batch.add(READ, [task_id])
    batch.send()
    assert batch.answer is not None
    return clock.as_utc(batch.answer[0])
