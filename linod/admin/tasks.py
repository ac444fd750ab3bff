"""The background tasks in the admin, and what one may do about them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, QueryDict
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from linod import clock
from linod.exceptions import ChangedMeanwhile, InvalidRecurrence, MissingExtra
from linod.fields import procedure_named
from linod.history import Decision, Job
from linod.models import BackgroundTask
from linod.procedures import Procedures
from linod.requests import BaseRequest
from linod.rules import WEEKDAYS
from linod.status import status_text
from linod.tables import RunJob

VIEW_LOG = "linod.view_log"


class TaskForm(forms.ModelForm):  # type: ignore[type-arg]
    """A task; the version that was seen tells whether somebody changed it meanwhile."""

    procedure = forms.TypedChoiceField(label=_("Background procedure"), coerce=procedure_named)
    seen_version = forms.IntegerField(widget=forms.HiddenInput, required=False)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "procedure" in self.fields:
            names = [procedure.name for procedure in Procedures]
            if self.instance.pk and self.instance.procedure.name not in names:
                names.append(self.instance.procedure.name)
            self.initial["procedure"] = str(self.instance.procedure)
            self.fields["procedure"].choices = [(name, name) for name in names]  # type: ignore[attr-defined]
        if "seen_version" in self.fields:
            self.fields["seen_version"].initial = self.instance.version

    def clean(self) -> dict[str, Any] | None:
        """Refuse to overwrite what somebody else said meanwhile, unless it is sent once more."""
        cleaned = super().clean()
        seen = self.cleaned_data.get("seen_version")
        if self.instance.pk and seen != self.instance.version:
            if isinstance(self.data, QueryDict):
                self.data = self.data.copy()
                self.data[self.add_prefix("seen_version")] = str(self.instance.version)
            raise ValidationError(self._conflict(), code="changed_meanwhile")
        return cleaned

    def _conflict(self) -> str:
        labels = [str(self[name].label) for name in self.changed_data if name != "seen_version"]
        return _(
            "This task was changed meanwhile; nothing was saved. What you see is what you entered."
            " Saving again overwrites: %s."
        ) % (", ".join(labels) or _("nothing"))


class TaskChangeList(ChangeList):
    """A page of tasks; all their states come with one query."""

    def get_results(self, request: HttpRequest) -> None:
        """The page's rows, each with the status that it shows."""
        super().get_results(request)
        tasks: list[Any] = list(self.result_list)
        now = clock.db_now(self.queryset.db)
        running = Job.objects.running().filter(active_task__in=[task.pk for task in tasks])
        since = dict(running.values_list("active_task", "start_time"))
        for task in tasks:
            task.shown_status = status_text(task, now, since.get(task.pk))
        self.result_list = tasks


@admin.register(BackgroundTask)
class BackgroundTaskAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """The tasks by their number, and what one may do about them."""

    form = TaskForm
    list_display = (
        "seqno",
        "procedure",
        "log_level",
        "disabled",
        "status",
        "last_start_time",
        "next_run_at",
    )
    list_display_links = ("seqno", "procedure")
    list_filter = ("disabled", "log_level", "every_unit")
    search_fields = ("procedure", "name")
    ordering = ("seqno", "id")
    actions = ("run_now", "cancel_request", "enable", "disable", "move_up", "move_down")
    readonly_fields = (
        "status",
        "when",
        "last_start_time",
        "last_end_time",
        "next_run_at",
        "requested_at",
        "requested_by",
        "failures",
        "log",
    )
    fieldsets = (
        (
            None,
            {
                "fields": (
                    ("seqno", "seen_version"),
                    "procedure",
                    "name",
                    "arguments",
                    "log_level",
                    "disabled",
                    "disabled_until",
                    "disabled_reason",
                )
            },
        ),
        (
            _("Recurrence"),
            {
                "fields": (
                    ("every", "every_unit"),
                    ("start_date", "start_time"),
                    WEEKDAYS,
                    "positions",
                    ("end_date", "end_time"),
                    "max_events",
                    "cron",
                    "time_zone",
                )
            },
        ),
        (
            _("Missed and failed runs"),
            {
                "fields": (
                    "missed",
                    "missed_within",
                    "timeout",
                    "max_attempts",
                    "retry_delay",
                    "disable_after",
                    "rerun_lost",
                )
            },
        ),
        (_("State"), {"fields": readonly_fields}),
    )

    def get_fieldsets(self, request: HttpRequest, obj: BackgroundTask | None = None) -> Any:
        """A task that is not there yet has no state; whoever must not read logs sees none."""
        *said, (heading, state) = super().get_fieldsets(request, obj)
        if obj is None:
            return said
        if not self.has_change_permission(request, obj):
            _nothing, first = said[0]
            said[0] = (None, {"fields": ["seqno", *first["fields"][1:]]})
        if not request.user.has_perm(VIEW_LOG):
            state = {"fields": [name for name in state["fields"] if name != "log"]}
        return [*said, (heading, state)]

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        """See :class:`TaskChangeList`."""
        return TaskChangeList

    @admin.display(description=_("Status"))
    def status(self, task: BackgroundTask) -> str:
        """What the task is about right now."""
        return getattr(task, "shown_status", None) or task.status

    @admin.display(description=_("When"))
    def when(self, task: BackgroundTask) -> str:
        """The rule in words."""
        try:
            return task.every_text
        except (InvalidRecurrence, MissingExtra) as error:
            return str(error)

    @admin.display(description=_("Logged messages"))
    def log(self, task: BackgroundTask) -> str:
        """The end of the last job's log."""
        return format_html("<pre>{}</pre>", task.message)

    # Saving

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """A save that somebody forestalled is looked at again: the form then says so."""
        try:
            return super().changeform_view(request, object_id, form_url, extra_context)
        except ChangedMeanwhile:
            return super().changeform_view(request, object_id, form_url, extra_context)

    def save_model(
        self, request: HttpRequest, obj: BackgroundTask, form: Any, change: bool
    ) -> None:
        """Save through the model, which guards the row and writes the ledger."""
        obj.edited_by = request.user
        super().save_model(request, obj, form, change)
        if "seqno" in form.changed_data:
            obj.renumber_siblings()
        if not change:
            _note(request, obj, "created")

    def delete_model(self, request: HttpRequest, obj: BackgroundTask) -> None:
        """Delete a task; its jobs and its lines in the ledger stay."""
        _note(request, None, f"deleted: {obj}")
        super().delete_model(request, obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[BackgroundTask]) -> None:
        """Delete several tasks."""
        with transaction.atomic(using=queryset.db):
            for task in queryset:
                _note(request, None, f"deleted: {task}")
            super().delete_queryset(request, queryset)

    # Actions

    def has_run_permission(self, request: HttpRequest) -> bool:
        """Whether this user may run tasks."""
        return request.user.has_perm(RunJob.permission)

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        """Whether this user may take requests back."""
        return request.user.has_perm("linod.cancel_backgroundtask")

    @admin.action(description=_("Run now"), permissions=["run"])
    def run_now(self, request: HttpRequest, queryset: QuerySet[BackgroundTask]) -> None:
        """Ask the daemons to run the tasks as soon as possible."""
        number = RunJob.run(BaseRequest(request.user), *queryset)
        self._tell(
            request, number, "%d task is requested to run.", "%d tasks are requested to run."
        )

    @admin.action(description=_("Cancel request"), permissions=["cancel"])
    def cancel_request(self, request: HttpRequest, queryset: QuerySet[BackgroundTask]) -> None:
        """Take requests back that no daemon has heard yet."""
        number = sum(task.cancel_request(user=request.user) for task in queryset)
        self._tell(request, number, "%d request was cancelled.", "%d requests were cancelled.")

    @admin.action(description=_("Enable"), permissions=["change"])
    def enable(self, request: HttpRequest, queryset: QuerySet[BackgroundTask]) -> None:
        """Let the tasks run by their rules again; one whose rule is broken stays as it is."""
        number = 0
        for task in queryset.filter(disabled=True):
            try:
                task.enable(user=request.user)
            except (InvalidRecurrence, MissingExtra) as error:
                self.message_user(request, f"{task}: {error}", messages.ERROR)
            else:
                number += 1
        self._tell(request, number, "%d task was enabled.", "%d tasks were enabled.")

    @admin.action(description=_("Disable"), permissions=["change"])
    def disable(self, request: HttpRequest, queryset: QuerySet[BackgroundTask]) -> None:
        """Leave the tasks out from now on."""
        tasks = list(queryset.filter(disabled=False))
        for task in tasks:
            task.disable(f"by {request.user}", user=request.user)
        self._tell(request, len(tasks), "%d task was disabled.", "%d tasks were disabled.")

    @admin.action(description=_("Move up"), permissions=["change"])
    def move_up(self, request: HttpRequest, queryset: QuerySet[BackgroundTask]) -> None:
        """Move the tasks one place towards the beginning, together."""
        tasks = list(queryset.order_by("seqno", "pk"))
        self._move(request, tasks, BackgroundTask.move_up, "moved up")

    @admin.action(description=_("Move down"), permissions=["change"])
    def move_down(self, request: HttpRequest, queryset: QuerySet[BackgroundTask]) -> None:
        """Move the tasks one place towards the end, together."""
        tasks = list(queryset.order_by("-seqno", "-pk"))
        self._move(request, tasks, BackgroundTask.move_down, "moved down")

    def _move(
        self,
        request: HttpRequest,
        tasks: list[BackgroundTask],
        move: Callable[[BackgroundTask], bool],
        words: str,
    ) -> None:
        try:
            moved = move_together(request, tasks, move, words)
        except ChangedMeanwhile as error:
            self.message_user(request, str(error), messages.ERROR)
        else:
            self._tell(request, moved, "%d task was moved.", "%d tasks were moved.")

    def _tell(self, request: HttpRequest, number: int, one: str, many: str) -> None:
        level = messages.SUCCESS if number else messages.WARNING
        self.message_user(request, ngettext(one, many, number) % number, level)


def move_together(
    request: HttpRequest,
    tasks: list[BackgroundTask],
    move: Callable[[BackgroundTask], bool],
    words: str,
) -> int:
    """Move tasks, the foremost first; those that already stand at the end keep their order."""
    if not tasks:
        return 0
    with transaction.atomic(using=tasks[0]._state.db):
        order = [row.pk for row in tasks[0].get_siblings()]
        if move is BackgroundTask.move_down:
            order.reverse()
        stay = 0
        while stay < len(tasks) and tasks[stay].pk == order[stay]:
            stay += 1
        moved = [task for task in tasks[stay:] if move(task)]
        for task in moved:
            _note(request, task, words)
    return len(moved)


def _note(request: HttpRequest, task: BackgroundTask | None, words: str) -> None:
    Decision.objects.record(Decision.Kind.EDITED, task, who=request.user, reason=words)
