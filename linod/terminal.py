"""What the command writes beside its answers: linod's log on the terminal, and a clean end."""

from __future__ import annotations

import io
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from linod import capture
from linod.loghandler import LinodHandler

_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))}
_CONTROLS_IN_LINES = {code: text for code, text in _CONTROLS.items() if chr(code) not in "\n\t"}


def visible(text: str, *, in_lines: bool = True) -> str:
    """Text that can neither move the cursor nor recolour a terminal.

    >>> visible("a\\tb\\x1b[31m")
    'a\\tb\\\\x1b[31m'
    """
    if text.isprintable():  # so are nearly all, and to look is cheaper than to translate
        return text
    return text.translate(_CONTROLS_IN_LINES if in_lines else _CONTROLS)


def occupy_closed_streams() -> None:
    """Open ``/dev/null`` in the place of standard streams that are closed.

    Else the next file, a database's or a log's, gets such a number, and with it whatever some
    library or a body's subprocess writes "to the terminal".
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


def escape_unsayable(stream: TextIO | None) -> None:
    """What a standard stream's encoding cannot say is escaped, as it is on standard error."""
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")


class Nowhere(io.StringIO):
    """What stands for ``sys.stdout`` or ``sys.stderr`` where Python found that stream closed."""

    def write(self, text: str, /) -> int:
        """Take the text, and forget it."""
        return len(text)


class Unheard(logging.Handler):
    """Writes what no handler of the site shows: linod's and jobs' lines, and others' warnings."""

    def __init__(self, out: TextIO) -> None:
        super().__init__()
        self.out = out
        self._gone: set[TextIO] = set()
        self.setFormatter(capture.Capture.formatter)
        self.addFilter(self.is_wanted)

    @staticmethod
    def is_wanted(record: logging.LogRecord) -> bool:
        """A job's own level decides inside it; elsewhere linod is heard from INFO on."""
        job = capture.current.get()
        if job is not None:
            level = job.level
        else:
            level = logging.INFO if record.name.startswith("linod") else logging.WARNING
        return record.levelno >= level and not capture.is_heard(record.name, DEAF)

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line; a terminal that has gone away must not disturb anybody."""
        self.write(self.out, visible(self.format(record)) + "\n")

    def write(self, stream: TextIO, text: str) -> None:
        """Write what the stream's encoding can say; nothing any more once nobody listens."""
        if stream in self._gone:
            return
        encoding = getattr(stream, "encoding", None) or "utf-8"
        try:
            stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
            stream.flush()
        except (OSError, ValueError):
            self._gone.add(stream)


#: Handlers that show nobody here what they get, beside the one that this module adds. LinodHandler
#: leads to a file: what is said here must not depend on whether that can be written.
DEAF = (logging.NullHandler, LinodHandler, Unheard)


@contextmanager
def shown(handler: Unheard) -> Iterator[None]:
    """Show on the terminal, for so long, what nobody else shows."""
    root = logging.getLogger()
    capture.install()
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)


def let_go(*streams: TextIO | None) -> None:
    """Flush; whoever read our output and went away is no error, also not at the very end.

    Nor is a disk that is full: an answer that did not fit was told of before.
    """
    for stream in streams:
        try:
            if stream is not None:
                stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # type: ignore[union-attr]


def leave(code: int) -> None:
    """End the process whatever threads are still at it, with all that was said written out."""
    logging.shutdown()
    let_go(sys.stdout, sys.stderr)
    os._exit(code)
