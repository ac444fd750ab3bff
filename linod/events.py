"""What the live page shows, as JSON: the same for its views and for its websocket.

Events say what a thing is now. ``docs/channels.rst`` lists their keys.
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

from linod.history import Job
from linod.models import BackgroundTask
from linod.records import Claimed, Finished
from linod.status import status_kind

#: What ``hello`` says; grows when a page that knows the former events would show something wrong.
VERSION = 1
#: Characters of an error's last line that are shown.
ERROR = 200
#: Characters of a log that one event carries.
PIECE = 16 * 1024
#: Keys that only those see who may read logs.
PRIVATE = {"job": "error", "task": "disabled_reason"}

Event = dict[str, Any]


def moment_text(moment: datetime | None) -> str | None:
    """A moment in UTC as ISO 8601 writes it, with microseconds.

    >>> moment_text(datetime(2026, 11, 22, 16, 1, tzinfo=UTC))
    '2026-11-22T16:01:00.000000+00:00'
    """
    return None if moment is None else moment.astimezone(UTC).isoformat(timespec="microseconds")


def last_line(error: str) -> str:
    """What an error comes down to.

    >>> last_line("Traceback ...\\nValueError: no such page\\n")
    'ValueError: no such page'
    """
    return error.strip().rpartition("\n")[2][:ERROR]


def job_data(job: Job) -> Event:
    """A job by its row."""
    return {
        "id": str(job.pk),
        "task": job.task_id,
        "name": str(job.procedure),
        "state": str(job.state),
        "trigger": str(job.trigger),
        "due_at": moment_text(job.due_at),
        "start_time": moment_text(job.start_time),
        "end_time": moment_text(job.end_time),
        "attempt": job.attempt,
        "host": job.host,
        "missed": job.missed,
        "log_level": job.log_level,
        "progress": job.progress,
        "error": last_line(job.error),
    }


def claimed_data(job: Claimed, host: str) -> Event:
    """A job by what its owner remembers: as its row says, without reading it."""
    return {
        "id": str(job.id),
        "task": job.task_id,
        "name": str(job.procedure),
        "state": str(job.state),
        "trigger": str(job.trigger),
        "due_at": moment_text(job.due_at),
        "start_time": moment_text(job.start_time),
        "end_time": None,
        "attempt": job.attempt,
        "host": host,
        "missed": job.missed,
        "log_level": job.log_level,
        "progress": None,
        "error": "",
    }


def finished_data(ended: Finished, host: str) -> Event:
    """A job that has ended, by what was recorded."""
    return claimed_data(ended.job, host) | {
        "state": str(ended.state),
        "start_time": moment_text(ended.start_time),
        "end_time": moment_text(ended.end_time),
        "progress": ended.progress,
        "error": last_line(ended.error),
    }


def task_data(task: BackgroundTask, running: uuid.UUID | None) -> Event:
    """A task by its row; ``running``: its job whose body has begun."""
    return {
        "id": task.pk,
        "seqno": task.seqno,
        "name": task.name,
        "procedure": str(task.procedure),
        "known": task.procedure.is_known,
        "log_level": task.log_level,
        "disabled": task.disabled,
        "disabled_until": moment_text(task.disabled_until),
        "disabled_reason": task.disabled_reason,
        "every_unit": task.every_unit,
        "next_run_at": moment_text(task.next_run_at),
        "requested_at": moment_text(task.requested_at),
        "last_start_time": moment_text(task.last_start_time),
        "last_end_time": moment_text(task.last_end_time),
        "failures": task.failures,
        "running": None if running is None else str(running),
        "status": status_kind(task, running is not None),
    }


def log_data(job_id: uuid.UUID, n: int, text: str) -> Event:
    """A piece of a log; of a very long one the end, cut at a line where it can be."""
    is_cut = len(text) > PIECE
    if is_cut:
        text = text[-PIECE:]
        text = text.partition("\n")[2] or text
    return {"type": "log", "job": str(job_id), "n": n, "lines": lines_of(text), "cut": is_cut}


def lines_of(text: str) -> list[str]:
    """The lines of a log without their ends; other line separators are text.

    >>> lines_of("one\\ntwo\\x0b\\n")
    ['one', 'two\\x0b']
    """
    return text.removesuffix("\n").split("\n") if text else []


def without_logs(event: Event) -> Event:
    """The event for somebody who may not read logs."""
    key = PRIVATE.get(event["type"])
    if key is None or not event[event["type"]].get(key):
        return event
    return event | {event["type"]: event[event["type"]] | {key: ""}}
