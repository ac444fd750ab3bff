"""Noticing that the event loop hangs, where no service manager's watchdog does."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
import time
import traceback

logger = logging.getLogger("linod")

#: Seconds without an answer after which the event loop counts as hung; and the heartbeats, since
#: the process may have been frozen itself.
HUNG, HUNG_BEATS = 120.0, 3


class LoopWatch:
    """Ends the process when its event loop hangs: its jobs would be held, and nobody works.

    To be made in the loop's thread, and asked from another one.

    :param code: the exit code of a process that is ended so.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, code: int) -> None:
        self._loop = loop
        self._code = code
        self._thread = threading.get_ident()
        #: When the loop was asked for a sign (monotonic), and the questions since then.
        self._asked_at: float | None = None
        self._unanswered = 0

    def ask(self) -> None:
        """Ask for a sign; end the process when none has come for :data:`HUNG` seconds."""
        if self._asked_at is None:
            self._asked_at, self._unanswered = time.monotonic(), 0
            self._loop.call_soon_threadsafe(self._answer)
            return
        self._unanswered += 1
        if self._unanswered > HUNG_BEATS and time.monotonic() - self._asked_at > HUNG:
            frame = sys._current_frames().get(self._thread)
            where = "".join(traceback.format_stack(frame)) if frame else ""
            text = "linod ends: its event loop has not answered for %g seconds. It stands here:\n%s"
            logger.critical(text, HUNG, where)
            logging.shutdown()
            os._exit(self._code)

    def _answer(self) -> None:
        self._asked_at = None
