"""The log of one job: every record emitted inside it, at or above its level, as lines of text.

A context variable names the capture of the job that the current thread or asyncio task runs; one
handler, at the root and at each logger that does not propagate, hands records to it. Threads that a
body starts by itself begin with an empty context: their records go to the site's log only.
"""

from __future__ import annotations

import logging
import re
import threading
from collections import deque
from contextvars import ContextVar
from functools import lru_cache
from typing import Any

from django.core.signals import setting_changed

from linod.exceptions import Interruption
from linod.masking import known_secrets, mask

#: Characters of a job's log that are kept: its head, and when it grows longer, its tail.
HEAD = 768 * 1024
TAIL = 256 * 1024

current: ContextVar[Capture | None] = ContextVar("linod_capture", default=None)

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def storable(text: str) -> str:
    """``text`` with what databases refuse (NUL, lone surrogates) escaped.

    >>> storable("a\\x00b \\ud800")
    'a\\\\x00b \\\\ud800'
    """
    return _UNSTORABLE.sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\u{code:04x}" if code else "\\x00"


@lru_cache(maxsize=1)
def _site_secrets() -> tuple[str, ...]:
    return known_secrets() or ()


def _forget(**kwargs: Any) -> None:
    """A test has changed a setting."""
    _site_secrets.cache_clear()


setting_changed.connect(_forget, dispatch_uid="linod.capture")


def without_secrets(text: str) -> str:
    """``text`` as it may be kept: masked as in the site's log, see :mod:`linod.masking`."""
    return mask(text, _site_secrets())


class _Lines(logging.Formatter):
    """Makes a record's line once for all who show it, and the time of day once a second."""

    _second: tuple[int, str] = 0, ""

    def format(self, record: logging.LogRecord) -> str:
        line: str | None = record.__dict__.get("linod_line")
        if line is None:
            line = record.__dict__["linod_line"] = super().format(record)
        return line

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802
        # One value, read and set at once: threads format side by side.
        second, text = self._second
        if second != int(record.created):
            text = super().formatTime(record, datefmt)
            self._second = int(record.created), text
        return text


class Capture:
    """Collects the lines of one job; written by its body, drained by whoever stores them.

    :param level: the lowest level that is kept, as ``logging`` numbers them.
    """

    formatter = _Lines("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%d %H:%M:%S")

    def __init__(self, level: int) -> None:
        self.level = level
        self._lock = threading.Lock()
        self._fresh: list[str] = []
        self._head_size = 0
        self._tail: deque[str] = deque()
        self._tail_size = 0
        self._left_out = 0

    def add(self, record: logging.LogRecord) -> None:
        """Keep a record, once, if it is loud enough."""
        if record.levelno < self.level or getattr(record, "linod_capture", None) is self:
            return
        record.linod_capture = self
        self.add_text(self._line(record))

    def _line(self, record: logging.LogRecord) -> str:
        try:
            return self.formatter.format(record) + "\n"
        except Interruption:
            raise
        except Exception as error:  # noqa: BLE001 - as in logging: a bad line must not end its job
            said = record.msg if isinstance(record.msg, str) else type(record.msg).__name__
            why = f"{said!r} ({record.pathname}:{record.lineno}): {type(error).__name__}"
            return self.line_of(record.levelno, f"A log message could not be formatted: {why}")

    @classmethod
    def line_of(cls, level: int, text: str) -> str:
        """The line that ``text`` makes."""
        record = logging.LogRecord("linod.job", level, __file__, 0, text, None, None)
        return cls.formatter.format(record) + "\n"

    def add_text(self, text: str) -> None:
        """Keep lines, without the site's secrets."""
        text = storable(without_secrets(text))
        with self._lock:
            room = HEAD - self._head_size
            if room:
                self._head_size += min(len(text), room)
                self._fresh.append(text[:room])
            if len(text) > room:
                self._add_to_tail(text[room:])

    def _add_to_tail(self, text: str) -> None:
        if len(text) > TAIL:
            self._left_out += len(text) - TAIL
            text = text[-TAIL:]
        self._tail.append(text)
        self._tail_size += len(text)
        while self._tail_size > TAIL:
            dropped = self._tail.popleft()
            self._tail_size -= len(dropped)
            self._left_out += len(dropped)

    def drain(self) -> str:
        """Take the lines of the head that came since the last call."""
        with self._lock:
            fresh, self._fresh = self._fresh, []
        return "".join(fresh)

    def drain_all(self) -> str:
        """Take everything that is left: at the end of the job."""
        text = self.drain()
        with self._lock:
            tail, self._tail = "".join(self._tail), deque()
            left_out, self._left_out, self._tail_size = self._left_out, 0, 0
        mark = f"\n... {left_out} characters left out ...\n" if left_out else ""
        return text + mark + tail


class CaptureHandler(logging.Handler):
    """Hands records to the capture of the job in whose context they are emitted."""

    def __init__(self) -> None:
        super().__init__(level=logging.NOTSET)

    def handle(self, record: logging.LogRecord) -> bool:
        """Add the record to the current job's log, without the handler's lock: it has its own."""
        capture = current.get()
        if capture is not None:
            capture.add(record)
        last = logging.lastResort
        if last is not None and record.levelno >= last.level and not is_heard(record.name):
            # Where there is no other handler, logging would have turned to its last resort.
            last.handle(record)
        return True


handler = CaptureHandler()


def is_heard(name: str, besides: tuple[type[logging.Handler], ...] = ()) -> bool:
    """Whether records of that logger reach a handler that is not ours nor of ``besides``."""
    deaf: tuple[type[logging.Handler], ...] = (CaptureHandler, *besides)
    logger: logging.Logger | None = logging.getLogger(name)
    while logger is not None:
        for each in logger.handlers:
            if not isinstance(each, deaf):
                return True
        logger = logger.parent if logger.propagate else None
    return False


_install_lock = threading.Lock()


class _FormerLevel(logging.Filter):
    """Keeps a handler as quiet as it was before captures lowered the root's level.

    :param level: the root's level then; it stands for all loggers without a level of their own.
    """

    def __init__(self, level: int) -> None:
        super().__init__()
        self.level = level

    def filter(self, record: logging.LogRecord) -> bool:
        # What a procedure says through its request was let pass by its task's level.
        is_wanted = record.levelno >= self.level or hasattr(record, "linod_request")
        return is_wanted or _has_own_level(record.name)


def _has_own_level(name: str) -> bool:
    """Whether the logger or one above it says itself how loud it is; linod's own always do."""
    while name and name != "linod":
        logger = logging.Logger.manager.loggerDict.get(name)
        if isinstance(logger, logging.Logger) and logger.level:
            return True
        name = name.rpartition(".")[0]
    return bool(name)


def install(level: int = logging.INFO) -> None:
    """Make loggers hand their records at or above ``level`` to captures; repeat as you like.

    A logger without a level of its own follows the root's, which is WARNING by default: a job at
    level INFO would have no log. So the root is lowered, and the handlers that exist keep to its
    former level.
    """
    root = logging.getLogger()
    with _install_lock:
        known = list(logging.Logger.manager.loggerDict.values())
        loggers = [root, *(each for each in known if isinstance(each, logging.Logger))]
        if handler not in root.handlers:
            former = _FormerLevel(root.level)
            for other in {each for logger in loggers for each in logger.handlers} - {handler}:
                other.addFilter(former)
        for logger in loggers:
            if logger is root or not logger.propagate:
                logger.addHandler(handler)
        if root.level > level:
            root.setLevel(level)
