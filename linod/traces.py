"""Which instants of a task left a trace: a job, or a line of the ledger."""

from __future__ import annotations

from datetime import datetime

from linod.evidence import Kind, decisions_of, jobs_of
from linod.history import Job
from linod.models import BackgroundTask


def between(task: BackgroundTask, since: datetime, until: datetime, limit: int) -> set[datetime]:
    """The last instants of that time which a job or a decision tells of."""
    span = {"due_at__gte": since, "due_at__lte": until}
    jobs = jobs_of(task).filter(**span).order_by("-due_at").values_list("due_at", flat=True)
    lines = decisions_of(task).filter(**span).exclude(kind=Kind.REQUESTED)
    told = lines.order_by("-due_at").values_list("due_at", flat=True)
    found = [*jobs.distinct()[:limit], *told.distinct()[:limit]]
    return {moment for moment in found if moment is not None}


def first_after(task: BackgroundTask, moment: datetime) -> datetime | None:
    """The first instant after a moment that has a job."""
    later = jobs_of(task).filter(due_at__gt=moment).order_by("due_at")
    return later.values_list("due_at", flat=True).first()


def first_job(task: BackgroundTask) -> Job | None:
    """The oldest job that is kept."""
    return jobs_of(task).order_by("due_at", "attempt").first()


def first_word(task: BackgroundTask) -> datetime | None:
    """The earliest moment that a kept decision tells of."""
    line = decisions_of(task).order_by("at", "pk").first()
    return None if line is None else min(line.at, line.due_at or line.at)
