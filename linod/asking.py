"""Asking for a run: whoever asks waits for it, so all that it takes travels to the server at once.

The statements are written out: to let Django write them takes longer than to answer them. They also
read what a job takes over from its task, as the database has it at that moment. The hint to the
daemons tells it to them (:mod:`linod.wakeup`), which saves the first one of them to look; it goes
ahead of the COMMIT, so that they make ready while that waits for the disk.
"""

# ruff: noqa: S608 - the names of tables, and the database's own clock; every value is a parameter
from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from django.core.exceptions import ValidationError
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from linod import clock, transactions
from linod.bulk import Mismatch
from linod.choices import LogLevels
from linod.history import Decision, Job

#: How a true value is written, by some drivers and by others.
TRUE = ("True", "1")
#: What a column for integers holds at most.
BIGGEST = 2**63 - 1


def _integer(text: str) -> int:
    number = int(text)
    if abs(number) > BIGGEST:
        raise ValueError("no column holds that number")
    return number


def _log_level(text: str) -> str:
    if LogLevels.get_by_name(text) is None:
        raise ValueError("there is no such level")
    return text


def _user_key(text: str) -> Any:
    asker: Any = Job._meta.get_field("requested_by")
    field = asker.target_field
    if not type(field).__module__.startswith("django."):
        raise ValueError("a key of the site's own kind is for Django to read, out of the row")
    return field.to_python(text)


#: What a job takes over from its task, and how it is read from a hint's text.
COLUMNS: dict[str, Callable[[str], Any]] = {
    "id": _integer,
    "version": _integer,
    "seqno": _integer,
    "procedure": str,
    "arguments": json.loads,
    "log_level": _log_level,
    "requested_at": clock.as_utc,
    "requested_by_id": _user_key,
    "next_run_at": clock.as_utc,
    "timeout": float,
    "max_attempts": _integer,
    "retry_delay": float,
    "rerun_lost": lambda text: text in TRUE,
}
TASK_COLUMNS = tuple(COLUMNS)
#: Those that may be NULL: an empty text.
MAY_LACK = frozenset({"requested_by_id", "next_run_at", "timeout"})
#: Between the values of a hint (ASCII's unit separator): JSON and names have none. JSON for all
#: of it would take three times as long as the way to the daemon.
SEPARATOR = "\x1f"
#: What a hint begins with: another one when ``COLUMNS`` or their texts are others.
FORMAT = "1"
#: Most bytes of a hint that tells what was asked for.
MOST = 4096

TASKS, LINES = "linod_backgroundtask", Decision._meta.db_table
ASK = f"""UPDATE {TASKS} SET requested_at = {{now}}, requested_by_id = %s
WHERE id = %s AND requested_at IS NULL"""
NOTE = f"""INSERT INTO {LINES} (task_id, due_at, kind, reason, who, at)
SELECT id, requested_at, %s, '', %s, requested_at FROM"""
#: Whether none of its jobs runs, as far as the task's row tells.
IDLE = "last_start_time IS NULL OR last_end_time IS NOT NULL"
READ = f"SELECT {{columns}}, {IDLE} FROM {TASKS} WHERE id = %s"


def ask(
    using: str,
    task_id: int,
    user_id: Any,
    who: str,
    foretell: Callable[[dict[str, Any]], object] | None = None,
) -> tuple[dict[str, Any], bool]:
    """Write the request and its line of the ledger; returns what a hint may tell.

    That is ``TASK_COLUMNS`` by their names, as the driver gives them (``requested_at``: a moment in
    UTC, by the database's clock), and whether the task seems to be idle. ``user_id`` is as the
    driver takes it. Raises :class:`linod.bulk.Mismatch` when a request stands already, or the task
    is gone.

    :param foretell: called with what a hint may tell just before the COMMIT, when the task seems to
        be idle and that takes long enough for a daemon to make ready and to wait for the row.
    """
    connection = connections[using]
    now, params = clock.as_term(connection)
    with transactions.write_batch(using, bounded=False) as batch:
        batch.add(ASK.format(now=now), [*params, user_id, task_id], expected=1)
        batch.add(f"{NOTE} {TASKS} WHERE id = %s", [Decision.Kind.REQUESTED.value, who, task_id])
        batch.add(READ.format(columns=_columns(using)), [task_id])
        batch.send()
        row, is_idle = _told(batch.answer)
        if foretell is not None and is_idle and _commits_slowly(connection):
            foretell(row)
    return row, is_idle


def _commits_slowly(connection: BaseDatabaseWrapper) -> bool:
    """Whether others can make ready while a COMMIT is under way: it waits for the disk.

    SQLite's does not when it has a write-ahead log (sqlite.org/wal.html).
    """
    name = connection.settings_dict["NAME"]
    return connection.vendor != "sqlite" or not os.path.exists(f"{name}-wal")


def _told(found: tuple[Any, ...] | None) -> tuple[dict[str, Any], bool]:
    if found is None:
        raise Mismatch("the request stands already, or the task is gone")
    *values, is_idle = found
    row = dict(zip(TASK_COLUMNS, values, strict=True))
    return row | {"requested_at": clock.as_utc(row["requested_at"])}, bool(is_idle)


@lru_cache(maxsize=8)
def _columns(using: str) -> str:
    return ", ".join(map(connections[using].ops.quote_name, TASK_COLUMNS))


def as_hint(row: dict[str, Any]) -> bytes:
    """What :func:`ask` gave, for a hint; empty when it is too long for one."""
    texts = ["" if value is None else str(value) for value in row.values()]
    hint = SEPARATOR.join([FORMAT, *texts]).encode()
    return hint if len(hint) <= MOST else b""


def from_hint(hint: bytes) -> dict[str, Any] | None:
    """``TASK_COLUMNS`` out of :func:`as_hint`, as Django would read them; None when it is none."""
    try:
        form, *texts = hint.decode().split(SEPARATOR)
        if form != FORMAT:
            return None
        return {
            name: None if not text and name in MAY_LACK else read(text)
            for (name, read), text in zip(COLUMNS.items(), texts, strict=True)
        }
    except (ValueError, OverflowError, RecursionError, ValidationError):
        return None
