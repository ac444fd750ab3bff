"""The jobs in the admin: their list, and a page for each that is alive while the job runs."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import PermissionDenied
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseNotAllowed,
    HttpResponseRedirect,
    JsonResponse,
    StreamingHttpResponse,
)
from django.urls import path, reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from linod import pacing
from linod.admin import joblog
from linod.admin.cells import as_json, job_state, job_state_text, span_text
from linod.admin.excuses import or_excuse
from linod.admin.joblist import HostFilter, JobChangeList, ProcedureFilter, TaskFilter
from linod.admin.lists import ReadOnly
from linod.history import Job
from linod.layers import websocket_address
from linod.models import BackgroundTask
from linod.requests import BaseRequest
from linod.rights import may_read_logs, may_see
from linod.status import moment_text
from linod.tables import RunJob
from linod.templatetags.linod_live import amount

CANCEL = "linod.cancel_backgroundtask"


@admin.register(Job)
class JobAdmin(ReadOnly):
    """The history of runs."""

    list_display = (
        "state_now",
        "about",
        "due",
        "lateness",
        "duration",
        "attempt",
        "trigger",
        "host",
    )
    list_filter = ("state", "trigger", ProcedureFilter, HostFilter, TaskFilter)
    search_fields = ("procedure",)
    search_help_text = gettext_lazy("The name of a procedure, or a part of it")
    ordering = ("-id",)
    sortable_by = ()
    change_list_template = "admin/linod/job/change_list.html"
    change_form_template = "admin/linod/job/change_form.html"
    fields = (
        "about",
        "trigger",
        "requested_by",
        "due",
        "lateness",
        "began",
        "ended",
        "attempt",
        "missed",
        "host",
        "revision",
        "log_level",
        "arguments_shown",
        "result_shown",
    )

    class Media:
        css = {"all": ["linod/admin.css"]}
        js = ["linod/events.js", "linod/job.js"]

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        """See :class:`JobChangeList`."""
        return JobChangeList

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """What is worked out; all others are only read as well."""
        return (
            "about", "arguments_shown", "due", "lateness", "began", "ended", "result_shown"
        )  # fmt: skip

    def get_urls(self) -> list[Any]:
        """Beside Django's: what is new about a job, its log as a file, and what one may do."""
        wrap = self.admin_site.admin_view
        return [
            path("<uuid:key>/live/", wrap(self.live_view), name="linod_job_live"),
            path("<uuid:key>/log/", wrap(self.log_view), name="linod_job_log"),
            path("<uuid:key>/cancel/", wrap(self.cancel_view), name="linod_job_cancel"),
            path("<uuid:key>/again/", wrap(self.again_view), name="linod_job_again"),
            *super().get_urls(),
        ]

    # The columns

    @admin.display(description=gettext_lazy("State"))
    def state_now(self, job: Job) -> str:
        """Its state with its colour."""
        return job_state(job)

    @admin.display(description=gettext_lazy("Background task"))
    def about(self, job: Job) -> str:
        """The task, without asking for its row."""
        return str(job.procedure) if job.task_id is None else f"#{job.task_id} {job.procedure}"

    @admin.display(description=gettext_lazy("Due at"))
    def due(self, job: Job) -> str:
        """When it was due, to the second."""
        return moment_text(job.due_at)

    @admin.display(description=gettext_lazy("Started at"))
    def began(self, job: Job) -> str:
        """When its body began."""
        return "-" if job.start_time is None else moment_text(job.start_time)

    @admin.display(description=gettext_lazy("Ended at"))
    def ended(self, job: Job) -> str:
        """When its body ended."""
        return "-" if job.end_time is None else moment_text(job.end_time)

    @admin.display(description=gettext_lazy("Duration"))
    def duration(self, job: Job) -> str:
        """From begin to end."""
        return span_text(job.duration)

    @admin.display(description=gettext_lazy("Lateness"))
    def lateness(self, job: Job) -> str:
        """From the due instant to the begin."""
        return span_text(job.lateness)

    @admin.display(description=gettext_lazy("Arguments"))
    def arguments_shown(self, job: Job) -> str:
        """What the procedure received; what is named like a secret is masked."""
        return as_json(job.arguments) if job.arguments else "-"

    @admin.display(description=gettext_lazy("Result"))
    def result_shown(self, job: Job) -> str:
        """What it returned, masked as well."""
        return "-" if job.result is None else as_json(job.result)

    # The page of a job

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        """The page of a job: its facts, its progress, its error and its log."""
        job = kwargs.get("obj")
        if job is not None:
            context |= self._page(request, job)
        return super().render_change_form(request, context, *args, **kwargs)

    def _page(self, request: HttpRequest, job: Job) -> dict[str, Any]:
        may_read = may_read_logs(request.user)
        may_cancel = request.user.has_perm(CANCEL)
        may_run = job.task_id is not None and request.user.has_perm(RunJob.permission)
        part = joblog.end_of(job) if may_read else None
        is_open = job.state not in Job.FINAL
        return {
            "title": _("Job of %s") % job.procedure,
            "subtitle": None,
            "job": job,
            "job_state": job_state(job),
            "job_duration": span_text(job.duration),
            "task_address": self._task_address(request, job),
            "may_read": may_read,
            "may_cancel": may_cancel and is_open and job.cancel_requested_at is None,
            "may_run": may_run,
            "log_lines": list(joblog.lines(part.text)) if part else [],
            "log_last": part.last if part else 0,
            "log_head": joblog.HEAD,
            "log_is_cut": part.more if part else False,
            "is_open": is_open,
            "progress": progress_of(job),
            # Whoever may not see the live page is not let in there; he asks.
            "websocket": websocket_address() if may_see(request.user) else None,
        }

    def _task_address(self, request: HttpRequest, job: Job) -> str:
        may_see = request.user.has_perm("linod.view_backgroundtask") or request.user.has_perm(
            "linod.change_backgroundtask"
        )
        if job.task_id is None or not may_see or not self.admin_site.is_registered(BackgroundTask):
            return ""
        name = f"{self.admin_site.name}:linod_backgroundtask_change"
        return reverse(name, args=[job.task_id])

    def live_view(self, request: HttpRequest, key: Any) -> HttpResponse:
        """What is new about a job, as JSON; ``after``: the number of the last piece of log seen."""
        job = self._shown(request, key)
        given = request.GET.get("after", "0")
        number = int(given) if given.isdecimal() and len(given) < 10 else 0
        found: dict[str, Any] = {
            "state": job.state,
            "text": job_state_text(job),
            "open": job.state not in Job.FINAL,
            "asked_to_stop": job.cancel_requested_at is not None,
            "duration": span_text(job.duration),
            "progress": progress_of(job),
        }
        if may_read_logs(request.user):
            part = joblog.after(job, number)
            found |= {
                "lines": list(joblog.lines(part.text)),
                "last": part.last,
                "more": part.more,
                "error": job.error,
            }
        return JsonResponse(found)

    def log_view(self, request: HttpRequest, key: Any) -> HttpResponse | StreamingHttpResponse:
        """The whole log as a file."""
        job = self._shown(request, key)
        if not may_read_logs(request.user):
            raise PermissionDenied
        answer = StreamingHttpResponse(joblog.pieces(job), content_type="text/plain; charset=utf-8")
        answer["Content-Disposition"] = f'attachment; filename="job-{job.pk}.log"'
        answer["X-Content-Type-Options"] = "nosniff"
        return answer

    @or_excuse("../change/")
    def cancel_view(self, request: HttpRequest, key: Any) -> HttpResponse:
        """Cancel the job: at once before it began, else it is asked to stop."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        job = self._shown(request, key)
        if not request.user.has_perm(CANCEL):
            raise PermissionDenied
        if not job.cancel(request.user):
            self.message_user(request, _("The job has ended already."), messages.WARNING)
        else:
            said = (
                _("The job was cancelled.")
                if job.state == Job.State.CANCELLED
                else _("The job is asked to stop.")
            )
            self.message_user(request, said, messages.SUCCESS)
        return self._back(job)

    @or_excuse("../change/")
    def again_view(self, request: HttpRequest, key: Any) -> HttpResponse:
        """Ask for another run of the job's task."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        job = self._shown(request, key)
        if not request.user.has_perm(RunJob.permission):
            raise PermissionDenied
        tasks = list(BackgroundTask.objects.filter(pk=job.task_id or 0))
        if not tasks:
            self.message_user(request, _("Its background task is gone."), messages.WARNING)
            return self._back(job)
        asked = pacing.request_runs(BaseRequest(request.user), tasks)
        if asked.requested:
            said, level = _("The task is requested to run."), messages.SUCCESS
        elif asked.standing:
            said, level = _("The task was requested already."), messages.WARNING
        else:
            said = _("The task was requested a moment ago; wait five seconds.")
            level = messages.WARNING
        self.message_user(request, said, level)
        address = reverse(f"{self.admin_site.name}:linod_job_changelist")
        return HttpResponseRedirect(f"{address}?task={job.task_id}")

    def _shown(self, request: HttpRequest, key: Any) -> Job:
        job: Job | None = self.get_queryset(request).filter(pk=key).first()
        if job is None:
            # Whoever may see no job learns of none.
            raise Http404 if self.has_view_permission(request) else PermissionDenied
        if not self.has_view_permission(request, job):
            raise PermissionDenied
        return job

    def _back(self, job: Job) -> HttpResponse:
        name = f"{self.admin_site.name}:linod_job_change"
        return HttpResponseRedirect(reverse(name, args=[job.pk]))


def progress_of(job: Job) -> dict[str, Any] | None:
    """How far the job is, as numbers and in words; None when it never said so."""
    found: Any = job.progress
    if not isinstance(found, dict) or not isinstance(found.get("done"), int | float):
        return None
    done, total, text = found["done"], found.get("total") or None, str(found.get("text") or "")
    label = f"{amount(done)} / {amount(total)}" if total else amount(done)
    return {"done": done, "total": total, "text": text, "label": f"{label} {text}".strip()}
