"""Looking: what is due, and when something will be. Nothing here locks or writes."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any

from django.conf import settings
from django.db import connections
from django.db.models import Exists, OuterRef, Q, QuerySet, Subquery

from linod import asking, clock
from linod.asking import TASK_COLUMNS
from linod.exceptions import InvalidRecurrence, MissingExtra
from linod.history import Job, time_ordered_uuid
from linod.models import BackgroundTask
from linod.planning import Plan, plan
from linod.prepared import Prepared, keys, moment
from linod.procedures import Procedure, Procedures
from linod.records import Candidate, Claimed
from linod.recurrence import Recurrence
from linod.rowrules import answered, rule_of
from linod.rules import WEEKDAYS

#: What decides about a due instant, besides.
RULE_COLUMNS = (
    "missed", "missed_within", "every_unit", "every", "start_date", "start_time", "end_date",
    "end_time", *WEEKDAYS, "positions", "max_events", "cron", "time_zone",
)  # fmt: skip
#: What is read of a job that somebody holds or may take, and what its task says of it now.
JOB_COLUMNS = (
    "id", "fence", "state", "task_id", "procedure", "arguments", "due_at", "trigger", "attempt",
    "log_level", "requested_by_id", "missed", "start_time", "lease_until", "task__timeout",
    "task__max_attempts", "task__retry_delay", "task__rerun_lost", "task__version",
)  # fmt: skip


def idle_tasks(using: str, known: Iterable[str]) -> QuerySet[BackgroundTask]:
    """Tasks of known procedures that have no active job."""
    active = Job.objects.using(using).filter(active_task=OuterRef("pk"))
    # No procedure has an empty name; Django makes no statement of an empty list.
    names = tuple(known) or ("",)
    return BackgroundTask.objects.using(using).filter(~Exists(active), procedure__in=names)


def peek(
    using: str, owner: uuid.UUID, now: datetime, limit: int, *, requested: bool = True
) -> list[Candidate]:
    """Up to ``limit`` tasks that may be claimed: requested ones first, then the longest due.

    :param requested: False when it is known that nobody asked: that saves a query.
    """
    known = tuple(Procedures.known_names())
    found = _peek(using, owner, now, limit, known, requested)
    if not any(c.job is not None and c.job.procedure.run_after for c in found):
        return found
    late = _must_wait(using, now)
    kept = [c for c in found if c.job is None or c.job.procedure not in late]
    if len(found) < limit or len(kept) == len(found):
        return kept
    # Those that wait must not hide the others behind them.
    names = {name for procedure in late for name in procedure.names}
    others = tuple(name for name in known if name not in names)
    return _peek(using, owner, now, limit, others, requested)


def _peek(
    using: str,
    owner: uuid.UUID,
    now: datetime,
    limit: int,
    known: tuple[str, ...],
    requested: bool,
) -> list[Candidate]:
    rows = _requested_tasks(using, known).until(now, limit) if requested else ()
    found = [_candidate(row, owner, now) for row in rows]
    if len(found) < limit:
        due = _due_tasks(using, known)
        found += [_candidate(row, owner, now) for row in due.until(now, limit - len(found))]
    return found


def peek_requested(using: str, owner: uuid.UUID, now: datetime, limit: int) -> list[Candidate]:
    """Up to ``limit`` tasks that somebody wants to run as soon as possible, the first first."""
    requested = _requested_tasks(using, tuple(Procedures.known_names()))
    return [_candidate(row, owner, now) for row in requested.until(now, limit)]


def told(
    owner: uuid.UUID, hints: Iterable[bytes], since: datetime, until: datetime
) -> list[Candidate]:
    """The requests that hints tell of, as they were when they were made, in that time.

    Empty when a hint does not tell, or tells of what this process does not know.
    """
    found = []
    for hint in hints:
        row = asking.from_hint(hint)
        procedure = None if row is None else Procedures.get_by_name(row["procedure"])
        if row is None or procedure is None or not since <= row["requested_at"] <= until:
            return []
        candidate = _candidate(row | {"procedure": procedure}, owner, row["requested_at"])
        candidate.is_told = True
        found.append(candidate)
    return found


def lock_idle(using: str, pks: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Those of the tasks that are idle and that nobody else holds, now locked, with what moves."""
    return _lockable_tasks(using, tuple(Procedures.known_names())).among(pks)


@lru_cache(maxsize=8)
def _lockable_tasks(using: str, known: tuple[str, ...]) -> Prepared:
    rows = idle_tasks(using, known).filter(pk__in=keys()).order_by("pk")
    if connections[using].features.has_select_for_update_skip_locked:
        rows = rows.select_for_update(skip_locked=True)
    return Prepared.of(rows, "pk", "version", "next_run_at", "requested_at")


@lru_cache(maxsize=8)
def _requested_tasks(using: str, known: tuple[str, ...]) -> Prepared:
    rows = idle_tasks(using, known).filter(requested_at__lte=moment())
    return Prepared.of(rows.order_by("requested_at", "seqno"), *TASK_COLUMNS)


@lru_cache(maxsize=8)
def _due_tasks(using: str, known: tuple[str, ...]) -> Prepared:
    rows = idle_tasks(using, known).filter(next_run_at__lte=moment(), requested_at=None)
    rows = _with_last_due(using, rows.order_by("next_run_at", "seqno"))
    return Prepared.of(rows, *TASK_COLUMNS, *RULE_COLUMNS, "last_due_at")


def _with_last_due(using: str, tasks: QuerySet[BackgroundTask]) -> QuerySet[BackgroundTask]:
    """With the latest instant that has a job: the end of an index, so a look at it costs little."""
    jobs = Job.objects.using(using).filter(task=OuterRef("pk")).order_by("-due_at")
    return tasks.annotate(last_due_at=Subquery(jobs.values("due_at")[:1]))


def _candidate(row: dict[str, Any], owner: uuid.UUID, now: datetime) -> Candidate:
    requested, fault = row["requested_at"], ""
    decided = Plan(requested, row["next_run_at"])
    if requested is None:
        try:
            rule = recurrence_of(row)
            with answered():
                decided = plan(rule, row["next_run_at"], now, row["missed"], row["missed_within"])
        except (InvalidRecurrence, MissingExtra) as error:
            decided, fault = Plan(None, None), str(error)
    # A request is due when it is made, so it comes to no earlier instant.
    job, last, is_set_back = None, row.get("last_due_at"), False
    if decided.due_at is not None:
        is_set_back = last is not None and decided.due_at <= last
        trigger = Job.Trigger.SCHEDULE if requested is None else Job.Trigger.REQUEST
        job = new_job(row, owner, decided.due_at, trigger)
        job.missed, job.requested_by_id = decided.missed, row["requested_by_id"]
    return Candidate(
        job, row["id"], row["version"], row["seqno"], requested, row["next_run_at"], decided, fault,
        is_set_back=is_set_back,
    )  # fmt: skip


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


def _must_wait(using: str, now: datetime) -> set[Procedure]:
    """Procedures whose ``run_after`` names one that is due as well, or has an active job."""
    after = {
        procedure: {Procedures.get_by_name(name) for name in procedure.run_after} - {None}
        for procedure in Procedures.get_list_items()
        if procedure.run_after
    }
    names = [name for earlier in after.values() for each in earlier for name in each.names]
    active = Job.objects.using(using).filter(active_task__isnull=False, procedure__in=names)
    tasks = BackgroundTask.objects.using(using).filter(procedure__in=names)
    due = tasks.filter(Q(next_run_at__lte=now) | Q(requested_at__lte=now))
    busy = {
        *active.values_list("procedure", flat=True),
        *due.values_list("procedure", flat=True),
    }
    return {procedure for procedure, earlier in after.items() if not busy.isdisjoint(earlier)}


def peek_waiting(using: str, owner: uuid.UUID, now: datetime, limit: int) -> list[Claimed]:
    """Waiting jobs whose moment has come and whose task has no active job."""
    active = Job.objects.using(using).filter(active_task=OuterRef("task_id"))
    jobs = (
        Job.objects.using(using)
        .filter(~Exists(active), available_at__lte=now, state=Job.State.WAITING)
        .filter(procedure__in=Procedures.known_names())
        .order_by("available_at", "-priority")
        .values(*JOB_COLUMNS)[:limit]
    )
    return _first_of_each_task(from_row(row, owner) for row in jobs)


def _first_of_each_task(jobs: Iterable[Claimed]) -> list[Claimed]:
    kept: dict[object, Claimed] = {}
    for job in jobs:
        kept.setdefault(job.task_id if job.task_id is not None else job.id, job)
    return list(kept.values())


def from_row(row: dict[str, Any], owner: uuid.UUID) -> Claimed:
    """A job as its row (:data:`JOB_COLUMNS`) has it; held by ``owner`` once that is claimed."""
    claimed = Claimed(
        id=row["id"],
        owner=owner,
        fence=row["fence"],
        state=row["state"],
        task_id=row["task_id"],
        procedure=row["procedure"],
        arguments=row["arguments"],
        due_at=row["due_at"],
        trigger=row["trigger"],
        attempt=row["attempt"],
        log_level=row["log_level"],
        requested_by_id=row["requested_by_id"],
        missed=row["missed"],
        start_time=row["start_time"],
    )
    if row["task_id"] is not None:
        claimed.timeout = row["task__timeout"]
        claimed.max_attempts = row["task__max_attempts"]
        claimed.retry_delay = row["task__retry_delay"]
        claimed.rerun_lost = row["task__rerun_lost"]
        claimed.task_version = row["task__version"]
    return claimed


# When to look again


@dataclass(frozen=True, slots=True)
class Agenda:
    """The database's time, and the earliest moment at which each kind of work is due.

    ``read_at`` is the monotonic clock's reading (seconds) that belongs to ``now``, give or take
    ``doubt``: half the time that the question took.
    """

    now: datetime
    read_at: float
    doubt: float = field(compare=False)
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
    sql, params = _agenda_sql(using, owner, tuple(Procedures.known_names()))
    before = time.monotonic()
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        now, *moments = cursor.fetchone()
    after = time.monotonic()
    if clock.is_asked(connection):
        now, read_at = clock.as_utc(now), (before + after) / 2
    else:
        now, read_at = clock.source(connection), after
    doubt = (after - before) / 2
    return Agenda(now, read_at, doubt, *(None if m is None else clock.as_utc(m) for m in moments))


@lru_cache(maxsize=8)
def _agenda_sql(using: str, owner: uuid.UUID, known: tuple[str, ...]) -> tuple[str, list[Any]]:
    active = Job.objects.using(using)
    tasks = BackgroundTask.objects.using(using)
    idle = idle_tasks(using, known)
    waiting = active.filter(
        ~Exists(active.filter(active_task=OuterRef("task_id"))), procedure__in=known or ("",)
    )
    parts, params = [clock.NOW_SQL.get(connections[using].vendor, "NULL")], []
    for rows, column in (
        (idle, "requested_at"),
        (idle, "next_run_at"),
        (waiting, "available_at"),
        (active.exclude(owner=owner), "lease_until"),
        # Who enables a task by update() may leave the other field as it was.
        (tasks.filter(disabled=True), "disabled_until"),
    ):
        earliest = rows.filter(**{f"{column}__isnull": False}).order_by(column).values(column)[:1]
        sql, values = earliest.query.get_compiler(using=using).as_sql()
        parts.append(f"({sql})")
        params += values
    return f"SELECT {', '.join(parts)}", params
