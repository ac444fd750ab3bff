"""The list of background tasks: what it is filtered by, and what its rows know beside their own."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.contrib import admin
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from linod import clock, recent
from linod.admin.cells import task_kind
from linod.admin.lists import WideChangeList
from linod.history import Job
from linod.status import status_text


class ConditionFilter(admin.SimpleListFilter):
    """What a task is about right now."""

    title = gettext_lazy("condition")
    parameter_name = "condition"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, Any]]:
        """The conditions worth looking for."""
        return [
            ("running", _("Running")),
            ("requested", _("Requested")),
            ("failing", _("Failing")),
            ("paused", _("Paused for a time")),
            ("unscheduled", _("Not scheduled")),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Those of the chosen condition."""
        active = Job.objects.using(queryset.db).running().filter(active_task=OuterRef("pk"))
        wanted = {
            "running": Q(Exists(active)),
            "requested": Q(requested_at__isnull=False),
            "failing": Q(failures__gt=0),
            "paused": Q(disabled=True, disabled_until__isnull=False),
            "unscheduled": Q(disabled=False, next_run_at=None),
        }
        return queryset.filter(wanted.get(self.value() or "", Q()))


class TaskChangeList(WideChangeList):
    """A page of tasks; their states and their last runs come with a few queries for all."""

    def get_queryset(self, *args: Any, **kwargs: Any) -> QuerySet[Any]:
        """Without the logs, which no list shows."""
        return super().get_queryset(*args, **kwargs).defer("message", "disabled_reason")

    def get_results(self, request: HttpRequest) -> None:
        """The page's rows, each with what is not in its own row."""
        super().get_results(request)
        tasks: list[Any] = list(self.result_list)
        using, keys = self.queryset.db, [task.pk for task in self.result_list]
        now = clock.db_now(using)
        running = Job.objects.using(using).running().filter(active_task__in=keys)
        since = dict(running.values_list("active_task", "start_time"))
        runs = recent.last_runs(using, keys)
        for task in tasks:
            task.shown_at = now
            task.shown_status = status_text(task, now, since.get(task.pk))
            task.shown_kind = task_kind(task, task.pk in since)
            task.shown_runs = runs.get(task.pk, [])
        self.result_list = tasks
