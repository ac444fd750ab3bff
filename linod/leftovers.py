"""Transactions that a body leaves open: whoever has its thread next must not be inside of them."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from django.db import Error, connections
from django.db.backends.base.base import BaseDatabaseWrapper


def open_transactions() -> set[str]:
    """The aliases of this thread's connections that are inside of a transaction.

    By what Django knows of them, because this is asked behind every body: no query, no call.
    """
    return {each.alias for each in connections.all(initialized_only=True) if _is_open(each)}


def _is_open(connection: BaseDatabaseWrapper) -> bool:
    return connection.in_atomic_block or (
        not connection.autocommit
        and connection.connection is not None
        and connection.settings_dict["AUTOCOMMIT"]
    )


def throw_away(alias: str) -> None:
    """Roll back this thread's open transaction, and let the thread have a new connection.

    To close it is not enough: what was closed inside of ``atomic()`` Django keeps until the end of
    the block, which never comes, and refuses all statements until then.
    """
    connection: Any = connections[alias]
    del connections[alias]
    with suppress(Error):  # it may be closed or broken already: then nothing is open any more
        if connection.vendor == "sqlite":
            # Django does not close one that is in memory, and its locks would stay.
            connection._rollback()
        connection.close()
