"""The log file in the hands of its one writer: appended to, rotated, and taken up after a crash.

The file itself says which records are in it (see :mod:`linod.loglines`), so nothing has to be kept
beside it. Whatever happens to the file between two writes is seen before the next one: renamed or
deleted, a new one is begun; emptied in place, it gets a new head.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import time
from pathlib import Path

from linod.loglines import CHECKPOINT, Tail, checkpoint_of, read_checkpoint

logger = logging.getLogger("linod")

#: Bytes from one checkpoint to the next, and how far back a new writer looks for one.
CHECKPOINT_EVERY = 1024 * 1024
LOOK_BACK = 8 * CHECKPOINT_EVERY
#: How many senders a checkpoint names at most.
MAX_SENDERS = 10_000
#: What is compared to see whether a new file is due, by the name of the period.
PERIODS = {"hour": "%Y-%m-%d %H", "day": "%Y-%m-%d"}


class LogFile:
    """Appends whole records and knows how far each sender has come.

    :param path: the file; its folder exists.
    :param max_bytes: begin a new file before this one grows larger; 0: however large.
    :param period: ``"hour"`` or ``"day"``: begin a new file with each, by local time; empty: never.
    :param keep: how many former files stay, as ``lino.log.1`` (the newest) and so on.
    """

    def __init__(self, path: Path, *, max_bytes: int = 0, period: str = "", keep: int = 10) -> None:
        self.path = path
        self.max_bytes = max_bytes
        self.period = period
        self.keep = keep
        #: The number of each sender's last record in the file.
        self.progress: dict[str, int] = {}
        self._file: int | None = None
        self._identity = (0, 0)
        self._size = 0
        self._has_head = False
        self._is_torn = False
        self._since_checkpoint = 0

    def take_up(self) -> None:
        """Open the file, cut off what a crash left unfinished, and learn what is in it."""
        self._open()
        start, tail = self._read_tail()
        if tail.progress is None:
            # A new file, or one that is not ours, or one whose writer died at its first line.
            self._end_foreign_line()
            self.progress = self._read_predecessor()
            self._has_head = False
            return
        self.progress = tail.progress
        self._has_head = True
        self._since_checkpoint = tail.whole
        if start + tail.whole < self._size:
            self._tell_of_cut(self.path, self._size - start - tail.whole)
            self._cut(start + tail.whole)

    def write(self, data: bytes, progress: dict[str, int]) -> None:
        """Append whole records; ``progress`` says how far their senders have come with them.

        :raises OSError: nothing of it is in the file; try again.
        """
        self._make_ready(len(data))
        self._append(data)
        self.progress.update(progress)
        self._since_checkpoint += len(data)
        if self._since_checkpoint > CHECKPOINT_EVERY:
            with contextlib.suppress(OSError):  # then with one of the next records
                self._append_checkpoint()

    def reopen(self) -> None:
        """Let go of the file; the next record opens the one that then has its name."""
        self.close()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            os.close(self._file)
            self._file, self._is_torn = None, False

    # What the file may need before something is appended

    def _make_ready(self, upcoming: int) -> None:
        if self._is_torn:
            self._cut(self._size)
        if self._file is not None:
            try:
                info = os.stat(self.path)
            except FileNotFoundError:
                self.close()
            else:
                if (info.st_dev, info.st_ino) != self._identity:
                    self.close()
                elif self._is_full(info, upcoming):
                    self.close()
                    self._rotate()
                else:
                    # Emptied in place: what the records that are gone told must be told again.
                    self._has_head = self._has_head and info.st_size >= self._size
                    self._size = info.st_size
        if self._file is None:
            self._open()
            self._end_foreign_line()
            self._has_head = False
        if not self._has_head:
            self._append_checkpoint()

    def _is_full(self, info: os.stat_result, upcoming: int) -> bool:
        if not self._has_head:
            return False
        if self.max_bytes and info.st_size + upcoming > self.max_bytes:
            return True
        if not self.period:
            return False
        # The file was last written when its last record came: was that in another period?
        name = PERIODS[self.period]
        last, now = time.localtime(info.st_mtime), time.localtime(time.time())
        return time.strftime(name, last) != time.strftime(name, now)

    def _rotate(self) -> None:
        """``lino.log`` becomes ``lino.log.1``, that becomes ``lino.log.2``, and the last one goes.

        However far a crash lets this come, no file is written over another that stays.
        """
        for number in range(self.keep, 0, -1):
            former = self._former(number - 1)
            with contextlib.suppress(FileNotFoundError):
                os.replace(former, self._former(number))

    def _former(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}") if number else self.path

    def _open(self) -> None:
        self.path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        self._file = os.open(self.path, flags, 0o640)
        info = os.fstat(self._file)
        self._identity, self._size = (info.st_dev, info.st_ino), info.st_size

    # Writing

    def _append(self, data: bytes) -> None:
        assert self._file is not None
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(self._file, rest) :]
        except OSError:
            self._is_torn = True
            self._cut(self._size)
            raise
        self._size += len(data)

    def _cut(self, size: int) -> None:
        assert self._file is not None
        os.ftruncate(self._file, size)
        self._size, self._is_torn = size, False

    def _append_checkpoint(self) -> None:
        self.progress = living(self.progress)
        self._append(checkpoint_of(self.progress))
        self._has_head = True
        self._since_checkpoint = 0

    # Reading

    def _read_tail(self) -> tuple[int, Tail]:
        """Where the last checkpoint begins, and what stands from there on."""
        assert self._file is not None
        return read_tail(self._file, self._size)

    def _end_foreign_line(self) -> None:
        """Let our first line begin at the beginning of a line."""
        assert self._file is not None
        if not self._size:
            return
        end = os.pread(self._file, 64, max(0, self._size - 64))
        line = end[end.rfind(b"\n") + 1 :]
        if line and (CHECKPOINT.startswith(line) or line.startswith(CHECKPOINT)):
            self._cut(self._size - len(line))  # our own head, cut off
        elif line:
            self._append(b"\n")

    def _read_predecessor(self) -> dict[str, int]:
        """What the file tells that had this name before: its writer may have died in between.

        What that writer left unfinished is cut off there as well: its sender sends it again.
        """
        others = [
            each
            for each in self.path.parent.glob(f"{self.path.name}[.-]*")
            if each.is_file() and not each.is_symlink()
        ]
        for other in sorted(others, key=lambda each: each.stat().st_mtime, reverse=True)[:3]:
            is_ours_to_mend = os.access(other, os.W_OK)
            with other.open("r+b" if is_ours_to_mend else "rb") as file:
                size = os.fstat(file.fileno()).st_size
                start, tail = read_tail(file.fileno(), size)
                if tail.progress is None:
                    continue
                if start + tail.whole < size and is_ours_to_mend:
                    self._tell_of_cut(other, size - start - tail.whole)
                    file.truncate(start + tail.whole)
                return tail.progress
        return {}

    @staticmethod
    def _tell_of_cut(path: Path, count: int) -> None:
        logger.info("%s: %d bytes of an unfinished record are cut off", path, count)


def read_tail(file: int, size: int) -> tuple[int, Tail]:
    """Where the last checkpoint of an open file begins, and what stands from there on."""
    start = max(0, size - LOOK_BACK)
    data = os.pread(file, size - start, start)
    at = len(data)
    while (at := data.rfind(CHECKPOINT, 0, at)) >= 0:
        is_line = data[at - 1 : at] == b"\n" if at else not start
        if is_line and read_checkpoint(data[at : data.find(b"\n", at) + 1]) is not None:
            break
    tail = Tail()
    if at >= 0:
        tail.read(io.BytesIO(data[at:]))
    return start + max(at, 0), tail


def living(progress: dict[str, int]) -> dict[str, int]:
    """Those senders whose process is there; only they can ever send a record again."""
    found = {sender: number for sender, number in progress.items() if _lives(sender)}
    return dict(list(found.items())[-MAX_SENDERS:])


def _lives(sender: str) -> bool:
    pid = int(sender.partition("-")[0])
    if not pid:  # a process of another container: nobody here can tell
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
