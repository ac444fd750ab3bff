"""Moments and lengths of time as the live page writes them."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django import template
from django.urls import NoReverseMatch, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from linod.conf import config
from linod.history import Job
from linod.models import BackgroundTask
from linod.overview import NAMED
from linod.rights import may_see
from linod.status import decimal_text
from linod.timeline import WIDTH, Lane, Run, Stroke

register = template.Library()


@register.simple_tag(takes_context=True)
def live_page(context: dict[str, Any]) -> str:
    """The address of the live page for the admin's pages; empty for whoever may not see it.

    Its own where the project names one; else that inside the admin.
    """
    request = context["request"]
    if not may_see(request.user):
        return ""
    try:
        return reverse("linod:live")
    except NoReverseMatch:
        site = getattr(request, "current_app", None)
        return reverse("admin:linod:live", current_app=site and f"{site}:linod")


@register.simple_tag
def disabled_tasks() -> dict[str, Any]:
    """How many tasks are disabled, and the procedures of the first of them."""
    disabled = BackgroundTask.objects.using(config().DATABASE).filter(disabled=True)
    first = disabled.order_by("seqno", "pk").values_list("procedure", flat=True)
    return {"number": disabled.count(), "named": [*first[:NAMED]]}


@register.filter
def moment(value: datetime | None, now: datetime) -> str | SafeString:
    """A ``<time>`` element in the site's local time; the date only when it is not today's.

    What it says does not go stale: ``live.js`` adds how far away that is.
    """
    if value is None:
        return "-"
    local = timezone.localtime(value)
    is_today = local.date() == timezone.localtime(now).date()
    return format_html(
        '<time datetime="{}" title="{}">{}</time>',
        local.isoformat(timespec="seconds"),
        local.strftime("%Y-%m-%d %H:%M:%S %Z"),
        local.strftime("%H:%M:%S" if is_today else "%Y-%m-%d %H:%M"),
    )


@register.filter
def span(value: timedelta | None) -> str:
    """A length of time in its two largest units.

    >>> [span(timedelta(seconds=n)) for n in (0.0312, 12.34, 200, 7500, 200000)]
    ['31 ms', '12.3 s', '3 min 20 s', '2 h 5 min', '2 d 7 h']
    """
    if value is None:
        return ""
    seconds = max(value.total_seconds(), 0.0)
    if seconds < 1:
        return _("%d ms") % round(seconds * 1000)
    if seconds < 60:
        return _("%s s") % decimal_text(seconds, 1)
    whole = round(seconds)
    if whole < 3600:
        return _("%(minutes)d min %(seconds)d s") % {"minutes": whole // 60, "seconds": whole % 60}
    minutes = whole // 60
    if minutes < 48 * 60:
        return _("%(hours)d h %(minutes)d min") % {"hours": minutes // 60, "minutes": minutes % 60}
    hours = minutes // 60
    return _("%(days)d d %(hours)d h") % {"days": hours // 24, "hours": hours % 24}


@register.filter
def plain(value: float) -> str:
    """A number as attributes want it, whatever the language's signs are."""
    return f"{value:.10g}"


@register.filter
def amount(value: float) -> str:
    """A number for people: no more digits than they read.

    >>> amount(1234), amount(12.0), amount(3.14159)
    ('1234', '12', '3.14')
    """
    return f"{value:.0f}" if float(value).is_integer() else f"{value:.2f}"


@register.simple_tag
def percent(x: float) -> str:
    """A place in the timeline's window, for a drawing that keeps its letters' shape."""
    return f"{x * 100 / WIDTH:.3f}%"


@register.simple_tag
def bars(strokes: list[Stroke], y: int, height: int) -> str:
    """Upright bars as the data of one SVG path."""
    return "".join(
        f"M{stroke.x:.1f} {y}h{stroke.width:.1f}v{height}h-{stroke.width:.1f}z"
        for stroke in strokes
    )


@register.simple_tag
def took(task: BackgroundTask) -> str:
    """How long the last run took."""
    start, end = task.last_start_time, task.last_end_time
    return "" if start is None or end is None else span(end - start)


@register.simple_tag
def run_text(run: Run) -> str:
    """What one stroke of the timeline stands for."""
    state = Job.State(run.state).label
    start = f"{timezone.localtime(run.start):%H:%M:%S}"
    if run.end is None:
        return _("%(state)s since %(start)s") % {"state": state, "start": start}
    values = {"state": state, "start": start, "span": span(run.end - run.start)}
    return _("%(start)s %(state)s, %(span)s") % values


@register.simple_tag
def lane_text(lane: Lane) -> str:
    """What a lane shows, for those who cannot see it."""
    words = [ngettext("%d run", "%d runs", lane.runs) % lane.runs]
    if lane.failures:
        words.append(ngettext("%d failed", "%d failed", lane.failures) % lane.failures)
    if lane.band is not None:
        words.append(_("planned often"))
    elif lane.planned:
        words.append(ngettext("%d planned", "%d planned", len(lane.planned)) % len(lane.planned))
    return ", ".join(words)
