"""The live page: what the site's tasks do right now, and a few buttons.

It is whole without JavaScript; with it, ``live.js`` asks :func:`state` for the parts that changed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any
from uuid import UUID

from django.apps import apps
from django.conf import global_settings, settings
from django.contrib import messages
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.db import Error
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseRedirect,
    JsonResponse,
    QueryDict,
)
from django.shortcuts import get_object_or_404, render
from django.urls import NoReverseMatch, reverse
from django.utils import translation
from django.utils.cache import patch_cache_control
from django.utils.translation import get_language
from django.utils.translation import gettext as _
from django.views.decorators.csrf import csrf_protect
from django.views.decorators.http import require_GET, require_POST

from linod import clock, health, pacing
from linod.conf import config
from linod.exceptions import ChangedMeanwhile, InvalidRecurrence, MissingExtra
from linod.history import Job
from linod.layers import websocket_address
from linod.models import BackgroundTask
from linod.overview import Overview
from linod.parts import CANCEL, CHANGE, PARTS, Page, marks, namespace
from linod.requests import BaseRequest
from linod.rights import may_see
from linod.tables import RunJob

View = Callable[..., HttpResponse]

#: Seconds between two readings by the browser: as long as nobody tells it of changes, while it is
#: told over a websocket, and while nobody looks.
POLL, POLL_LIVE, POLL_HIDDEN = 2, 10, 15


def for_viewers(view: View) -> View:
    """Only for users who may see tasks and jobs; what they see is nobody else's to keep."""

    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if not may_see(request.user):
            raise PermissionDenied
        response = view(request, *args, **kwargs)
        patch_cache_control(response, private=True, no_store=True)
        return response

    return guarded


def or_excuse(view: View) -> View:
    """What the database does not do for now is told to who clicked."""

    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        try:
            return view(request, *args, **kwargs)
        except Error as error:
            text = health.excuse(error)
            if not text:
                raise
        return _answer(request, messages.ERROR, text)

    return guarded


def or_login(view: View) -> View:
    """Whoever is not logged in is asked to, and comes back."""

    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if request.user.is_authenticated:
            return view(request, *args, **kwargs)
        if wants_json(request):
            raise PermissionDenied
        # What was posted is not done after the login: the page shows what there is to do.
        is_get = request.method == "GET"
        back = request.get_full_path() if is_get else address(request, "live")
        return redirect_to_login(back, login_url())

    return guarded


def wants_json(request: HttpRequest) -> bool:
    """Whether a script asks, and not a form."""
    return request.headers.get("Accept") == "application/json"


def address(request: HttpRequest, name: str, *args: Any) -> str:
    """Another view of the page, there where this one is: by itself, or inside the admin."""
    return reverse(f"{namespace(request)}:{name}", args=args)


def login_url() -> str:
    """``LOGIN_URL``; the admin's login where the site has left that setting alone."""
    if settings.LOGIN_URL == global_settings.LOGIN_URL:
        try:
            return reverse("admin:login")
        except NoReverseMatch:
            pass
    return str(settings.LOGIN_URL)


@require_GET
@or_login
@for_viewers
def live(request: HttpRequest) -> HttpResponse:
    """The page."""
    page = Page(request, _overview())
    parts = page.render(PARTS)
    return render(
        request,
        "linod/live.html",
        {
            **_admin_context(request),
            "title": _("Live page"),
            "window_title": page.title,
            "failing": page.counts["failing"],
            "namespace": namespace(request),
            "parts": parts,
            "back": request.GET.urlencode(),
            "script_data": _script_data(request, marks(parts)),
        },
    )


@require_GET
@for_viewers
def state(request: HttpRequest) -> JsonResponse:
    """The parts that look different from what the browser has.

    ``since`` names what it has (``name.mark`` with hyphens between), ``only`` the parts that it
    asks about (names with hyphens between; default: all). The other parameters are the page's.
    """
    page = Page(request, _overview())
    only = request.GET.get("only", "").split("-")
    names = [name for name in PARTS if name in only] or list(PARTS)
    had = set(request.GET.get("since", "").split("-"))
    parts = page.render(names)
    found = marks(parts)
    failing = page.counts["failing"]
    return JsonResponse(
        {
            "title": page.title,
            "failing": failing,
            "icon": address(request, "icon", failing),
            "marks": found,
            "parts": {name: parts[name] for name in names if f"{name}.{found[name]}" not in had},
        }
    )


@require_GET
@for_viewers
def icon(request: HttpRequest, number: int) -> HttpResponse:
    """The page's icon: a green disk, or a red one with the number of failing tasks."""
    text = str(number) if number < 100 else "99+"
    context = {"number": number, "text": text, "size": (0, 44, 36, 25)[len(text)]}
    return render(request, "linod/icon.svg", context, content_type="image/svg+xml")


def _overview() -> Overview:
    using = config().DATABASE
    return Overview(using, clock.db_now(using))


def _admin_context(request: HttpRequest) -> dict[str, Any]:
    """What the admin's own base page needs; a site without the admin has a plain one."""
    if not apps.is_installed("django.contrib.admin"):
        return {"base": "linod/base.html"}
    from django.contrib import admin

    try:
        context = admin.site.each_context(request)
    except NoReverseMatch:  # the admin has no addresses here
        return {"base": "linod/base.html"}
    return {**context, "base": "linod/admin_base.html", "is_nav_sidebar_enabled": False}


def _script_data(request: HttpRequest, marks_: dict[str, str]) -> dict[str, Any]:
    """What the script needs to know; its texts are translated here."""
    return {
        "state": address(request, "state"),
        "websocket": websocket_address(),
        "marks": marks_,
        "seconds": {"polling": POLL, "live": POLL_LIVE, "hidden": POLL_HIDDEN},
        "language": get_language() or settings.LANGUAGE_CODE,
        "texts": {
            "live": _("live"),
            "polling": _("polling"),
            "offline": _("offline"),
            "live_help": _("Changes are shown as they happen."),
            "polling_help": _("The page asks for changes every few seconds."),
            "offline_help": _("The site does not answer; what you see may be old."),
            "logged_out": _("You are logged out. Load the page again."),
            "failed": _("That did not work: the site does not answer."),
            "forbidden": _("You may not do that, or you are logged out. Load the page again."),
            "gone": _("That does not exist any more."),
            "events": _("Channel layer answers"),
            "no_events": _("Channel layer does not answer"),
            "lag": _("Loop %s ms late"),
        },
    }


# What one may do


@require_POST
@csrf_protect
@or_login
@for_viewers
@or_excuse
def act(request: HttpRequest, task_id: int, action: str) -> HttpResponse:
    """Run now, take the request back, enable or disable a task."""
    if action not in ACTIONS:
        raise PermissionDenied
    permission, do = ACTIONS[action]
    if not request.user.has_perm(permission):
        raise PermissionDenied
    task = get_object_or_404(BackgroundTask.objects.using(config().DATABASE), pk=task_id)
    try:
        level, text = do(task, request.user)
    except (ChangedMeanwhile, InvalidRecurrence, MissingExtra) as error:
        level, text = messages.ERROR, f"{task}: {error.said(translation)}"
    return _answer(request, level, text)


@require_POST
@csrf_protect
@or_login
@for_viewers
@or_excuse
def cancel_job(request: HttpRequest, job_id: UUID) -> HttpResponse:
    """Ask a job to stop."""
    if not request.user.has_perm(CANCEL):
        raise PermissionDenied
    job = get_object_or_404(Job.objects.using(config().DATABASE), pk=job_id)
    if job.cancel(request.user):
        return _answer(request, messages.SUCCESS, _("%s was asked to stop.") % job.procedure)
    return _answer(request, messages.WARNING, _("%s has ended meanwhile.") % job.procedure)


def _run(task: BackgroundTask, user: Any) -> tuple[int, str]:
    asked = pacing.request_runs(BaseRequest(user), [task])
    if asked.too_soon:
        text = _("%s was requested a moment ago; ask again in a few seconds.")
        return messages.WARNING, text % task
    if asked.standing:
        return messages.INFO, _("%s is requested already.") % task
    if not asked.requested:
        raise Http404  # deleted meanwhile
    return messages.SUCCESS, _("%s is requested to run.") % task


def _cancel(task: BackgroundTask, user: Any) -> tuple[int, str]:
    if task.cancel_request(user):
        return messages.SUCCESS, _("The request of %s was cancelled.") % task
    return messages.WARNING, _("%s is not requested any more.") % task


def _enable(task: BackgroundTask, user: Any) -> tuple[int, str]:
    if not task.disabled:
        return messages.INFO, _("%s is enabled already.") % task
    task.enable(user)
    return messages.SUCCESS, _("%s was enabled.") % task


def _disable(task: BackgroundTask, user: Any) -> tuple[int, str]:
    if task.disabled:
        return messages.INFO, _("%s is disabled already.") % task
    task.disable(_("by %s") % user, user=user)
    return messages.SUCCESS, _("%s was disabled.") % task


ACTIONS: dict[str, tuple[str, Callable[[BackgroundTask, Any], tuple[int, str]]]] = {
    "run": (RunJob.permission, _run),
    "cancel": (CANCEL, _cancel),
    "enable": (CHANGE, _enable),
    "disable": (CHANGE, _disable),
}


def _answer(request: HttpRequest, level: int, text: str) -> HttpResponse:
    """To a script what it shall say; to a form the page that it came from."""
    if wants_json(request):
        return JsonResponse({"level": messages.DEFAULT_TAGS[level], "text": text})
    messages.add_message(request, level, text, fail_silently=True)
    # Only the query of that page is taken from the form: it cannot lead elsewhere.
    query = QueryDict(request.POST.get("back", "")).urlencode()
    page = address(request, "live")
    return HttpResponseRedirect(f"{page}?{query}" if query else page)
