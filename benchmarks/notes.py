"""A file of moments that the measured process writes: one small append, and no query, for each."""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

#: Names the file; without it nothing is noted.
VARIABLE = "LINOD_BENCH_NOTES"
RECORD = struct.Struct("=cqddd")

BEGAN, RECORDED = b"b", b"r"


class Note(NamedTuple):
    """One moment.

    :param kind: ``BEGAN``: a body began; ``RECORDED``: outcomes were committed.
    :param number: which task, or how many outcomes.
    :param due: seconds since the epoch at which the body was due; 0 for outcomes.
    :param wall: seconds since the epoch.
    :param monotonic: seconds of the clock that all processes of a Linux machine share.
    """

    kind: bytes
    number: int
    due: float
    wall: float
    monotonic: float


@cache
def _file() -> int:
    return os.open(os.environ[VARIABLE], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


def note(kind: bytes, number: int, due: float = 0.0) -> None:
    """Write down that it happened now."""
    wall, monotonic = time.time(), time.monotonic()
    os.write(_file(), RECORD.pack(kind, number, due, wall, monotonic))


class Reader:
    """Reads what has been noted since it last looked."""

    def __init__(self, path: Path) -> None:
        path.touch()
        self._file = path.open("rb", buffering=0)

    def fresh(self) -> Iterator[Note]:
        """The notes that came since the last call."""
        size = os.fstat(self._file.fileno()).st_size - self._file.tell()
        whole = size - size % RECORD.size
        if whole:
            yield from map(Note._make, RECORD.iter_unpack(self._file.read(whole)))

    def close(self) -> None:
        self._file.close()
