"""What a background task is about, in words that people read."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from django.utils import timezone
from django.utils.formats import number_format
from django.utils.timesince import timesince, timeuntil
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

if TYPE_CHECKING:
    from linod.models import BackgroundTask


def moment_text(moment: datetime) -> str:
    """A moment as the site's wall clock shows it, to the second."""
    return timezone.localtime(moment).strftime("%Y-%m-%d %H:%M:%S")


def decimal_text(value: float, digits: int) -> str:
    """A number with so many digits behind the point, or the sign that the language has for it."""
    return str(number_format(Decimal(f"{value:.{digits}f}"), digits))


def distance_text(moment: datetime, now: datetime) -> str:
    """How far ``moment`` is from ``now``, in its largest unit.

    >>> from datetime import UTC, datetime, timedelta
    >>> now = datetime(2026, 11, 22, 5, tzinfo=UTC)
    >>> for seconds in (23 * 3600, 1, 0, -120):
    ...     print(distance_text(now + timedelta(seconds=seconds), now))
    23 hours from now
    1 second from now
    now
    2 minutes ago
    """
    seconds = int(abs(moment - now).total_seconds())
    if seconds == 0:
        return _("now")
    if seconds < 60:
        span = ngettext("%d second", "%d seconds", seconds) % seconds
    elif moment > now:
        span = timeuntil(moment, now, depth=1).replace("\xa0", " ")
    else:
        span = timesince(moment, now, depth=1).replace("\xa0", " ")
    return _("%s from now") % span if moment > now else _("%s ago") % span


def status_kind(task: BackgroundTask, is_running: bool) -> str:
    """What the task is about, as a word for programs: the first of these that fits."""
    if not task.procedure.is_known:
        return "unknown"
    if is_running:
        return "running"
    if task.requested_at is not None:
        return "requested"
    if task.disabled:
        return "disabled"
    if task.last_start_time is None:
        return "not_started"
    return "not_scheduled" if task.next_run_at is None else "scheduled"


def status_text(task: BackgroundTask, now: datetime, running_since: datetime | None) -> str:
    """:func:`status_kind` for people; ``running_since``: when its active job began."""
    kind = status_kind(task, running_since is not None)
    if kind == "unknown":
        return _("Unknown procedure")
    if running_since is not None:
        return _("Running since %(moment)s (%(distance)s)") % _when(running_since, now)
    if task.requested_at is not None:
        return _("Requested to run asap (since %s)") % moment_text(task.requested_at)
    if kind == "disabled" and task.disabled_until is not None:
        return _("Disabled until %s") % moment_text(task.disabled_until)
    if kind == "disabled":
        return _("Disabled")
    if kind == "not_started":
        return _("Not started")
    if task.next_run_at is not None:
        return _("Scheduled to run at %(moment)s (%(distance)s)") % _when(task.next_run_at, now)
    return _("Not scheduled")


def _when(moment: datetime, now: datetime) -> dict[str, str]:
    return {"moment": moment_text(moment), "distance": distance_text(moment, now)}
