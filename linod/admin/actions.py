"""What one may do about background tasks in the admin; each action leaves a line in the ledger."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin import helpers
from django.contrib.admin.widgets import AdminSplitDateTime
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import translation
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from linod import clock, pacing
from linod.admin.excuses import or_excuse
from linod.exceptions import ChangedMeanwhile, InvalidRecurrence, MissingExtra
from linod.history import Decision
from linod.models import BackgroundTask
from linod.requests import BaseRequest
from linod.tables import RunJob

#: More tasks than these are asked for only after a second look.
UNASKED = 10
#: How many tasks a confirmation page names.
NAMED = 20

Tasks = QuerySet[BackgroundTask]


class Confirmation(forms.Form):
    """Nothing but a second look."""


class DisableForm(Confirmation):
    """Why tasks are left out."""

    reason = forms.CharField(
        label=gettext_lazy("Why"),
        max_length=500,
        required=False,
        widget=forms.TextInput(attrs={"size": 60}),
        help_text=gettext_lazy("Shown beside the task and kept in the ledger."),
    )


class PauseForm(DisableForm):
    """Until when tasks are left out, and why."""

    until = forms.SplitDateTimeField(
        label=gettext_lazy("Until"),
        widget=AdminSplitDateTime,
        help_text=gettext_lazy("From then on the tasks run by their rules again."),
    )
    field_order = ("until", "reason")

    def clean_until(self) -> Any:
        """Only the future can be waited for."""
        until = self.cleaned_data["until"]
        if until <= clock.db_now():
            raise forms.ValidationError(_("This moment is over. Give a later one."))
        return until


class TaskActions(admin.ModelAdmin):  # type: ignore[type-arg]
    """The actions on tasks: of the list, for several, and of a task's page."""

    actions = (
        "run_now",
        "cancel_request",
        "enable",
        "disable",
        "pause_until",
        "duplicate",
        "move_up",
        "move_down",
    )

    def has_run_permission(self, request: HttpRequest) -> bool:
        """Whether this user may run tasks."""
        return request.user.has_perm(RunJob.permission)

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        """Whether this user may take requests back and cancel jobs."""
        return request.user.has_perm("linod.cancel_backgroundtask")

    def titles(self, request: HttpRequest) -> dict[str, Any]:
        """The actions that this user may take: name and title of each."""
        return dict(self.get_action_choices(request, []))

    @or_excuse(of_several=True)
    def response_action(self, request: HttpRequest, queryset: Tasks, **kwargs: Any) -> Any:
        """As Django does; its arguments differ from version to version."""
        return super().response_action(request, queryset, **kwargs)

    @or_excuse("../change/")
    def act_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """An action on one task, from its own page; the same actions, the same permissions."""
        task = self.get_object(request, object_id)
        if task is None:
            raise Http404
        if not self.has_view_permission(request, task):
            raise PermissionDenied
        name = request.POST.get("action", "")
        if name not in self.titles(request) or name not in self.actions:
            raise PermissionDenied
        action: Callable[[HttpRequest, Tasks], HttpResponse | None] = getattr(self, name)
        answer = action(request, self.get_queryset(request).filter(pk=task.pk))
        return answer or HttpResponseRedirect(self.page_of(task))

    def page_of(self, task: BackgroundTask) -> str:
        """The address of a task's own page."""
        return reverse(f"{self.admin_site.name}:linod_backgroundtask_change", args=[task.pk])

    @admin.action(description=RunJob.label, permissions=["run"])
    def run_now(self, request: HttpRequest, queryset: Tasks) -> HttpResponse | None:
        """Ask the daemons to run the tasks as soon as possible."""
        tasks = list(queryset)
        if len(tasks) > UNASKED and self._confirmed(request, Confirmation) is None:
            return self._ask(request, tasks, "run_now", Confirmation())
        asked = pacing.request_runs(BaseRequest(request.user), tasks)
        number = len(asked.requested)
        said = ngettext(
            "%d task is requested to run.", "%d tasks are requested to run.", number
        )  # fmt: skip
        self._tell(request, said % number, number)
        if number := len(asked.standing):
            said = ngettext(
                "%d task was requested already.", "%d tasks were requested already.", number
            )
            self._tell(request, said % number, 0)
        if number := len(asked.too_soon):
            said = ngettext(
                "%d task was requested a moment ago; wait five seconds.",
                "%d tasks were requested a moment ago; wait five seconds.",
                number,
            )
            self._tell(request, said % number, 0)
        return None

    @admin.action(description=gettext_lazy("Cancel request"), permissions=["cancel"])
    def cancel_request(self, request: HttpRequest, queryset: Tasks) -> None:
        """Take requests back that no daemon has heard yet."""
        number = sum(task.cancel_request(user=request.user) for task in queryset)
        said = ngettext("%d request was cancelled.", "%d requests were cancelled.", number)
        self._tell(request, said % number, number)

    @admin.action(description=gettext_lazy("Enable"), permissions=["change"])
    def enable(self, request: HttpRequest, queryset: Tasks) -> None:
        """Let the tasks run by their rules again; one whose rule is broken stays as it is."""
        number = 0
        for task in queryset.filter(disabled=True):
            try:
                task.enable(user=request.user)
            except (InvalidRecurrence, MissingExtra, ChangedMeanwhile) as error:
                self.message_user(request, f"{task}: {error.said(translation)}", messages.ERROR)
            else:
                number += 1
        said = ngettext("%d task was enabled.", "%d tasks were enabled.", number)
        self._tell(request, said % number, number)

    @admin.action(description=gettext_lazy("Disable"), permissions=["change"])
    def disable(self, request: HttpRequest, queryset: Tasks) -> HttpResponse | None:
        """Leave the tasks out from now on."""
        return self._leave_out(request, queryset.filter(disabled=False), "disable", DisableForm)

    @admin.action(description=gettext_lazy("Pause until"), permissions=["change"])
    def pause_until(self, request: HttpRequest, queryset: Tasks) -> HttpResponse | None:
        """Leave the tasks out for a time."""
        return self._leave_out(request, queryset, "pause_until", PauseForm)

    def _leave_out(
        self, request: HttpRequest, queryset: Tasks, action: str, kind: type[Confirmation]
    ) -> HttpResponse | None:
        tasks = list(queryset)
        form = self._confirmed(request, kind)
        if tasks and (form is None or not form.is_valid()):
            return self._ask(request, tasks, action, form or kind())
        number = 0
        for task in tasks:
            assert form is not None
            until = form.cleaned_data.get("until")
            reason = form.cleaned_data["reason"] or _("by %s") % request.user
            try:
                task.disable(reason, until=until, user=request.user)
            except ChangedMeanwhile as error:
                self.message_user(request, error.said(translation), messages.ERROR)
            else:
                number += 1
        said = (
            ngettext("%d task is paused.", "%d tasks are paused.", number)
            if kind is PauseForm
            else ngettext("%d task was disabled.", "%d tasks were disabled.", number)
        )
        self._tell(request, said % number, number)
        return None

    @admin.action(description=gettext_lazy("Duplicate"), permissions=["add"])
    def duplicate(self, request: HttpRequest, queryset: Tasks) -> HttpResponse | None:
        """Put a disabled copy behind each of the tasks; of one task, show the copy."""
        copies = []
        for task in queryset:
            try:
                copies.append(task.duplicate(user=request.user))
            except ChangedMeanwhile as error:
                self.message_user(request, error.said(translation), messages.ERROR)
        number = len(copies)
        said = ngettext(
            "%d task was duplicated. The copy is disabled: change it, then enable it.",
            "%d tasks were duplicated. The copies are disabled: change them, then enable them.",
            number,
        )
        self._tell(request, said % number, number)
        if number != 1:
            return None
        return HttpResponseRedirect(self.page_of(copies[0]))

    @admin.action(description=gettext_lazy("Move up"), permissions=["change"])
    def move_up(self, request: HttpRequest, queryset: Tasks) -> None:
        """Move the tasks one place towards the beginning, together."""
        tasks = list(queryset.order_by("seqno", "pk"))
        self._move(request, tasks, BackgroundTask.move_up, _("moved up"))

    @admin.action(description=gettext_lazy("Move down"), permissions=["change"])
    def move_down(self, request: HttpRequest, queryset: Tasks) -> None:
        """Move the tasks one place towards the end, together."""
        tasks = list(queryset.order_by("-seqno", "-pk"))
        self._move(request, tasks, BackgroundTask.move_down, _("moved down"))

    def _move(
        self,
        request: HttpRequest,
        tasks: list[BackgroundTask],
        move: Callable[[BackgroundTask], bool],
        words: str,
    ) -> None:
        try:
            number = move_together(request, tasks, move, words)
        except ChangedMeanwhile as error:
            self.message_user(request, error.said(translation), messages.ERROR)
        else:
            said = ngettext("%d task was moved.", "%d tasks were moved.", number)
            self._tell(request, said % number, number)

    def _tell(self, request: HttpRequest, said: str, number: int) -> None:
        self.message_user(request, said, messages.SUCCESS if number else messages.WARNING)

    # Asking back

    def _confirmed(self, request: HttpRequest, kind: type[Confirmation]) -> Confirmation | None:
        """What was entered on the confirmation page; None when it was not shown yet."""
        return kind(request.POST) if "confirmed" in request.POST else None

    def _ask(
        self,
        request: HttpRequest,
        tasks: list[BackgroundTask],
        action: str,
        form: Confirmation,
    ) -> HttpResponse:
        everything = request.POST.get("select_across", "0")
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": self.titles(request)[action],
            "action": action,
            "form": form,
            "media": self.media + form.media,
            "named": tasks[:NAMED],
            "unnamed": max(len(tasks) - NAMED, 0),
            "number": len(tasks),
            # "All that match" is said by one of them and the word for it.
            "chosen": [task.pk for task in tasks[: 1 if everything == "1" else None]],
            "select_across": everything,
            "checkbox_name": helpers.ACTION_CHECKBOX_NAME,
        }
        return TemplateResponse(request, "admin/linod/backgroundtask/confirm.html", context)


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
            note(request, task, words)
    return len(moved)


def note(request: HttpRequest, task: BackgroundTask | None, words: str) -> None:
    """Write into the ledger who changed what."""
    Decision.objects.record(Decision.Kind.EDITED, task, who=request.user, reason=words)
