"""How long the history is kept: old rows go in small batches, the last jobs of each task stay."""

from __future__ import annotations

from datetime import timedelta

from django.db.models import OuterRef, Subquery

from linod import clock, transactions
from linod.conf import config
from linod.history import Daemon, Decision, Job, JobLog
from linod.models import BackgroundTask

#: Jobs of a task that are kept however old they are.
LAST_JOBS = 20
#: Rows that one transaction deletes.
BATCH = 500
#: Batches of one clean-up; what is left waits for the next.
BATCHES = 100


def clean(using: str) -> int:
    """Delete what is older than ``KEEP_JOBS_DAYS``; returns the number of rows."""
    before = clock.db_now(using) - timedelta(days=config().KEEP_JOBS_DAYS)
    twentieth = (
        Job.objects.using(using)
        .filter(task=OuterRef("pk"))
        .order_by("-due_at", "-attempt")
        .values("due_at")[LAST_JOBS - 1 : LAST_JOBS]
    )
    tasks = BackgroundTask.objects.using(using).annotate(keep_from=Subquery(twentieth))
    deleted = 0
    for task_id, keep_from in tasks.values_list("pk", "keep_from").iterator():
        if keep_from is not None:
            jobs = Job.objects.using(using).filter(task=task_id, due_at__lt=min(before, keep_from))
            deleted += _delete_jobs(using, jobs)
    deleted += _delete_jobs(using, Job.objects.using(using).filter(task=None, due_at__lt=before))
    deleted += _delete(using, Decision.objects.using(using).filter(at__lt=before))
    return deleted + _delete(using, Daemon.objects.using(using).filter(last_seen_at__lt=before))


def _delete_jobs(using: str, jobs: object) -> int:
    deleted = 0
    for _batch in range(BATCHES):
        ids = list(jobs.ended().order_by().values_list("pk", flat=True)[:BATCH])  # type: ignore[attr-defined]
        if not ids:
            break
        with transactions.write(using):
            JobLog.objects.using(using).filter(job__in=ids)._raw_delete(using)
            deleted += Job.objects.using(using).filter(pk__in=ids)._raw_delete(using)
    return deleted


def _delete(using: str, rows: object) -> int:
    deleted = 0
    for _batch in range(BATCHES):
        ids = list(rows.order_by().values_list("pk", flat=True)[:BATCH])  # type: ignore[attr-defined]
        if not ids:
            break
        with transactions.write(using):
            deleted += rows.model.objects.using(using).filter(pk__in=ids)._raw_delete(using)  # type: ignore[attr-defined]
    return deleted
