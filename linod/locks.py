"""Locking rows for a transaction: tasks before their jobs, and without waiting where that helps."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Model

from linod import agenda
from linod.history import Job
from linod.models import BackgroundTask
from linod.records import Candidate, Claimed


def still_idle(using: str, group: Sequence[Candidate]) -> list[Candidate]:
    """Those of the group that are still as they were read, now locked for this transaction."""
    found = {
        row["pk"]: (row["version"], row["next_run_at"], row["requested_at"])
        for row in agenda.lock_idle(using, [c.task_id for c in group])
    }
    return [c for c in group if found.get(c.task_id) == (c.version, c.next_run_at, c.requested_at)]


def free_of_locks(connection: BaseDatabaseWrapper, jobs: Sequence[Claimed]) -> list[Claimed]:
    """Those that nobody else has locked, nor their tasks; these are locked now, the tasks first."""
    tasks = _lock_free(connection, BackgroundTask, {job.task_id for job in jobs} - {None})
    rows = _lock_free(connection, Job, {job.id for job in jobs})
    return [job for job in jobs if job.id in rows and job.task_id in {None, *tasks}]


def _lock_free(
    connection: BaseDatabaseWrapper, model: type[Model], keys: Collection[Any]
) -> set[Any]:
    """Lock rows, but wait for none; returns the keys of those that are locked now."""
    if not connection.features.has_select_for_update_skip_locked:
        return set(keys)
    rows = model._base_manager.using(connection.alias).filter(pk__in=keys).order_by("pk")
    return set(rows.select_for_update(skip_locked=True).values_list("pk", flat=True))


def lock_tasks(connection: BaseDatabaseWrapper, jobs: Sequence[Claimed]) -> None:
    """Lock the tasks of these jobs, in the order of their keys; others are waited for."""
    if connection.features.has_select_for_update:
        ids = [job.task_id for job in jobs if job.task_id is not None]
        tasks = BackgroundTask.objects.using(connection.alias).filter(pk__in=ids)
        list(tasks.select_for_update().order_by("pk").values_list("pk"))
