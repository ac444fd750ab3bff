"""The site's recurring tasks as ``--list`` shows them: numbered lines, or JSON.

In English a line is what :class:`schedule.Job` writes about itself wherever it knows such a rule;
for all other rules, and in other languages, it has the same form, with the rule in words.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import schedule
from django.conf import settings
from django.utils import timezone, translation
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from linod.exceptions import InvalidRecurrence, MissingExtra
from linod.models import BackgroundTask
from linod.phrases import ENGLISH, Language
from linod.procedures import Procedures
from linod.rules import BY_WALL_CLOCK
from linod.wording import DAYS

if TYPE_CHECKING:
    from linod.recurrence import Recurrence

#: The units that ``schedule`` knows, and what it calls them.
UNITS = {
    "secondly": "seconds",
    "minutely": "minutes",
    "hourly": "hours",
    "daily": "days",
    "weekly": "weeks",
}


def listing(using: str, *, for_programs: bool = False) -> str:
    """What ``--list`` prints, and ``--list --json``."""
    tasks = listed_tasks(using)
    return as_json(tasks) if for_programs else "\n".join(lines(tasks))


def listed_tasks(using: str) -> list[BackgroundTask]:
    """The enabled tasks that have a recurrence, by their number."""
    tasks = BackgroundTask.objects.using(using).enabled().recurring()
    return list(tasks.order_by("seqno", "pk"))


def without_task(using: str) -> list[str]:
    """The procedures that no row refers to; a daemon makes their rows when it starts."""
    rows = BackgroundTask.objects.using(using).values_list("procedure", flat=True)
    present = set(map(str, rows))
    return [each.name for each in Procedures if present.isdisjoint(each.names)]


def disabled(using: str) -> list[str]:
    """The recurring procedures that are left out of the list because their task is disabled."""
    tasks = BackgroundTask.objects.using(using).recurring().filter(disabled=True)
    return [str(task.procedure) for task in tasks.order_by("seqno", "pk")]


def lines(tasks: Sequence[BackgroundTask]) -> list[str]:
    """The heading and a line for each task; times are the site's local ones."""
    if not tasks:
        return [_("This site has no scheduled jobs.")]
    # As it always was, also for one.
    heading = ngettext("%d scheduled jobs:", "%d scheduled jobs:", len(tasks)) % len(tasks)
    return [heading, *(f"[{no}] {line(task)}" for no, task in enumerate(tasks, start=1))]


def line(task: BackgroundTask) -> str:
    """A task as ``schedule`` would show it, or in that form."""
    job = as_schedule_job(task)
    if job is not None and _is_english():
        return repr(job)
    rule = rule_text(task, translation)
    words = {
        "rule": f"{rule[:1].upper()}{rule[1:]}",
        "procedure": task.procedure,
        "last": _time_text(task.last_start_time),
        "next": _time_text(task.next_run_at),
    }
    return _("%(rule)s do %(procedure)s() (last run: %(last)s, next run: %(next)s)") % words


def _is_english() -> bool:
    """Also where translations are off (``translation.deactivate_all()``)."""
    return (translation.get_language() or "en").partition("-")[0] == "en"


def as_schedule_job(task: BackgroundTask) -> schedule.Job | None:
    """The job that writes the task's line; None for a rule that ``schedule`` cannot say."""
    try:
        rule = task.recurrence
    except (InvalidRecurrence, MissingExtra):
        return None
    if not _is_sayable(rule):
        return None
    job = schedule.Job(rule.every)
    job.unit = UNITS[rule.every_unit]
    if rule.every_unit in BY_WALL_CLOCK:
        job.at_time = rule.wall_start.time()
    if rule.every_unit == "weekly":
        weekday = min(rule.weekdays, default=rule.wall_start.weekday())
        job.start_day = DAYS[weekday].lower()
    job.job_func = functools.partial(str)
    job.job_func.__name__ = str(task.procedure)  # type: ignore[attr-defined]
    job.last_run, job.next_run = _naive(task.last_start_time), _naive(task.next_run_at)
    return job


def _is_sayable(rule: Recurrence) -> bool:
    if rule.every_unit not in UNITS or rule.end is not None or rule.max_events is not None:
        return False
    if rule.every_unit in BY_WALL_CLOCK and rule.time_zone != settings.TIME_ZONE:
        return False
    if rule.every_unit == "weekly":
        return rule.every == 1 and len(rule.weekdays) <= 1
    return not rule.weekdays


def rule_text(task: BackgroundTask, language: Language = ENGLISH) -> str:
    """The task's rule in words, with its time zone when that is not the site's.

    In English, for programs, unless another language is asked for.
    """
    try:
        rule = task.recurrence
    except (InvalidRecurrence, MissingExtra) as error:
        text = language.gettext("no run, because the rule cannot be answered (%(error)s)")
        return text % {"error": error.said(language)}
    words = rule.describe(language)
    return f"{words} ({rule.time_zone})" if rule.time_zone != settings.TIME_ZONE else words


def as_json(tasks: Sequence[BackgroundTask]) -> str:
    """The same list for programs; moments in ISO 8601 with the site's offset, or null."""
    items = [
        {
            "no": no,
            "task": task.pk,
            "procedure": task.procedure.name,
            "known": task.procedure.is_known,
            "rule": rule_text(task),
            "last_run": _iso(task.last_start_time),
            "next_run": _iso(task.next_run_at),
        }
        for no, task in enumerate(tasks, start=1)
    ]
    return json.dumps(items, indent=2)


def _naive(moment: datetime | None) -> datetime | None:
    return None if moment is None else timezone.localtime(moment).replace(tzinfo=None)


def _time_text(moment: datetime | None) -> str:
    return _("[never]") if moment is None else f"{timezone.localtime(moment):%Y-%m-%d %H:%M:%S}"


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else timezone.localtime(moment).isoformat(timespec="seconds")
