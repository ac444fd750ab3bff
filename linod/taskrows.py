"""What the steps of a job do to the row of its task: moved on, started, ended, put aside."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from datetime import datetime

from django.db.models import F, QuerySet
from django.utils.translation import gettext as _

from linod.bulk import Batch, Mismatch
from linod.history import Decision, Job
from linod.models import BackgroundTask
from linod.records import Candidate, Claimed, Finished

logger = logging.getLogger("linod")


def advance(batch: Batch, candidates: Sequence[Candidate], now: datetime) -> None:
    """Move tasks on, with what was read in the WHERE: requested ones and due ones apart."""
    batch.change(
        BackgroundTask,
        ("requested_at", "requested_by", "last_start_time", "last_end_time"),
        ("id", "version", "requested_at"),
        [
            (None, None, now, None, c.task_id, c.version, c.requested_at)
            for c in candidates
            if c.requested_at is not None
        ],
    )
    batch.change(
        BackgroundTask,
        ("next_run_at", "last_start_time", "last_end_time"),
        ("id", "version", "next_run_at"),
        [
            (c.plan.next_run_at, now, None, c.task_id, c.version, c.next_run_at)
            for c in candidates
            if c.requested_at is None and c.job is not None
        ],
    )


def move_on(using: str, candidate: Candidate) -> bool:
    """A task none of whose instants runs: it waits for the next one, or is put aside.

    Returns whether it was put aside: then nothing is to wait for it any more.
    """
    rows = BackgroundTask.objects.using(using).filter(
        pk=candidate.task_id, version=candidate.version, next_run_at=candidate.next_run_at
    )
    if candidate.requested_at is not None:
        rows = rows.filter(requested_at=candidate.requested_at)
    if not candidate.fault:
        if not rows.update(next_run_at=candidate.plan.next_run_at):
            raise Mismatch("the task was changed meanwhile")
    elif rows.update(
        disabled=True,
        disabled_reason=candidate.fault,
        next_run_at=None,
        requested_at=None,
        version=F("version") + 1,
    ):
        logger.error("Disabled task #%s: %s", candidate.task_id, candidate.fault)
        Decision.objects.record(
            Decision.Kind.QUARANTINED,
            candidate.task_id,
            due_at=candidate.next_run_at,
            reason=candidate.fault,
            using=using,
        )
        return True
    return False


def start(batch: Batch, jobs: Iterable[Claimed], now: datetime) -> None:
    """Show on their tasks that jobs begin."""
    rows = [(now, None, job.task_id) for job in jobs if job.task_id is not None]
    columns = ("last_start_time", "last_end_time")
    batch.update(BackgroundTask, columns, ("id",), rows)


def end(batch: Batch, ended: Sequence[Finished]) -> None:
    """Show the last run on its task; a task that was deleted meanwhile stays deleted."""
    seen = [e for e in ended if e.job.task_id is not None]
    well = [e for e in seen if e.state == Job.State.SUCCEEDED]
    rows = [(e.start_time, e.end_time, e.message, 0, e.job.task_id) for e in well]
    columns: tuple[str, ...] = ("last_start_time", "last_end_time", "message", "failures")
    batch.update(BackgroundTask, columns, ("id",), rows)
    others = [e for e in seen if e.state != Job.State.SUCCEEDED]
    short = [(e.start_time, e.end_time, e.message, e.job.task_id) for e in others]
    batch.update(BackgroundTask, columns[:3], ("id",), short)


def lose(batch: Batch, jobs: Iterable[Claimed], now: datetime, reason: str) -> None:
    """Show on their tasks that jobs are lost, and why."""
    rows = [(now, f"Lost: {reason}", job.task_id) for job in jobs if job.task_id is not None]
    batch.update(BackgroundTask, ("last_end_time", "message"), ("id",), rows)


def count_failure(rows: QuerySet[BackgroundTask], ended: Finished) -> bool:
    """Count a failure on its task, and disable that in the end.

    Returns whether it was disabled: then nothing is to wait for it any more.
    """
    job = ended.job
    rows.update(failures=F("failures") + 1)
    reason = ended.error.strip().rpartition("\n")[2][:500] or str(ended.state)
    worn_out = rows.filter(disabled=False, disable_after__gt=0, failures__gte=F("disable_after"))
    # A task that somebody edited meanwhile keeps what they said: the failure was another task's.
    if worn_out.filter(version=job.task_version).update(
        disabled=True,
        disabled_until=None,
        disabled_reason=reason,
        next_run_at=None,
        version=F("version") + 1,
    ):
        Decision.objects.record(
            Decision.Kind.DISABLED,
            job.task_id,
            due_at=job.due_at,
            reason=_("after a failure: %(error)s") % {"error": reason},
            job=job.id,
            using=rows.db,
        )
        return True
    return False
