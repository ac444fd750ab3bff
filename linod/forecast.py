"""The coming runs of the site, in their order: ``--forecast``.

It foretells what a daemon would begin; how long jobs take, and what people ask for meanwhile, it
cannot know.
"""

from __future__ import annotations

import re
from argparse import ArgumentTypeError
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.utils import timezone, translation
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from linod import clock
from linod.exceptions import InvalidRecurrence, MissingExtra
from linod.models import BackgroundTask
from linod.planning import comes_after
from linod.recurrence import Recurrence
from linod.status import moment_text
from linod.wording import is_ambiguous, left_out

#: Seconds by the letters that a duration may have.
LETTERS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
#: The longest forecast.
LONGEST = timedelta(days=3660)
#: A task with more runs than this gets one line for all of them.
SINGLE_RUNS = 20
#: The most lines that are printed.
MAX_LINES = 1000


@dataclass(frozen=True, order=True)
class Coming:
    """A line of the forecast; ``seqno`` and ``task`` (its id) order what comes together."""

    moment: datetime
    seqno: int
    task: int
    text: str


def duration(text: str) -> timedelta:
    """A length of time as people type it, from a second to ten years.

    Raises :class:`argparse.ArgumentTypeError` when it is none.

    >>> duration("24h"), duration("1h30m")
    (datetime.timedelta(days=1), datetime.timedelta(seconds=5400))
    """
    if not re.fullmatch(r"(\d{1,9}[smhdw])+", text):
        message = _("%(text)r is no duration such as 90m, 24h or 7d")
        raise ArgumentTypeError(message % {"text": text})
    pairs = re.findall(r"(\d+)([smhdw])", text)
    seconds = sum(int(number) * LETTERS[letter] for number, letter in pairs)
    if not 0 < seconds <= LONGEST.total_seconds():
        message = _("%(text)r must be from 1s to %(days)dd")
        raise ArgumentTypeError(message % {"text": text, "days": LONGEST.days})
    return timedelta(seconds=seconds)


def forecast(using: str, span: timedelta) -> str:
    """What ``--forecast`` prints."""
    tasks = BackgroundTask.objects.using(using).order_by("seqno", "pk")
    return "\n".join(lines(tasks, clock.db_now(using), span))


def lines(tasks: Iterable[BackgroundTask], now: datetime, span: timedelta) -> list[str]:
    """What would run from ``now`` (aware) on, in the site's local time; at most ``MAX_LINES``."""
    tasks, until = list(tasks), now + span
    coming = sorted(run for task in tasks for run in runs(task, now, until))
    found = [f"{_time_text(each.moment)}  {each.text}" for each in coming[:MAX_LINES]]
    if len(coming) > MAX_LINES:
        left = len(coming) - MAX_LINES
        text = ngettext(
            "... and %d more lines; ask for a shorter time",
            "... and %d more lines; ask for a shorter time",
            left,
        )
        found.append(text % left)
    return found or [_("Nothing is going to run until %s.") % moment_text(until)]


def runs(task: BackgroundTask, now: datetime, until: datetime) -> Iterator[Coming]:
    """The runs of one task from ``now`` until ``until``; a procedure that is unknown has none."""

    def coming(moment: datetime, text: str) -> Coming:
        return Coming(moment, task.seqno, task.pk, text)

    if not task.procedure.is_known:
        return
    if task.requested_at is not None:
        text = _("requested: as soon as possible")
        yield coming(now, f"{task.procedure}  {text}")
    after = comes_after(task, now)
    if after is None:
        return
    try:
        rule = task.recurrence
    except (InvalidRecurrence, MissingExtra) as error:
        text = _("cannot run: %s") % error.said(translation)
        yield coming(now, f"{task.procedure}  {text}")
        return
    if not task.disabled and task.next_run_at is not None and task.next_run_at < now:
        text = _("overdue since %s") % moment_text(task.next_run_at)
        yield coming(now, f"{task.procedure}  {text}")
    number = rule.count(after, until)
    if number > SINGLE_RUNS:
        yield coming(*_summary(task, rule, after, until, number))
    else:
        for moment in rule.between(after, until, SINGLE_RUNS):
            yield coming(moment, f"{task.procedure}{shift_mark(rule, moment)}")


def _summary(
    task: BackgroundTask, rule: Recurrence, after: datetime, until: datetime, number: int
) -> tuple[datetime, str]:
    first = rule.next_after(after) or until
    last = rule.latest_until(until) or until
    text = ngettext(
        "%(rule)s: %(number)d run until %(last)s",
        "%(rule)s: %(number)d runs until %(last)s",
        number,
    )
    words = {"rule": rule.describe(translation), "number": number, "last": _time_text(last)}
    return first, f"{task.procedure}  {text % words}"


def shift_mark(rule: Recurrence, moment: datetime) -> str:
    """Why a run does not come at its rule's time of day: a clock change leaves that time out."""
    usual = left_out(rule, moment)
    if usual is None:
        return ""
    return "  ({})".format(_("shifted: the clocks leave out %s") % f"{usual:%H:%M:%S}")


def _time_text(moment: datetime) -> str:
    """The site's local time; with its offset when the clocks show it twice."""
    zone = timezone.get_current_timezone()
    if is_ambiguous(moment, zone):
        local = moment.astimezone(zone)
        words = {"moment": moment_text(moment), "offset": local.isoformat()[-6:]}
        if local.fold:
            return _("%(moment)s (second of two, UTC%(offset)s)") % words
        return _("%(moment)s (first of two, UTC%(offset)s)") % words
    return moment_text(moment)
