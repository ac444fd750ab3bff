"""Moments that the measured process notes, in memory that it shares with the one that measures.

A note is two stores into a mapped file: no query and no system call. (A ``write()`` gives up the
interpreter's lock, and getting it back from busy threads takes milliseconds: it changed what was
measured.)
"""

from __future__ import annotations

import itertools
import mmap
import os
import struct
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

#: Names the file; without it nothing is noted.
VARIABLE = "LINOD_BENCH_NOTES"
RECORD = struct.Struct("=qdddB")
#: Most notes of one run; the file is sparse.
ROOM = 1_000_000

#: Kinds of notes: a body began; outcomes were committed.
BEGAN, RECORDED = 1, 2
#: In the last byte: nothing is written here yet.
EMPTY = 0


class Note(NamedTuple):
    """One moment.

    :param number: which task, or how many outcomes.
    :param due: seconds since the epoch at which the body was due; 0 for outcomes.
    :param wall: seconds since the epoch.
    :param monotonic: seconds of the clock that all processes of a Linux machine share.
    :param kind: ``BEGAN`` or ``RECORDED``.
    """

    number: int
    due: float
    wall: float
    monotonic: float
    kind: int


#: The places of the notes, in order; ``next()`` gives each to one thread only.
_places = itertools.count(0, RECORD.size)


@cache
def _memory() -> mmap.mmap:
    with open(os.environ[VARIABLE], "r+b") as file:
        return mmap.mmap(file.fileno(), 0)


def note(kind: int, number: int, due: float = 0.0) -> None:
    """Write down that it happened now."""
    wall, monotonic = time.time(), time.monotonic()
    memory, place = _memory(), next(_places)
    RECORD.pack_into(memory, place, number, due, wall, monotonic, EMPTY)
    # The kind comes last: a reader takes a note that has one.
    memory[place + RECORD.size - 1] = kind


class Reader:
    """Makes the memory, and reads what has been noted since it last looked."""

    def __init__(self, path: Path) -> None:
        with path.open("w+b") as file:
            file.truncate(ROOM * RECORD.size)
            self._memory = mmap.mmap(file.fileno(), 0)
        self._place = 0

    def fresh(self) -> Iterator[Note]:
        """The notes that came since the last call."""
        while self._memory[self._place + RECORD.size - 1] != EMPTY:
            yield Note._make(RECORD.unpack_from(self._memory, self._place))
            self._place += RECORD.size

    def close(self) -> None:
        self._memory.close()
