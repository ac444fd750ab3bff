"""The background tasks in the admin: their list, their form, and why one did (not) run."""

from __future__ import annotations

from functools import partial
from typing import Any

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import PermissionDenied
from django.db import Error, transaction
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.urls import include, path, reverse
from django.utils import translation
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from linod import clock, health, recent, urls
from linod.admin import declared, preview, why
from linod.admin.actions import TaskActions, note
from linod.admin.cells import (
    ago_cell,
    as_json,
    job_state,
    runs_cell,
    span_text,
    state_cell,
    task_kind,
)
from linod.admin.excuses import or_excuse
from linod.admin.taskform import TaskForm
from linod.admin.tasklist import ConditionFilter, TaskChangeList
from linod.exceptions import ChangedMeanwhile, InvalidRecurrence, MissingExtra
from linod.history import Job
from linod.models import BackgroundTask
from linod.procedures import Procedures
from linod.rights import may_read_logs
from linod.rules import WEEKDAYS
from linod.status import moment_text

#: What the names of the tasks' addresses begin with.
TASK = "linod_backgroundtask"
#: How many jobs a task's own page shows.
LAST_JOBS = 20


@admin.register(BackgroundTask)
class BackgroundTaskAdmin(TaskActions):
    """The tasks by their number, and what one may do about them."""

    form = TaskForm
    change_form_template = "admin/linod/backgroundtask/change_form.html"
    change_list_template = "admin/linod/list.html"
    show_facets = admin.ShowFacets.NEVER
    list_display = (
        "seqno",
        "procedure",
        "log_level",
        "is_disabled",
        "status",
        "last_runs",
        "next_run",
    )
    list_display_links = ("seqno", "procedure")
    list_filter = (ConditionFilter, "disabled", "log_level", "every_unit")
    search_fields = ("procedure", "name")
    search_help_text = gettext_lazy("The name of a task or of its procedure, or a part of it")
    ordering = ("seqno", "id")
    list_per_page = 50
    readonly_fields = (
        "status",
        "procedure_shown",
        "arguments_shown",
        "next_runs",
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
            gettext_lazy("Recurrence"),
            {
                "classes": ("linod-rule",),
                "fields": (
                    ("every", "every_unit"),
                    ("start_date", "start_time"),
                    WEEKDAYS,
                    "positions",
                    ("end_date", "end_time"),
                    "max_events",
                    "cron",
                    "time_zone",
                    "next_runs",
                ),
            },
        ),
        (
            gettext_lazy("Missed and failed runs"),
            {
                "fields": (
                    ("missed", "missed_within"),
                    "timeout",
                    ("max_attempts", "retry_delay"),
                    "disable_after",
                    "rerun_lost",
                )
            },
        ),
        (
            gettext_lazy("State"),
            {
                "fields": (
                    "status",
                    ("last_start_time", "last_end_time"),
                    "next_run_at",
                    ("requested_at", "requested_by"),
                    "failures",
                    "log",
                )
            },
        ),
    )

    class Media:
        css = {"all": ["linod/admin.css"]}
        js = ["linod/preview.js"]

    def get_fieldsets(self, request: HttpRequest, obj: BackgroundTask | None = None) -> Any:
        """A task that is not there yet has no state; whoever must not read logs sees none."""
        (nothing, first), *said, (heading, state) = super().get_fieldsets(request, obj)
        if obj is None:
            return [(nothing, first), *said]
        names = list(first["fields"])
        names[names.index("procedure")] = "procedure_shown"
        if not self.has_change_permission(request, obj):
            names[0] = "seqno"
            names[names.index("arguments")] = "arguments_shown"
        if not may_read_logs(request.user):
            # Why a task was disabled is often the last line of an error.
            state = {"fields": [name for name in state["fields"] if name != "log"]}
            names.remove("disabled_reason")
        return [(nothing, {"fields": names}), *said, (heading, state)]

    def get_readonly_fields(self, request: HttpRequest, obj: BackgroundTask | None = None) -> Any:
        """A task keeps its procedure: that is what its jobs and its ledger are about."""
        found = super().get_readonly_fields(request, obj)
        return found if obj is None else (*found, "procedure")

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        """See :class:`TaskChangeList`."""
        return TaskChangeList

    def get_urls(self) -> list[Any]:
        """Beside Django's: the preview of a rule, an action on one task, the ledger's answer.

        And the live page, inside the admin: for a project that gives it no address of its own.
        """
        wrap = self.admin_site.admin_view
        live = [path(str(p.pattern), wrap(p.callback), name=p.name) for p in urls.urlpatterns]
        return [
            path("live/", include((live, urls.app_name))),
            path("procedures/", wrap(self.procedures_view), name=f"{TASK}_procedures"),
            path("preview/", wrap(self.preview_view), name=f"{TASK}_preview"),
            path("<path:object_id>/act/", wrap(self.act_view), name=f"{TASK}_act"),
            path("<path:object_id>/why/", wrap(self.why_view), name=f"{TASK}_why"),
            *super().get_urls(),
        ]

    # The columns

    @admin.display(description=gettext_lazy("Disabled"), ordering="disabled")
    def is_disabled(self, task: BackgroundTask) -> str:
        """In words: a red cross at every task that is well would alarm."""
        return str(_("Yes") if task.disabled else _("No"))

    @admin.display(description=gettext_lazy("Status"))
    def status(self, task: BackgroundTask) -> str:
        """What the task is about right now."""
        shown = getattr(task, "shown_status", None)
        if shown is None:
            return state_cell(task_kind(task, task.is_running()), task.status)
        return state_cell(task.shown_kind, shown)  # type: ignore[attr-defined]

    @admin.display(description=gettext_lazy("Last runs"), ordering="last_start_time")
    def last_runs(self, task: BackgroundTask) -> str:
        """When it ran last, and its last runs as ticks."""
        shown: Any = task
        ago = ago_cell(task.last_start_time, shown.shown_at)
        return format_html("{} {}", ago, runs_cell(shown.shown_runs, self._jobs_address(task)))

    @admin.display(description=gettext_lazy("Next run"), ordering="next_run_at")
    def next_run(self, task: BackgroundTask) -> str:
        """When it runs next, and by which rule."""
        try:
            words = task.every_text
        except (InvalidRecurrence, MissingExtra) as error:
            words = error.said(translation)
        when = "-" if task.next_run_at is None else moment_text(task.next_run_at)
        return format_html('{}<span class="linod-quiet">{}</span>', when, words)

    def _jobs_address(self, task: BackgroundTask) -> str:
        if not self.admin_site.is_registered(Job):
            return ""
        return f"{reverse(f'{self.admin_site.name}:linod_job_changelist')}?task={task.pk}"

    # The form

    @admin.display(description=gettext_lazy("Next runs"))
    def next_runs(self, task: BackgroundTask) -> str:
        """The rule in words and what it means; the page's script keeps it up to date."""
        shown = preview.of_task(task, clock.db_now(task._state.db))
        address = reverse(f"{self.admin_site.name}:{TASK}_preview")
        return render_to_string(
            "admin/linod/backgroundtask/preview.html", {"preview": shown, "address": address}
        )

    @admin.display(description=gettext_lazy("Background procedure"))
    def procedure_shown(self, task: BackgroundTask) -> str:
        """Its name, and what its function's docstring says first."""
        procedure = task.procedure
        about = procedure.help_text if procedure.is_known else _("Unknown procedure")
        return format_html('{} <span class="linod-quiet">{}</span>', procedure, about)

    @admin.display(description=gettext_lazy("Arguments"))
    def arguments_shown(self, task: BackgroundTask) -> str:
        """What the procedure receives, for those who must not change it: secrets are masked."""
        return as_json(task.arguments)

    @admin.display(description=gettext_lazy("Logged messages"))
    def log(self, task: BackgroundTask) -> str:
        """The end of the last job's log."""
        return format_html('<pre class="linod-log">{}</pre>', task.message)

    def preview_view(self, request: HttpRequest) -> HttpResponse:
        """The preview of the rule that is being typed, as JSON; the rule's fields are the query."""
        if not (self.has_view_permission(request) or self.has_add_permission(request)):
            raise PermissionDenied
        return JsonResponse(preview.of_input(request.GET).as_json())

    def procedures_view(self, request: HttpRequest) -> HttpResponse:
        """The procedures that the applications declare: to read, they come from the code."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": Procedures.verbose_name_plural,
            "media": self.media,
            "procedures": declared.procedures(),
        }
        return TemplateResponse(request, "admin/linod/backgroundtask/procedures.html", context)

    def why_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Why the task did or did not run, as the ledger has it: it quotes errors, too."""
        task = self._shown(request, object_id)
        if not may_read_logs(request.user):
            raise PermissionDenied
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "original": task,
            "title": _("Why did it (not) run?"),
            "subtitle": str(task),
            "media": self.media,
            **why.answered(task, request.GET),
        }
        return TemplateResponse(request, "admin/linod/backgroundtask/why.html", context)

    def _shown(self, request: HttpRequest, object_id: str) -> BackgroundTask:
        task: BackgroundTask | None = self.get_object(request, object_id)
        if task is None:
            raise Http404
        if not self.has_view_permission(request, task):
            raise PermissionDenied
        return task

    # Saving

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """A save that came to nothing is looked at again: the form then says why."""
        look = partial(super().changeform_view, request, object_id, form_url, extra_context)
        try:
            return look()
        except ChangedMeanwhile:
            return look()
        except Error as error:
            text = health.excuse(error)
            if not text:
                raise
            vars(request)["linod_excuse"] = text
        return look()

    def get_form(self, request: HttpRequest, obj: Any = None, *args: Any, **kwargs: Any) -> Any:
        """See :class:`TaskForm`."""
        form: Any = super().get_form(request, obj, *args, **kwargs)
        form.excuse = vars(request).get("linod_excuse", "")
        return form

    @or_excuse("../change/")
    def delete_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """As Django does."""
        return super().delete_view(request, *args, **kwargs)

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        """The form, what one may do about the task, and its last jobs."""
        task = kwargs.get("obj")
        if task is not None and task.pk:
            context |= {
                "buttons": self._buttons(request, task),
                "may_ask_why": may_read_logs(request.user),
                "last_jobs": self._last_jobs(request, task),
                "jobs_address": self._jobs_address(task),
            }
        return super().render_change_form(request, context, *args, **kwargs)

    def _buttons(self, request: HttpRequest, task: BackgroundTask) -> list[tuple[str, Any]]:
        fitting = ["run_now"]
        if task.requested_at is not None:
            fitting = ["cancel_request"]
        fitting += ["enable"] if task.disabled else ["disable", "pause_until"]
        fitting += ["duplicate"]
        titles = self.titles(request)
        return [(name, titles[name]) for name in fitting if name in titles]

    def _last_jobs(self, request: HttpRequest, task: BackgroundTask) -> list[dict[str, Any]]:
        if not request.user.has_perm("linod.view_job") or not self.admin_site.is_registered(Job):
            return []
        jobs = recent.light(Job.objects.using(task._state.db).filter(task=task))
        return [
            {
                "job": job,
                "state": job_state(job),
                "due": moment_text(job.due_at),
                "lateness": span_text(job.lateness),
                "duration": span_text(job.duration),
            }
            for job in jobs.order_by("-due_at", "-attempt")[:LAST_JOBS]
        ]

    def save_model(
        self, request: HttpRequest, obj: BackgroundTask, form: Any, change: bool
    ) -> None:
        """Save through the model, which guards the row and writes the ledger."""
        obj.edited_by = request.user
        super().save_model(request, obj, form, change)
        if "seqno" in form.changed_data:
            obj.renumber_siblings()
        if not change:
            note(request, obj, _("created"))

    def delete_model(self, request: HttpRequest, obj: BackgroundTask) -> None:
        """Delete a task; its jobs and its lines in the ledger stay."""
        note(request, None, _("deleted: %s") % obj)
        super().delete_model(request, obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[BackgroundTask]) -> None:
        """Delete several tasks."""
        with transaction.atomic(using=queryset.db):
            for task in queryset:
                note(request, None, _("deleted: %s") % task)
            super().delete_queryset(request, queryset)
