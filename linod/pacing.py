"""Asking for runs from a page: people click twice, and pages are reloaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from linod import clock, transactions
from linod.history import Decision
from linod.models import BackgroundTask
from linod.requests import BaseRequest
from linod.tables import RunJob

#: A task is asked for once in this time.
PAUSE = timedelta(seconds=5)
#: How many tasks are asked for in one transaction, which holds their rows.
GROUP = 50


@dataclass
class Asked:
    """What came of asking."""

    requested: list[BackgroundTask] = field(default_factory=list)
    standing: list[BackgroundTask] = field(default_factory=list)  #: a request stood already
    too_soon: list[BackgroundTask] = field(default_factory=list)  #: asked for a moment ago


def request_runs(ar: BaseRequest, tasks: Sequence[BackgroundTask]) -> Asked:
    """Ask the daemons to run these tasks, each at most once in :data:`PAUSE`, whoever asks.

    Raises :class:`django.core.exceptions.PermissionDenied` as :class:`linod.RunJob` does.
    """
    RunJob.check(ar)
    asked = Asked()
    for begin in range(0, len(tasks), GROUP):
        _request(ar, tasks[begin : begin + GROUP], asked)
    return asked


def _request(ar: BaseRequest, tasks: Sequence[BackgroundTask], asked: Asked) -> None:
    using = tasks[0]._state.db or "default"
    keys = [task.pk for task in tasks]
    with transactions.write(using):
        # Who asks at the same moment waits here, and then sees what the first one wrote.
        rows = BackgroundTask.objects.using(using).filter(pk__in=keys).order_by("pk")
        standing = dict(rows.select_for_update().values_list("pk", "requested_at"))
        since = clock.db_now(using) - PAUSE
        recent = Decision.objects.using(using).filter(
            task__in=keys, kind=Decision.Kind.REQUESTED, at__gt=since
        )
        too_soon = set(recent.values_list("task", flat=True))
        for task in tasks:
            if task.pk in too_soon:
                asked.too_soon.append(task)
            elif standing.get(task.pk) is not None:
                asked.standing.append(task)
            elif task.pk in standing:  # else somebody has deleted it
                RunJob.run(ar, task)
                asked.requested.append(task)
