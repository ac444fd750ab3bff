"""The handler that sends a process's log records to the log server.

A settings module imports this before Django is set up::

    from linod.loghandler import logging_config

    LOGGING = logging_config(BASE_DIR / "log")
"""

from __future__ import annotations

import logging
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from linod import framing
from linod.exceptions import Interruption
from linod.logsender import PATIENCE, Sender
from linod.masking import known_secrets, mask

#: Characters of a text that are looked at; the server takes fewer.
LOOKED_AT = (96 * 1024, 16 * 1024)

_formatter = logging.Formatter()


def logging_config(log_dir: str | Path, level: str | int = "INFO") -> dict[str, Any]:
    """A whole ``LOGGING``: every logger's records at or above ``level`` go to the log server.

    What Django shows by itself (on the console, by mail to ``ADMINS``) stays.

    :param log_dir: the folder of the log file; the daemon serves there, unless ``LINOD["LOG_DIR"]``
        says otherwise.
    """
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "handlers": {
            "linod": {"class": "linod.loghandler.LinodHandler", "log_dir": str(log_dir)},
        },
        "root": {"handlers": ["linod"], "level": level},
    }


class LinodHandler(logging.Handler):
    """Numbers records and sends them to the log server; never waits for it.

    Secrets are masked here, before anything leaves the process. With a formatter of its own, the
    first line that it makes is the message and the others stand below it.

    :param log_dir: the folder of the log.
    """

    def __init__(self, log_dir: str | Path, level: int | str = logging.NOTSET) -> None:
        super().__init__(level)
        self.log_dir = Path(log_dir)
        self._sender = Sender(self.log_dir, self._dropped_body)
        self._secrets: tuple[str, ...] | None = None
        self._waited_in_vain = False

    def handle(self, record: logging.LogRecord) -> Any:
        """As every handler, but without the handler's lock: threads format side by side."""
        found: Any = self.filter(record)  # from Python 3.12 on perhaps another record
        if isinstance(found, logging.LogRecord):
            record = found
        if found:
            self.emit(record)
        return found

    def emit(self, record: logging.LogRecord) -> None:
        """Send a record, or keep it until the server takes it, or count it as dropped."""
        if not self._sender.has_room(record.levelno, record.created):
            return
        try:
            message, below = self._texts(record)
            body = framing.body_of(
                record.created, str(record.levelname), str(record.name), message, below
            )
        except (RecursionError, Interruption):
            raise
        except Exception:  # noqa: BLE001 - as in logging: whoever logs is not disturbed
            self.handleError(record)
            return
        self._waited_in_vain = False
        self._sender.put(body, at_once=record.levelno >= logging.WARNING)

    def _texts(self, record: logging.LogRecord) -> tuple[str, str]:
        below = ""
        try:
            if self.formatter is not None:
                message, _, below = self.formatter.format(record).partition("\n")
            else:
                message = record.getMessage()
        except Interruption:
            raise
        except Exception as error:  # noqa: BLE001 - the line says what is wrong, and where
            message = (
                f"A log message could not be formatted: {record.msg!r}"
                f" ({record.pathname}:{record.lineno}): {type(error).__name__}: {error}"
            )
        if self.formatter is None and (record.exc_info or record.exc_text or record.stack_info):
            below = _below(record)
        return self._masked(message), self._masked(below) if below else ""

    def _masked(self, text: str) -> str:
        if self._secrets is None:
            self._secrets = known_secrets()
        return mask(framing.cut(text, *LOOKED_AT), self._secrets or ())

    @staticmethod
    def _dropped_body(count: int, since: float) -> bytes:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(since))
        text = f"{count} record{'s' * (count != 1)} dropped since {when}: no room, no log server"
        return framing.body_of(since, "WARNING", __name__, text)

    def flush(self, seconds: float = PATIENCE) -> None:
        """Wait until the server has written all, at most so many seconds.

        ``logging.shutdown`` calls this when the process ends.
        """
        self._waited_in_vain = not self._sender.flush(seconds)

    def close(self) -> None:
        """Flush, unless that has just been in vain, and end; what is lost is told on stderr."""
        if not self._waited_in_vain:
            self._sender.flush()
        lost = self._sender.close()
        if lost and sys.stderr is not None:
            sys.stderr.write(
                f"linod: {lost} log record{'s' * (lost != 1)} not written,"
                f" no log server answers in {self.log_dir}\n"
            )
        super().close()


def _below(record: logging.LogRecord) -> str:
    """What stands below the message: traceback and stack."""
    parts = []
    if record.exc_info and record.exc_info[0] is not None:
        parts.append("".join(traceback.format_exception(*record.exc_info)).rstrip("\n"))
    elif record.exc_text:
        parts.append(record.exc_text)
    if record.stack_info:
        parts.append(_formatter.formatStack(record.stack_info))
    return "\n".join(parts)
