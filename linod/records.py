"""What the engine carries in memory between the rows and the bodies."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

from django.utils.translation import get_language

from linod.models import BackgroundTask
from linod.planning import Plan
from linod.procedures import Procedure

#: A job and the fence that its owner believes in.
Hold = tuple[uuid.UUID, int]


@dataclass(frozen=True)
class Terms:
    """On what terms an owner holds jobs."""

    using: str
    owner: uuid.UUID
    lease: float
    host: str = ""
    revision: str = ""


@dataclass(slots=True)
class Claimed:
    """A job that this owner holds, with what its task said when it was claimed."""

    id: uuid.UUID
    owner: uuid.UUID
    fence: int
    state: str
    task_id: int | None
    procedure: Procedure
    arguments: dict[str, Any]
    due_at: datetime
    trigger: str
    attempt: int
    log_level: str
    requested_by_id: Any = None
    missed: int = 0
    start_time: datetime | None = None
    timeout: float | None = None
    max_attempts: int = 1
    retry_delay: float = 60.0
    rerun_lost: bool = False
    task_version: int = 0
    #: Whether somebody else had its row locked when it was to be written the last time.
    is_held_up: bool = False

    @property
    def key(self) -> Hold:
        """Names this owner's hold of the job: whoever takes the job over gets a higher fence."""
        return self.id, self.fence

    @property
    def label(self) -> str:
        """How people call it: the task's name, or the procedure's for ad-hoc work."""
        if self.task_id is None:
            return str(self.procedure)
        return f"{_task_in(get_language())} #{self.task_id} {self.procedure.name}"


@lru_cache(maxsize=8)
def _task_in(language: str | None) -> str:
    """How a task is called in that language, which is active: each job's log says it."""
    return str(BackgroundTask._meta.verbose_name)


@dataclass(slots=True)
class Finished:
    """What came of a job, to be recorded: its final state and all that it leaves behind."""

    job: Claimed
    state: str
    start_time: datetime
    end_time: datetime
    error: str = ""
    result: Any = None
    progress: Any = None
    log: str = ""
    pieces: int = 0
    message: str = ""
    #: Whether it is still to be recorded: somebody else has locked its job's row, or its task's.
    is_held_up: bool = False
    #: Why it cannot be recorded at all.
    fault: str = ""

    @property
    def refusal(self) -> str:
        """What to say when it was not recorded."""
        if self.fault:
            return f"{self.job.label}: its outcome cannot be recorded: {self.fault}"
        return f"{self.job.label} was taken over; its outcome was dropped"


@dataclass(slots=True)
class Candidate:
    """A task that seems due, as it was read before the transaction, and what to do about it."""

    job: Claimed | None
    task_id: int
    version: int
    seqno: int
    requested_at: datetime | None
    next_run_at: datetime | None
    plan: Plan
    fault: str = ""
    #: Whether a hint told of it: its request may be about to be committed.
    is_told: bool = False
    #: Whether it comes to an instant that another job of the task was due at, or after.
    is_set_back: bool = False
