"""A database that answers and takes no writes, as during a failover."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection

READ_ONLY = {
    "sqlite": "PRAGMA query_only = 1",
    "postgresql": "SET default_transaction_read_only = on",
    "mysql": "SET SESSION TRANSACTION READ ONLY",
}


@contextmanager
def read_only() -> Iterator[None]:
    """So for this thread's connection; not inside a transaction."""
    with connection.cursor() as cursor:
        cursor.execute(READ_ONLY[connection.vendor])
    try:
        yield
    finally:
        connection.close()  # the next one may write
