"""The coming runs of the site, in their order: ``--forecast``.

It foretells what a daemon would begin; how long jobs take, and what people ask for meanwhile, it
cannot know.
"""

from __future__ import annotations

import re
from argparse import ArgumentTypeError
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo

from django.utils import timezone

from linod import clock
from linod.exceptions import InvalidRecurrence, MissingExtra
from linod.models import BackgroundTask
from linod.recurrence import Recurrence
from linod.rules import BY_WALL_CLOCK
from linod.status import moment_text

#: Seconds by the letters that a duration may have.
LETTERS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
#: The longest forecast.
LONGEST = timedelta(days=3660)
#: A task with more runs than this gets one line for all of them.
SINGLE_RUNS = 20
#: The most lines that are printed.
MAX_LINES = 1000

TICK = timedelta(microseconds=1)


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
        raise ArgumentTypeError(f"{text!r} is no duration such as 90m, 24h or 7d")
    pairs = re.findall(r"(\d+)([smhdw])", text)
    seconds = sum(int(number) * LETTERS[letter] for number, letter in pairs)
    if not 0 < seconds <= LONGEST.total_seconds():
        raise ArgumentTypeError(f"{text!r} must be from 1s to {LONGEST.days}d")
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
        found.append(f"... and {left} more lines; ask for a shorter time")
    return found or [f"Nothing is going to run until {moment_text(until)}."]


def runs(task: BackgroundTask, now: datetime, until: datetime) -> Iterator[Coming]:
    """The runs of one task from ``now`` until ``until``; a procedure that is unknown has none."""

    def coming(moment: datetime, text: str) -> Coming:
        return Coming(moment, task.seqno, task.pk, text)

    if not task.procedure.is_known:
        return
    if task.requested_at is not None:
        yield coming(now, f"{task.procedure}  requested: as soon as possible")
    begin = _begin(task)
    if begin is None:
        return
    try:
        rule = task.recurrence
    except (InvalidRecurrence, MissingExtra) as error:
        yield coming(now, f"{task.procedure}  cannot run: {error}")
        return
    if begin < now and not task.disabled:
        yield coming(now, f"{task.procedure}  overdue since {moment_text(begin)}")
    after = max(now, begin) - TICK
    number = rule.count(after, until)
    if number > SINGLE_RUNS:
        yield coming(*_summary(task, rule, after, until, number))
    else:
        for moment in rule.between(after, until, SINGLE_RUNS):
            yield coming(moment, f"{task.procedure}{shift_mark(rule, moment)}")


def _begin(task: BackgroundTask) -> datetime | None:
    """From when on its rule counts."""
    return task.disabled_until if task.disabled else task.next_run_at


def _summary(
    task: BackgroundTask, rule: Recurrence, after: datetime, until: datetime, number: int
) -> tuple[datetime, str]:
    first = rule.next_after(after) or until
    last = rule.latest_until(until) or until
    return first, f"{task.procedure}  {rule.describe()}: {number} runs until {_time_text(last)}"


def shift_mark(rule: Recurrence, moment: datetime) -> str:
    """Why a run does not come at its rule's time of day: a clock change leaves that time out."""
    usual = rule.wall_start.time()
    if rule.every_unit not in BY_WALL_CLOCK or moment.astimezone(rule.zone).time() == usual:
        return ""
    return f"  (shifted: the clocks leave out {usual:%H:%M:%S})"


def is_ambiguous(moment: datetime, zone: tzinfo) -> bool:
    """Whether the clocks of ``zone`` show the time of ``moment`` (aware) twice.

    >>> from datetime import UTC
    >>> from zoneinfo import ZoneInfo
    >>> night = datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    >>> [is_ambiguous(night + timedelta(hours=n), ZoneInfo("Europe/Brussels")) for n in range(3)]
    [True, True, False]
    """
    local = moment.astimezone(zone)
    return local.utcoffset() != local.replace(fold=1 - local.fold).utcoffset()


def _time_text(moment: datetime) -> str:
    """The site's local time; with its offset when the clocks show it twice."""
    zone = timezone.get_current_timezone()
    if is_ambiguous(moment, zone):
        local = moment.astimezone(zone)
        which = "second" if local.fold else "first"
        return f"{moment_text(moment)} ({which} of two, UTC{local.isoformat()[-6:]})"
    return moment_text(moment)
