"""The history of runs as pages need it: a little of it, found by the keys that exist."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from django.db.models import OuterRef, Q, QuerySet, Subquery

from linod.history import Job
from linod.models import BackgroundTask

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def first_id(moment: datetime) -> uuid.UUID:
    """The smallest key that a job made at ``moment`` (aware) can have, to the millisecond.

    Keys sort by the moment they were made (RFC 9562, version 7), so the primary key is an index of
    that moment.

    >>> first_id(datetime(2026, 11, 22, tzinfo=UTC))
    UUID('01a2008d-7400-7000-8000-000000000000')
    """
    return uuid.UUID(int=((moment - _EPOCH) // _MILLISECOND << 80) | (0x7 << 76) | (0x2 << 62))


def made_at(key: uuid.UUID) -> datetime:
    """The moment at which a job with that key was made; aware, UTC, to the millisecond.

    >>> made_at(first_id(datetime(2026, 11, 22, 5, tzinfo=UTC))).hour
    5
    """
    return _EPOCH + (key.int >> 80) * _MILLISECOND


class Run(NamedTuple):
    """A job as the history of its task shows it."""

    task: int
    state: str
    due_at: datetime
    start_time: datetime | None
    end_time: datetime | None

    @property
    def duration(self) -> timedelta | None:
        """From begin to end; None while it has not ended or never began."""
        if self.start_time is None or self.end_time is None:
            return None
        return self.end_time - self.start_time


def last_runs(using: str, tasks: Collection[int], number: int = 20) -> dict[int, list[Run]]:
    """The last jobs of each of these tasks, the oldest first; two queries for all of them."""
    jobs = Job.objects.using(using).filter(task=OuterRef("pk")).order_by("-due_at", "-attempt")
    nth = Subquery(jobs.values("due_at")[number - 1 : number])
    rows = BackgroundTask.objects.using(using).filter(pk__in=tasks).annotate(nth=nth)
    since = dict(rows.order_by().values_list("pk", "nth"))
    wanted = Q(task__in=[task for task, nth in since.items() if nth is None])
    for task, moment in since.items():
        if moment is not None:
            wanted |= Q(task=task, due_at__gte=moment)
    runs = Job.objects.using(using).filter(wanted).order_by("due_at", "attempt")
    found: dict[int, list[Run]] = defaultdict(list)
    for row in runs.values_list("task", "state", "due_at", "start_time", "end_time"):
        found[row[0]].append(Run._make(row))
    return {task: each[-number:] for task, each in found.items()}


def light(jobs: QuerySet[Job]) -> QuerySet[Job]:
    """These jobs without what can be long."""
    return jobs.defer("arguments", "error", "result")
