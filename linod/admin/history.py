"""What happened, in the admin: decisions and daemons, to read only."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from linod import clock
from linod.admin.cells import state_cell
from linod.admin.lists import ReadOnly, WideChangeList
from linod.conf import config
from linod.history import Daemon, Decision
from linod.rights import may_read_logs
from linod.status import distance_text, moment_text
from linod.telling import reason_of


@admin.register(Decision)
class DecisionAdmin(ReadOnly):
    """The ledger."""

    list_display = ("moment", "kind", "task", "due", "why", "who", "job")
    list_filter = ("kind",)
    list_select_related = ("task",)
    search_fields = ("reason", "who")
    fields = ("moment", "kind", "task", "due", "why", "who", "job")
    readonly_fields = ("moment", "due", "why")

    @admin.display(description=gettext_lazy("At"), ordering="at")
    def moment(self, line: Decision) -> str:
        """When it was decided, to the second."""
        return moment_text(line.at)

    @admin.display(description=gettext_lazy("Due at"), ordering="due_at")
    def due(self, line: Decision) -> str:
        """The due instant that it is about."""
        return "-" if line.due_at is None else moment_text(line.due_at)

    @admin.display(description=gettext_lazy("Reason"), ordering="reason")
    def why(self, line: Decision) -> str:
        """The reason, with the fields of an edit as forms call them."""
        return reason_of(line)

    def get_list_display(self, request: HttpRequest) -> Any:
        """Reasons may quote errors: they are for those who may read logs."""
        return without_reason(request, self.list_display)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """The same on a line's own page."""
        return without_reason(request, self.fields)

    def get_object(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """A line's title quotes its reason, too."""
        line: Any = super().get_object(request, *args, **kwargs)
        if line is not None and not may_read_logs(request.user):
            line.reason = ""
        return line

    def get_search_fields(self, request: HttpRequest) -> Any:
        """What is not shown is not searched."""
        return without_reason(request, self.search_fields)


def without_reason(request: HttpRequest, names: Any) -> list[str]:
    """Those names, without the reason for whoever may read no logs."""
    may_read = may_read_logs(request.user)
    return [name for name in names if may_read or name not in ("reason", "why")]


class DaemonChangeList(WideChangeList):
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
        return state_cell("failed", _("silent, seen %s") % seen)
    kind = {Daemon.State.RUNNING: "succeeded", Daemon.State.STOPPING: "running"}
    text = _("%(state)s, seen %(when)s") % {"state": daemon.get_state_display(), "when": seen}
    return state_cell(kind.get(Daemon.State(daemon.state), "disabled"), text)


@admin.register(Daemon)
class DaemonAdmin(ReadOnly):
    """The processes that run jobs, or ran them."""

    list_display = ("host", "pid", "version", "started", "last_seen", "is_there")
    fields = ("owner", *list_display)
    readonly_fields = list_display[3:]
    list_filter = ("state",)

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        """See :class:`DaemonChangeList`."""
        return DaemonChangeList

    @admin.display(description=gettext_lazy("Started at"), ordering="started_at")
    def started(self, daemon: Daemon) -> str:
        """When it began, to the second."""
        return moment_text(daemon.started_at)

    @admin.display(description=gettext_lazy("Last seen at"), ordering="last_seen_at")
    def last_seen(self, daemon: Daemon) -> str:
        """When it showed itself last."""
        return moment_text(daemon.last_seen_at)

    @admin.display(description=gettext_lazy("State"))
    def is_there(self, daemon: Daemon) -> str:
        """Whether it shows itself."""
        return getattr(daemon, "shown_presence", None) or daemon.get_state_display()
