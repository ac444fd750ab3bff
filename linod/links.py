"""The engine's connections to a server, as somebody else than their threads sees them.

A link may swallow for ever what is sent: a firewall has forgotten it, or what stands behind a load
balancer is gone, or the server stands still. Nobody says so, and whoever waits for an answer waits
without end, while a new connection would work at once.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import Error, connections

logger = logging.getLogger("linod")

#: Seconds between two looks; and while no thread waits for its server: each look costs a little.
LOOK, LOOK_IDLE = 0.5, 2.0
#: Looks without a sign of life until a link is cut: longer than the engine lets a server work at a
#: statement (``transactions.POSTGRESQL_BOUNDS``); and during a stop, which has no time for that.
SILENT, SILENT_AT_STOP = 12, 3
#: Looks after which an action counts as held up.
HELD_UP = 2
#: Seconds that a thread gets to end before its link is cut, and after it.
BRIEF = 0.15
#: Options of the drivers where the site says nothing. The network's own limits serve those links,
#: too, that nobody looks at.
OPTIONS: dict[str, dict[str, Any]] = {
    "postgresql": {
        "connect_timeout": 3,
        "keepalives_idle": 3,
        "keepalives_interval": 1,
        "keepalives_count": 3,
        "tcp_user_timeout": 6000,
    },
    "mysql": {"connect_timeout": 3, "read_timeout": 10, "write_timeout": 10},
}


class Link:
    """One thread's connection; knows when the server last gave a sign of life, and can be cut.

    SQLite has no server: nothing is cut there.
    """

    def __init__(self, using: str) -> None:
        self.using = using
        #: Whether the last action was answered.
        self.answers = True
        self._lock = threading.Lock()
        self._has_server = False
        self._is_busy = False
        self._looks = 0
        # A duplicate: the driver may close its own descriptor at any moment, and the number would
        # be somebody else's.
        self._descriptor: int | None = None

    # In its thread

    def open(self) -> None:
        """Take care of this thread's connection from now on."""
        connection: Any = connections[self.using]
        if connection.vendor not in OPTIONS:
            return
        self._has_server = True
        _leave_pool(connection)
        connection.execute_wrappers.append(self._execute)
        connect, options = connection.get_new_connection, OPTIONS[connection.vendor]
        connection.get_new_connection = lambda params: self._follow(connect(options | params))

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """While an action runs: from its begin on the server is waited for."""
        with self._lock:
            self._is_busy, self._looks = True, 0
        try:
            yield
        finally:
            with self._lock:
                self._is_busy = False

    def close(self) -> None:
        """Close the connection; the next action makes a new one."""
        with self._lock:
            self._forget()
        # What a broken link says at its end concerns nobody; the thread has to go on.
        with contextlib.suppress(Error):
            connections[self.using].close()

    def _execute(self, execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        """A wrapper of database calls: an answer is a sign of life, and so is an error."""
        try:
            return execute(sql, params, many, context)
        finally:
            with self._lock:
                self._looks = 0

    def _follow(self, raw: Any) -> Any:
        """Take note of a new connection of the driver; returns it."""
        with self._lock:
            self._forget()
            # What stands in for mysqlclient may not show its socket.
            if hasattr(raw, "fileno"):
                self._descriptor = os.dup(raw.fileno())
        return raw

    def _forget(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    # In any thread

    def look(self, patience: int) -> int:
        """Cut the link at so many looks without a sign of life; returns how many there were.

        Looks and not seconds: after a time in which this process was frozen itself, the answer
        may be there and only be unread.
        """
        with self._lock:
            if not self._is_busy:
                return 0
            self._looks += 1
            if self._looks < patience or not self._cut():
                return self._looks
        logger.warning(
            "The database has not answered for %g seconds: its link is cut", patience * LOOK
        )
        return patience

    def _cut(self) -> bool:
        """Let who waits for an answer get an error; False: a new connection is under way."""
        if self._descriptor is None:
            return False
        with (
            socket.socket(fileno=self._descriptor) as end,
            contextlib.suppress(OSError),  # it was cut by others
        ):
            end.shutdown(socket.SHUT_RDWR)
        self._descriptor = None
        return True

    def part(self, thread: threading.Thread, patience: float) -> None:
        """Wait for the end of its thread, which was told to end; a server is not waited for."""
        thread.join(min(patience, BRIEF))
        with self._lock:
            waits_for_server = self._has_server and self._is_busy
            if waits_for_server:
                self._cut()
        thread.join(BRIEF if waits_for_server else patience)


def _leave_pool(connection: Any) -> None:
    """A pool of the site's would hand out one silent link after the other."""
    site = connection.settings_dict
    if "pool" in site["OPTIONS"]:
        # A copy: all threads share the settings.
        options = {name: value for name, value in site["OPTIONS"].items() if name != "pool"}
        connection.settings_dict = {**site, "OPTIONS": options}
