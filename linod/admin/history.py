"""What happened, in the admin: jobs with their logs, decisions and daemons, to read only."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, ClassVar

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _

from linod import clock
from linod.admin.tasks import VIEW_LOG
from linod.conf import config
from linod.history import Daemon, Decision, Job
from linod.procedures import Procedures
from linod.status import distance_text


class ReadOnly(admin.ModelAdmin):  # type: ignore[type-arg]
    """Rows that only linod writes."""

    show_full_result_count = False  # counting a long history twice costs more than it tells

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Nobody adds."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody changes."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Old rows go by themselves, after ``KEEP_JOBS_DAYS``."""
        return False


class ProcedureFilter(admin.SimpleListFilter):
    """The declared procedures; those in the rows would have to be searched for."""

    title = _("procedure")
    parameter_name = "procedure"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        """One choice for each procedure."""
        return [(each.name, each.text) for each in Procedures]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Those of the chosen procedure."""
        return queryset.filter(procedure=self.value()) if self.value() else queryset


@admin.register(Job)
class JobAdmin(ReadOnly):
    """The history of runs."""

    list_display = (
        "state",
        "about",
        "due_at",
        "start_time",
        "duration",
        "lateness",
        "attempt",
        "host",
        "trigger",
    )
    list_filter = ("state", "trigger", ProcedureFilter)
    search_fields = ("procedure", "host")
    ordering = ("-id",)
    fieldsets: ClassVar[Any] = (
        (
            None,
            {
                "fields": (
                    "state",
                    "about",
                    "arguments",
                    ("trigger", "attempt", "missed"),
                    ("due_at", "start_time", "end_time"),
                    ("duration", "lateness"),
                    "requested_by",
                    ("host", "revision"),
                    "progress",
                    "result",
                )
            },
        ),
        (_("Log"), {"fields": ("error_text", "log")}),
    )

    def get_fieldsets(self, request: HttpRequest, obj: Job | None = None) -> Any:
        """Logs may tell secrets: they have a permission of their own."""
        shown, log = self.fieldsets
        may_read = request.user.has_perm(VIEW_LOG)
        return (shown, log) if may_read else (shown,)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """All of them."""
        return ("about", "duration", "lateness", "error_text", "log")

    @admin.display(description=_("Background task"), ordering="procedure")
    def about(self, job: Job) -> str:
        """The task, without asking for its row."""
        return str(job.procedure) if job.task_id is None else f"#{job.task_id} {job.procedure}"

    @admin.display(description=_("Duration"))
    def duration(self, job: Job) -> str:
        """From begin to end."""
        return span_text(job.duration)

    @admin.display(description=_("Lateness"))
    def lateness(self, job: Job) -> str:
        """From the due instant to the begin."""
        return span_text(job.lateness)

    @admin.display(description=_("Error"))
    def error_text(self, job: Job) -> str:
        """What ended it, with the traceback."""
        return format_html("<pre>{}</pre>", job.error) if job.error else "-"

    @admin.display(description=_("Logged messages"))
    def log(self, job: Job) -> str:
        """The whole log; plain text, escaped."""
        return format_html("<pre>{}</pre>", job.message)


def span_text(span: timedelta | None) -> str:
    """A length of time in seconds, or minutes and more.

    >>> span_text(timedelta(seconds=1.5)), span_text(timedelta(hours=30)), span_text(None)
    ('1.500 s', '1 day, 6:00:00', '-')
    """
    if span is None:
        return "-"
    seconds = span.total_seconds()
    return f"{seconds:.3f} s" if abs(seconds) < 60 else str(timedelta(seconds=round(seconds)))


@admin.register(Decision)
class DecisionAdmin(ReadOnly):
    """The ledger."""

    list_display = ("at", "kind", "task", "due_at", "reason", "who", "job")
    list_filter = ("kind",)
    list_select_related = ("task",)
    search_fields = ("reason", "who")


class DaemonChangeList(ChangeList):
    """A page of daemons, looked at at one moment."""

    def get_results(self, request: HttpRequest) -> None:
        """The page's rows, each with its presence."""
        super().get_results(request)
        daemons: list[Any] = list(self.result_list)
        now = clock.db_now(self.queryset.db)
        for daemon in daemons:
            daemon.shown_presence = presence(daemon, now)
        self.result_list = daemons


def presence(daemon: Daemon, now: datetime) -> str:
    """Its state, and when it was seen; one that ought to run and does not show itself is silent."""
    seen = distance_text(daemon.last_seen_at, now)
    late = now - daemon.last_seen_at > timedelta(seconds=config().LEASE)
    if late and daemon.state != Daemon.State.STOPPED:
        return _("silent, seen %s") % seen
    return _("%(state)s, seen %(when)s") % {"state": daemon.get_state_display(), "when": seen}


@admin.register(Daemon)
class DaemonAdmin(ReadOnly):
    """The processes that run jobs, or ran them."""

    list_display = ("host", "pid", "version", "started_at", "last_seen_at", "is_there")
    list_filter = ("state",)

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        """See :class:`DaemonChangeList`."""
        return DaemonChangeList

    @admin.display(description=_("State"))
    def is_there(self, daemon: Daemon) -> str:
        """Whether it shows itself."""
        return getattr(daemon, "shown_presence", None) or daemon.get_state_display()
