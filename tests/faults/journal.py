"""The file outside the database in which bodies write when they begin and end.

One line of one write() with O_APPEND: lines of several processes never mix. Moments are the
monotonic clock's, which all processes of this machine share and which no fault sets.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: Names the file.
VARIABLE = "LINOD_FAULTS_JOURNAL"
BEGIN, END = "begin", "end"

_file: int | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """What a body wrote; ``at`` is in seconds of the monotonic clock, ``due`` since 1970."""

    event: str
    job: str
    attempt: int
    fence: int
    task: int
    pid: int
    at: float
    due: float
    note: str = ""


def write(event: str, ar: Any, note: str = "") -> None:
    """Append one line about the job of this request; asks the database nothing."""
    global _file  # noqa: PLW0603 - one file a process
    if _file is None:
        _file = os.open(os.environ[VARIABLE], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    job = ar._sink.job
    words = (
        event, job.id.hex, job.attempt, job.fence, job.task_id, os.getpid(),
        f"{time.monotonic():.6f}", f"{job.due_at.timestamp():.6f}", note,
    )  # fmt: skip
    os.write(_file, (" ".join(map(str, words)).rstrip() + "\n").encode())


def read(path: Path) -> list[Line]:
    """All lines, in the order in which they were written."""
    if not path.exists():
        return []
    # Who reads meanwhile may see a part of the last line.
    whole, _end, _part = path.read_text().rpartition("\n")
    return [_line(text) for text in whole.splitlines()]


def _line(text: str) -> Line:
    event, job, attempt, fence, task, pid, at, due, *note = text.split(" ", 8)
    return Line(
        event, job, int(attempt), int(fence), int(task), int(pid), float(at), float(due), *note
    )
