"""The parts of the live page: what each needs, and the HTML that it becomes.

A part is made by the same template for the page itself and for those who ask again: the browser
says which parts it has, and gets those that look different now.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from django.core.paginator import Paginator
from django.db.models import Q
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.utils import translation
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from linod import listing, overview
from linod.events import last_line
from linod.history import Job
from linod.models import BackgroundTask
from linod.overview import Overview
from linod.rights import READ_LOGS
from linod.status import status_kind
from linod.tables import RunJob
from linod.timeline import WIDTH, Window, lanes

#: Tasks on one page of the table, and lanes of the timeline.
PAGE_SIZE = 50

CANCEL = "linod.cancel_backgroundtask"
CHANGE = "linod.change_backgroundtask"
#: What :func:`linod.status.status_kind` says, for people.
LABELS = {
    "unknown": gettext_lazy("Unknown procedure"),
    "running": gettext_lazy("Running"),
    "requested": gettext_lazy("Requested"),
    "disabled": gettext_lazy("Disabled"),
    "not_started": gettext_lazy("Not started"),
    "scheduled": gettext_lazy("Scheduled"),
    "not_scheduled": gettext_lazy("Not scheduled"),
}


@dataclass(frozen=True)
class Rights:
    """What the page offers to a user."""

    run: bool
    cancel: bool
    change: bool
    log: bool

    @classmethod
    def of(cls, user: Any) -> Rights:
        """The rights of that user."""
        return cls(*map(user.has_perm, (RunJob.permission, CANCEL, CHANGE, READ_LOGS)))


@dataclass
class Row:
    """A task as the table shows it."""

    task: BackgroundTask
    state: str
    label: str
    rule: str
    running_since: Any = None
    is_late: bool = False


class Page:
    """The live page for one request, at one moment."""

    def __init__(self, request: HttpRequest, site: Overview) -> None:
        self.request = request
        self.site = site
        self.rights = Rights.of(request.user)
        self.chosen = request.GET.get("show", "")
        if self.chosen not in site.adjectives():
            self.chosen = ""
        self.wanted = request.GET.get("q", "").replace("\0", "").strip()[:100]

    @cached_property
    def counts(self) -> dict[str, int]:
        """How many tasks are failing, late, paused, running."""
        return self.site.counts()

    @cached_property
    def tasks(self) -> Any:
        """The page of tasks that was asked for."""
        tasks = self.site.tasks()
        if self.chosen:
            tasks = tasks.filter(self.site.adjectives()[self.chosen])
        if self.wanted:
            tasks = tasks.filter(
                Q(procedure__contains=self.wanted) | Q(name__icontains=self.wanted)
            )
        paginator = Paginator(tasks, PAGE_SIZE)
        if not (self.chosen or self.wanted):
            paginator.count = self.counts["all"]
        return paginator.get_page(self.request.GET.get("p"))

    @property
    def title(self) -> str:
        """The title of the browser's window: it begins with the number of failing tasks."""
        title, failing = _("Live page"), self.counts["failing"]
        return f"({failing}) {title}" if failing else title

    def render(self, names: Iterable[str]) -> dict[str, str]:
        """The HTML of these parts."""
        return {
            name: render_to_string(
                f"linod/parts/{name}.html", self.context() | PARTS[name](self), self.request
            )
            for name in names
        }

    def context(self) -> dict[str, Any]:
        """What each part may need."""
        return {
            "namespace": namespace(self.request),
            "now": self.site.now,
            "rights": self.rights,
            # Whoever is not of the staff would only be led to the admin's login.
            "in_admin": bool(getattr(self.request.user, "is_staff", False)),
            "counts": self.counts,
        }

    # The parts

    def strip(self) -> dict[str, Any]:
        """Whether the daemons, the log server and the channels are there."""
        daemons = self.site.daemons()
        has_log = overview.log_file() is not None
        return {
            "daemons": daemons,
            "last_seen": None if daemons else self.site.last_seen(),
            "lateness": self.site.lateness(),
            "has_log": has_log,
            "log_server": has_log and overview.log_server_answers(),
        }

    def cards(self) -> dict[str, Any]:
        """Running now, failing, late, paused, next due."""
        site, tasks = self.site, self.site.tasks()

        def named(adjective: str, q: Q) -> list[BackgroundTask]:
            return list(tasks.filter(q)[: overview.NAMED]) if self.counts[adjective] else []

        return {
            "running": site.running,
            "failing": named("failing", site.is_failing),
            "late": named("late", site.is_late),
            "paused": named("paused", site.is_paused),
            "next_due": list(site.next_due()),
        }

    def timeline(self) -> dict[str, Any]:
        """The lanes of the tasks in the table."""
        window = Window.around(self.site.now)
        scale = window.scale()
        return {
            "window": window,
            "scale": scale,
            "hours": "".join(f"M{x:g} 0v22" for x, _hour in scale),
            "width": WIDTH,
            "lanes": lanes(self.site.using, list(self.tasks), window),
        }

    def tasks_table(self) -> dict[str, Any]:
        """The table of tasks with what one may do about them."""
        return {
            "page": self.tasks,
            "rows": [self._row(task) for task in self.tasks],
            "chosen": self.chosen,
            "wanted": self.wanted,
            "choices": self._choices(),
            "query": self._query(),
        }

    def _choices(self) -> list[tuple[str, str, int]]:
        texts = {
            "": _("All"),
            "failing": _("Failing"),
            "late": _("Late"),
            "paused": _("Paused"),
            "running": _("Running"),
        }
        return [(name, text, self.counts[name or "all"]) for name, text in texts.items()]

    def _query(self) -> str:
        query = self.request.GET.copy()
        query.pop("p", None)
        return query.urlencode()

    def _row(self, task: BackgroundTask) -> Row:
        since = self.site.running_since.get(task.pk)
        state = status_kind(task, since is not None)
        row = Row(task, state, str(LABELS[state]), listing.rule_text(task, translation), since)
        row.is_late = task.pk in self.late
        return row

    @cached_property
    def late(self) -> set[int]:
        """The late ones among the tasks of the table."""
        if not self.counts["late"]:
            return set()
        shown = [task.pk for task in self.tasks]
        late = self.site.tasks().filter(self.site.is_late, pk__in=shown)
        return set(late.values_list("pk", flat=True))

    def failures(self) -> dict[str, Any]:
        """The failures of the last day."""
        return {"failures": [(job, what_went_wrong(job)) for job in self.site.failures()]}

    def log(self) -> dict[str, Any]:
        """The last lines of the site's log, for those who may read it."""
        path = overview.log_file()
        if path is None or not self.rights.log:
            return {"path": None}
        try:
            return {"path": path, "lines": overview.tail(path)}
        except OSError as error:
            return {"path": path, "problem": error.strerror}


#: The parts in the order of the page, and the method that reads what each of them shows.
PARTS: dict[str, Callable[[Page], dict[str, Any]]] = {
    "strip": Page.strip,
    "cards": Page.cards,
    "timeline": Page.timeline,
    "tasks": Page.tasks_table,
    "failures": Page.failures,
    "log": Page.log,
}


def namespace(request: HttpRequest) -> str:
    """Where the page is: ``linod`` by itself, ``admin:linod`` inside the admin."""
    assert request.resolver_match is not None
    return request.resolver_match.namespace


def what_went_wrong(job: Job) -> str:
    """The end of what a failed job says about its error."""
    return last_line(job.error) or str(job.get_state_display())


def marks(parts: dict[str, str]) -> dict[str, str]:
    """A short mark of each part: another one means that it looks different."""
    return {
        name: hashlib.blake2b(html.encode(), digest_size=6).hexdigest()
        for name, html in parts.items()
    }
