"""A job's log for its page: lines with their levels, and only so much of it at a time."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from linod.history import Job

#: Characters of a log that a page shows at first, and that one answer to its script has at most.
SHOWN, ANSWERED = 128 * 1024, 256 * 1024
#: Pieces that are read at a time; a long job has one a second.
PIECES = 200

#: How a line begins that a job said: its time and its level (``linod.capture``). The page's script
#: reads the lines that are sent to it by the same pattern.
HEAD = r"^[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9:]{8} (DEBUG|INFO|WARNING|ERROR|CRITICAL)(?= |$)"
_HEAD = re.compile(HEAD)


class Line(NamedTuple):
    """A line and its level, in small letters; a traceback's lines have that of its head."""

    level: str
    text: str


class Part(NamedTuple):
    """A part of a log: its text, the number of its last piece, and whether there is more."""

    text: str
    last: int
    more: bool


def lines(text: str) -> Iterator[Line]:
    """The lines of a log.

    >>> list(lines("2026-11-22 05:00:00 ERROR no\\n  more\\n"))
    [Line(level='error', text='2026-11-22 05:00:00 ERROR no'), Line(level='error', text='  more')]
    """
    level = "info"
    for text_line in text.removesuffix("\n").split("\n") if text else ():
        found = _HEAD.match(text_line)
        level = found[1].lower() if found else level
        yield Line(level, text_line)


def end_of(job: Job, size: int = SHOWN) -> Part:
    """The end of the log as it is stored, from the beginning of a line on."""
    found: list[str] = []
    total, last, more = 0, 0, False
    newest = job.logs.order_by("-n").values_list("n", "text")
    for n, text in newest[:PIECES]:
        last = last or n
        found.append(text)
        total += len(text)
        if total > size:
            break
    text = "".join(reversed(found))
    if len(text) > size:
        text = text[-size:].partition("\n")[2] or text[-size:]
        more = True
    elif len(found) == PIECES:
        more = job.logs.count() > PIECES
    return Part(text, last, more)


def after(job: Job, number: int) -> Part:
    """What came after the piece of that number; ``more``: ask again at once."""
    found: list[str] = []
    total, last = 0, number
    for n, text in job.logs.filter(n__gt=number).order_by("n").values_list("n", "text")[:PIECES]:
        if found and total + len(text) > ANSWERED:
            return Part("".join(found), last, more=True)
        found.append(text)
        total += len(text)
        last = n
    return Part("".join(found), last, more=len(found) == PIECES)


def pieces(job: Job) -> Iterator[bytes]:
    """The whole log for a download, a few pieces in memory at a time."""
    number = 0
    part = after(job, number)
    while part.text:
        yield part.text.encode()
        part = after(job, part.last)
