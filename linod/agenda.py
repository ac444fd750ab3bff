"""Looking: what is due, and when something will be. Nothing here locks or writes."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

from django.conf import settings
from django.db import connections
from django.db.models import Exists, OuterRef, QuerySet

from linod import clock
from linod.exceptions import InvalidRecurrence, MissingExtra
from linod.history import Job, time_ordered_uuid
from linod.models import BackgroundTask
from linod.planning import Plan, plan
from linod.procedures import Procedures
from linod.records import Candidate, Claimed
from linod.recurrence import Recurrence
from linod.rowrules import rule_of
from linod.rules import WEEKDAYS

#: What a job takes over from its task.
TASK_COLUMNS = (
    "id", "version", "seqno", "procedure", "arguments", "log_level", "requested_at",
    "requested_by_id", "next_run_at", "timeout", "max_attempts", "retry_delay", "rerun_lost",
)  # fmt: skip
#: What decides about a due instant, besides.
RULE_COLUMNS = (
    "missed", "missed_within", "every_unit", "every", "start_date", "start_time", "end_date",
    "end_time", *WEEKDAYS, "positions", "max_events", "cron", "time_zone",
)  # fmt: skip


def idle_tasks(using: str) -> QuerySet[BackgroundTask]:
    """Tasks of known procedures that have no active job."""
    active = Job.objects.using(using).filter(active_task=OuterRef("pk"))
    return BackgroundTask.objects.using(using).filter(
        ~Exists(active), procedure__in=Procedures.known_names()
    )


def peek(using: str, owner: uuid.UUID, now: datetime, limit: int) -> list[Candidate]:
    """Up to ``limit`` tasks that may be claimed: requested ones first, then the longest due."""
    found = peek_requested(using, owner, now, limit)
    if len(found) < limit:
        due = idle_tasks(using).filter(next_run_at__lte=now, requested_at=None)
        rows = due.order_by("next_run_at", "seqno").values(*TASK_COLUMNS, *RULE_COLUMNS)
        found += [_candidate(row, owner, now) for row in rows[: limit - len(found)]]
    return _in_order(using, found)


def peek_requested(using: str, owner: uuid.UUID, now: datetime, limit: int) -> list[Candidate]:
    """Up to ``limit`` tasks that somebody wants to run as soon as possible, the first first."""
    rows = idle_tasks(using).filter(requested_at__lte=now).order_by("requested_at", "seqno")
    return [_candidate(row, owner, now) for row in rows.values(*TASK_COLUMNS)[:limit]]


def _candidate(row: dict[str, Any], owner: uuid.UUID, now: datetime) -> Candidate:
    requested, fault = row["requested_at"], ""
    decided = Plan(requested, row["next_run_at"])
    if requested is None:
        try:
            rule = recurrence_of(row)
            decided = plan(rule, row["next_run_at"], now, row["missed"], row["missed_within"])
        except (InvalidRecurrence, MissingExtra) as error:
            decided, fault = Plan(None, None), str(error)
    job = None
    if decided.due_at is not None:
        trigger = Job.Trigger.SCHEDULE if requested is None else Job.Trigger.REQUEST
        job = new_job(row, owner, decided.due_at, trigger)
        job.missed, job.requested_by_id = decided.missed, row["requested_by_id"]
    return Candidate(
        job, row["id"], row["version"], row["seqno"], requested, row["next_run_at"], decided, fault
    )


def recurrence_of(row: dict[str, Any]) -> Recurrence:
    """The rule that a task's columns describe; the same columns give the same object."""
    return rule_of(
        row["every_unit"],
        row["every"],
        row["start_date"],
        row["start_time"],
        row["end_date"],
        row["end_time"],
        frozenset(n for n, name in enumerate(WEEKDAYS) if row[name]),
        row["positions"],
        row["max_events"],
        row["cron"],
        row["time_zone"] or settings.TIME_ZONE,
    )


def new_job(row: dict[str, Any], owner: uuid.UUID, due_at: datetime, trigger: str) -> Claimed:
    """A job for a task whose columns ``row`` gives, not inserted yet."""
    return Claimed(
        id=time_ordered_uuid(),
        owner=owner,
        fence=1,
        state=Job.State.RUNNING,
        task_id=row["id"],
        procedure=row["procedure"],
        arguments=row["arguments"],
        due_at=due_at,
        trigger=trigger,
        attempt=1,
        log_level=row["log_level"],
        timeout=row["timeout"],
        max_attempts=row["max_attempts"],
        retry_delay=row["retry_delay"],
        rerun_lost=row["rerun_lost"],
        task_version=row["version"],
    )


def _in_order(using: str, candidates: list[Candidate]) -> list[Candidate]:
    """Leave out those whose ``run_after`` names a procedure that is due as well, or running."""
    wanted = {
        earlier
        for c in candidates
        if c.job is not None
        for name in c.job.procedure.run_after
        if (earlier := Procedures.get_by_name(name)) is not None
    }
    if not wanted:
        return candidates
    busy = {c.job.procedure for c in candidates if c.job is not None and c.job.procedure in wanted}
    names = [name for procedure in wanted - busy for name in procedure.names]
    if names:
        active = Job.objects.using(using).filter(active_task__isnull=False, procedure__in=names)
        busy |= set(active.values_list("procedure", flat=True))
    return [
        c
        for c in candidates
        if c.job is None
        or not any(Procedures.get_by_name(name) in busy for name in c.job.procedure.run_after)
    ]


def peek_waiting(using: str, owner: uuid.UUID, now: datetime, limit: int) -> list[Claimed]:
    """Waiting jobs whose moment has come and whose task has no active job."""
    active = Job.objects.using(using).filter(active_task=OuterRef("task_id"))
    jobs = (
        Job.objects.using(using)
        .filter(~Exists(active), available_at__lte=now, state=Job.State.WAITING)
        .filter(procedure__in=Procedures.known_names())
        .select_related("task")
        .order_by("available_at", "-priority")[:limit]
    )
    return _first_of_each_task(from_row(job, owner) for job in jobs)


def _first_of_each_task(jobs: Iterable[Claimed]) -> list[Claimed]:
    kept: dict[object, Claimed] = {}
    for job in jobs:
        kept.setdefault(job.task_id if job.task_id is not None else job.id, job)
    return list(kept.values())


def from_row(job: Job, owner: uuid.UUID) -> Claimed:
    """A job as its row (read with its task) has it; held by ``owner`` once that is claimed."""
    claimed = Claimed(
        id=job.id,
        owner=owner,
        fence=job.fence,
        state=job.state,
        task_id=job.task_id,
        procedure=job.procedure,
        arguments=job.arguments,
        due_at=job.due_at,
        trigger=job.trigger,
        attempt=job.attempt,
        log_level=job.log_level,
        requested_by_id=job.requested_by_id,
        missed=job.missed,
        start_time=job.start_time,
    )
    task = job.task
    if task is not None:
        claimed.timeout = task.timeout
        claimed.max_attempts = task.max_attempts
        claimed.retry_delay = task.retry_delay
        claimed.rerun_lost = task.rerun_lost
        claimed.task_version = task.version
    return claimed


# When to look again


@dataclass(frozen=True, slots=True)
class Agenda:
    """The database's time, and the earliest moment at which each kind of work is due.

    ``read_at`` is the monotonic clock's reading (seconds) that belongs to ``now``.
    """

    now: datetime
    read_at: float
    requested_at: datetime | None
    next_run_at: datetime | None
    available_at: datetime | None
    lease_until: datetime | None
    disabled_until: datetime | None

    @property
    def earliest(self) -> datetime | None:
        """The earliest moment at which there is something to claim, or to enable."""
        moments = (self.requested_at, self.next_run_at, self.available_at, self.disabled_until)
        return min((moment for moment in moments if moment is not None), default=None)

    def is_due(self, moment: datetime) -> bool:
        """Whether there is something to do at ``moment``."""
        return self.earliest is not None and self.earliest <= moment


def agenda(using: str, owner: uuid.UUID) -> Agenda:
    """Everything the scheduler needs to know when nothing is due: one query of index look-ups."""
    connection = connections[using]
    # No procedure has an empty name; Django makes no statement of an empty list.
    sql, params = _agenda_sql(using, owner, tuple(Procedures.known_names()) or ("",))
    before = time.monotonic()
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        now, *moments = cursor.fetchone()
    after = time.monotonic()
    if clock.source is clock.read and connection.vendor in clock.NOW_SQL:
        now, read_at = clock.as_utc(now), (before + after) / 2
    else:
        now, read_at = clock.source(connection), after
    return Agenda(now, read_at, *(None if m is None else clock.as_utc(m) for m in moments))


@lru_cache(maxsize=8)
def _agenda_sql(using: str, owner: uuid.UUID, known: tuple[str, ...]) -> tuple[str, list[Any]]:
    active = Job.objects.using(using)
    tasks = BackgroundTask.objects.using(using)
    idle = tasks.filter(~Exists(active.filter(active_task=OuterRef("pk"))), procedure__in=known)
    waiting = active.filter(
        ~Exists(active.filter(active_task=OuterRef("task_id"))), procedure__in=known
    )
    parts, params = [clock.NOW_SQL.get(connections[using].vendor, "NULL")], []
    for rows, column in (
        (idle, "requested_at"),
        (idle, "next_run_at"),
        (waiting, "available_at"),
        (active.exclude(owner=owner), "lease_until"),
        (tasks, "disabled_until"),
    ):
        earliest = rows.filter(**{f"{column}__isnull": False}).order_by(column).values(column)[:1]
        sql, values = earliest.query.get_compiler(using=using).as_sql()
        parts.append(f"({sql})")
        params += values
    return f"SELECT {', '.join(parts)}", params
