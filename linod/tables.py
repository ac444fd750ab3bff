"""The tables that people know by name, printed as text."""

from __future__ import annotations

import sys
from typing import Any, ClassVar

from django.core.exceptions import PermissionDenied
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from linod.choices import ChoiceList
from linod.conf import config
from linod.models import BackgroundTask
from linod.requests import BaseRequest


class RunJob:
    """Manually run this task immediately: the action behind "Run now".

    It asks the daemons; whoever must not run tasks gets PermissionDenied.
    """

    label = _("Run now")
    help_text = _("Manually run this task immediately.")
    permission = "linod.run_backgroundtask"

    @classmethod
    def run(cls, ar: BaseRequest, *tasks: BackgroundTask) -> int:
        """Request a run of each task on behalf of ``ar.user``; returns how many."""
        cls.check(ar)
        for task in tasks:
            task.request_run(ar.user)
        return len(tasks)

    @classmethod
    def check(cls, ar: BaseRequest) -> None:
        """Raise PermissionDenied unless ``ar.user`` may run tasks; linod itself (None) may."""
        if ar.user is not None and not ar.user.has_perm(cls.permission):
            raise PermissionDenied(f"{ar.user} has no permission to run background tasks")


class BackgroundTasks:
    """The default table of background tasks: its columns, its rows, its actions."""

    model = BackgroundTask
    verbose_name = _("Background tasks")
    run_now = RunJob
    columns: ClassVar[tuple[tuple[str, Any], ...]] = (
        ("seqno", _("No.")),
        ("procedure", _("Background procedure")),
        ("log_level", _("Logging level")),
        ("disabled", _("Disabled")),
        ("status", _("Status")),
    )

    @classmethod
    def get_list_items(cls) -> list[BackgroundTask]:
        """All background tasks, by their number."""
        return list(BackgroundTask.objects.using(config().DATABASE).order_by("seqno", "id"))


def show(table: type[ChoiceList] | type[BackgroundTasks]) -> None:
    """Print a table to the terminal."""
    sys.stdout.write(as_text(table) + "\n")


def as_text(table: type[ChoiceList] | type[BackgroundTasks]) -> str:
    """A table as text; each column is two characters wider than its longest cell."""
    rows = [[str(heading) for _name, heading in table.columns]]
    rows += [
        [_cell(getattr(item, name)) for name, _heading in table.columns]
        for item in table.get_list_items()
    ]
    widths = [max(len(row[i]) for row in rows) + 2 for i in range(len(table.columns))]
    line = " ".join("=" * width for width in widths)
    thin = " ".join("-" * width for width in widths)
    head, *body = [
        " ".join(f" {cell}".ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return "\n".join([line, head, thin, *body, line])


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return gettext("Yes") if value else gettext("No")
    return str(value)
