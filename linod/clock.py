"""The only reader of time for rows: the database's clock.

Daemons on several hosts agree on what is due because they all ask the same clock. SQLite has none
of its own; its host's clock serves. Tests may replace :data:`source`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from linod.conf import config

#: The current time in UTC, by vendor: PostgreSQL's does not stand still inside a transaction as
#: ``now()`` does; MariaDB's ``NOW()`` would be in the session's zone.
NOW_SQL = {"postgresql": "clock_timestamp()", "mysql": "UTC_TIMESTAMP(6)"}


def read(connection: BaseDatabaseWrapper) -> datetime:
    """The time by the database of that connection; aware, UTC."""
    sql = NOW_SQL.get(connection.vendor)
    if sql is None:
        return datetime.now(UTC)
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {sql}")
        return as_utc(cursor.fetchone()[0])


def host_milliseconds() -> int:
    """Milliseconds since 1970 by this host's clock: only for keys that sort by their making."""
    return time.time_ns() // 1_000_000


def as_utc(value: datetime | str) -> datetime:
    """What a driver returns for a moment (naive means UTC, SQLite gives text), aware in UTC."""
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


source: Callable[[BaseDatabaseWrapper], datetime] = read


def is_asked(connection: BaseDatabaseWrapper) -> bool:
    """Whether a statement may ask the server of that connection for the time by itself."""
    return source is read and connection.vendor in NOW_SQL


def as_term(connection: BaseDatabaseWrapper) -> tuple[str, list[Any]]:
    """The time for use inside a statement, and the parameters that it takes there."""
    if is_asked(connection):
        return NOW_SQL[connection.vendor], []
    return "%s", [connection.ops.adapt_datetimefield_value(source(connection))]


def db_now(using: str | None = None) -> datetime:
    """The time by the database ``using`` (default: the one that holds linod's rows)."""
    return source(connections[using or config().DATABASE])
