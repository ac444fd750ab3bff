"""How long the history is kept: old rows go in small batches, the last jobs of each task stay."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.db.models import Exists, OuterRef, Q, QuerySet, Subquery

from linod import clock, transactions
from linod.conf import config
from linod.history import Daemon, Decision, Job, JobLog

#: Jobs of a task that are kept however old they are.
LAST_JOBS = 20
#: Decisions that hold until somebody decides anew; the last of each kind is kept for its task.
STANDING = (
    Decision.Kind.DISABLED,
    Decision.Kind.QUARANTINED,
    Decision.Kind.ENABLED,
    Decision.Kind.EDITED,
)
#: Rows that one transaction deletes.
BATCH = 500
#: Batches of each kind that one clean-up deletes: the daemon claims nothing meanwhile. What is left
#: waits for the next, a moment later.
BATCHES = 2


def clean(using: str) -> int:
    """Delete what is older than ``KEEP_JOBS_DAYS``; returns the number of rows."""
    before = clock.db_now(using) - timedelta(days=config().KEEP_JOBS_DAYS)
    # What was made up long after its instant is as old as its end. The instant is there for the
    # index: no job ends before it was due.
    jobs = Job.objects.using(using).ended().filter(due_at__lt=before, end_time__lt=before)
    return (
        _delete(using, jobs.filter(task=None))
        + _delete(using, jobs.filter(due_at__lt=Subquery(_first_kept(using))))
        + _delete(using, _told_of_late(using, Decision.objects.using(using).filter(at__lt=before)))
        + _delete(
            using, _seen_again(using, Daemon.objects.using(using).filter(last_seen_at__lt=before))
        )
    )


def _told_of_late(using: str, old: QuerySet[Decision]) -> QuerySet[Decision]:
    """Without the last word about each task's rule: who disabled it says so as long as it holds."""
    newer = Decision.objects.using(using).filter(task=OuterRef("task"), pk__gt=OuterRef("pk"))
    said_again = newer.filter(kind=OuterRef("kind"))
    return old.filter(~Q(kind__in=STANDING) | Q(task=None) | Exists(said_again))


def _seen_again(using: str, old: QuerySet[Daemon]) -> QuerySet[Daemon]:
    """Without the last daemon: since when none runs is known as long as none does."""
    later = Daemon.objects.using(using).filter(last_seen_at__gt=OuterRef("last_seen_at"))
    return old.filter(Exists(later))


def _first_kept(using: str) -> QuerySet[Job, Any]:
    """When the oldest of a task's last jobs was due; nothing while it has no more than these."""
    same_task = Job.objects.using(using).filter(task=OuterRef("task"))
    return same_task.order_by("-due_at", "-attempt").values("due_at")[LAST_JOBS - 1 : LAST_JOBS]


def _delete(using: str, rows: QuerySet[Any]) -> int:
    deleted = 0
    for _batch in range(BATCHES):
        keys = list(rows.order_by().values_list("pk", flat=True)[:BATCH])
        if not keys:
            break
        with transactions.write(using):
            if rows.model is Job:
                JobLog.objects.using(using).filter(job__in=keys)._raw_delete(using)
            deleted += rows.model._base_manager.using(using).filter(pk__in=keys)._raw_delete(using)
    return deleted
