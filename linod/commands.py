"""What may be asked of the daemons by a message: checked as if anybody could have sent it.

A command that cannot be carried out is a :class:`Refused`, in one line; it never harms the daemon.
"""

from __future__ import annotations

import uuid
from typing import Any

from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError

from linod import claims, signals
from linod.exceptions import ChangedMeanwhile
from linod.history import Job
from linod.models import BackgroundTask

#: Longest name of a procedure that is looked for.
NAME = 200


class Refused(Exception):
    """A command that makes no sense, or is not allowed."""


def run_task(using: str, message: dict[str, Any]) -> str:
    """Request a run. ``task``: an id, or the name of a procedure; ``user``: on whose behalf."""
    task, user = _task(using, message.get("task")), _user(message, "linod.run_backgroundtask")
    try:
        task.request_run(user)
    except ChangedMeanwhile as error:
        raise Refused(str(error)) from error
    return f"{task} is requested"


def cancel_job(using: str, message: dict[str, Any]) -> str:
    """Cancel a job. ``job``: its id; ``user``: on whose behalf."""
    given, user = message.get("job"), _user(message, "linod.cancel_backgroundtask")
    try:
        job_id = given if isinstance(given, uuid.UUID) else uuid.UUID(str(given)[:40])
    except ValueError as error:
        raise Refused(f"job: {given!r:.50} is no id of a job") from error
    if not Job.objects.using(using).filter(pk=job_id).exists():
        raise Refused(f"job: there is no job {job_id}")
    if not claims.cancel(using, job_id, user):
        return f"Job {job_id} has ended already"
    signals.work_arrived.send(Job)
    return f"Job {job_id} is cancelled"


def _task(using: str, given: Any) -> BackgroundTask:
    rows = BackgroundTask.objects.using(using).order_by("seqno", "pk")
    task = None
    if isinstance(given, int) and not isinstance(given, bool) and 0 < given < 2**63:
        task = rows.filter(pk=given).first()
    elif isinstance(given, str) and len(given) <= NAME:
        task = rows.filter(procedure=given).first()
    if task is None:
        raise Refused(f"task: there is no task {given!r:.50}")
    return task


def _user(message: dict[str, Any], permission: str) -> Any:
    """Who asks; None when the site itself does."""
    given = message.get("user")
    if given is None:
        return None
    try:
        user = get_user_model()._default_manager.filter(pk=given, is_active=True).first()
    except (TypeError, ValueError, OverflowError, ValidationError) as error:
        raise Refused(f"user: {given!r:.50} is no id of a user") from error
    if user is None or not user.has_perm(permission):
        raise Refused(f"user: {given!r:.50} lacks the permission {permission}")
    return user
