"""Why a task did (not) run, for a person at a terminal: ``--why NAME [--at TIME]``."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from django.db.models import Q
from django.utils import translation
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from linod import clock, ledger
from linod.capture import storable
from linod.evidence import standing_of
from linod.exceptions import LinodError, UnknownProcedure
from linod.ledger import Answer
from linod.models import BackgroundTask
from linod.phrases import OneOf
from linod.procedures import Procedures
from linod.rules import EARLIEST
from linod.series import HORIZON
from linod.telling import Voice, shown_in
from linod.terminal import visible
from linod.wording import is_ambiguous

#: The most tasks of one name that are told about.
MOST = 10


class NoMoment(LinodError):
    """What stands behind ``--at`` names no moment."""


def answers(using: str, name: str, at: str | None) -> str:
    """What ``--why`` prints.

    Raises :class:`linod.exceptions.UnknownProcedure` and :class:`NoMoment`.
    """
    now = clock.db_now(using)
    blocks = []
    for task in find_tasks(using, name):
        voice = Voice(task)
        moment = None if at is None else _typed(at, voice.zone, now)
        blocks.append("\n".join(lines(task, voice, moment, now)))
    return "\n\n".join(blocks)


def find_tasks(using: str, name: str) -> list[BackgroundTask]:
    """The tasks of that procedure or name, or the one of that id ("8", "#8"), in their order.

    Raises :class:`linod.exceptions.UnknownProcedure`, with near names for a typing error.
    """
    rows = BackgroundTask.objects.using(using).order_by("seqno", "pk")
    number = re.fullmatch(r"#?(\d{1,18})", name)
    # A terminal may give bytes that are no text: databases refuse to look for them.
    text = storable(name)
    found = rows.filter(pk=int(number[1])) if number else rows.filter(
        Q(procedure=text) | Q(name=text)
    )  # fmt: skip
    tasks = list(found[:MOST])
    if not tasks:
        known = {*Procedures.known_names(), *rows.values_list("name", flat=True)}
        near = difflib.get_close_matches(name, sorted(known), n=3)
        if not near:
            raise UnknownProcedure(gettext_noop("There is no background task %(name)r"), name=name)
        message = gettext_noop("There is no background task %(name)r, did you mean %(near)s?")
        raise UnknownProcedure(message, name=name, near=OneOf(near))
    return tasks


def parse(text: str, zone: ZoneInfo, now: datetime) -> datetime:
    """A moment as people type it, in UTC; without an offset by the clocks of ``zone``.

    A time of day alone is the last such time before ``now``. Raises :class:`NoMoment`.

    >>> now = datetime(2026, 11, 22, 9, tzinfo=UTC)
    >>> for text in ("20:00", "09:30", "2026-11-21 20:00", "2026-11-21T20:00Z"):
    ...     print(parse(text, ZoneInfo("Europe/Brussels"), now))
    2026-11-21 19:00:00+00:00
    2026-11-22 08:30:00+00:00
    2026-11-21 19:00:00+00:00
    2026-11-21 20:00:00+00:00
    """
    return _typed(text, zone, now).astimezone(UTC)


def _typed(text: str, zone: ZoneInfo, now: datetime) -> datetime:
    """The same moment as it was typed: in ``zone`` when there is no offset."""
    try:
        if re.fullmatch(r"\d{1,2}:\d\d(:\d\d)?", text):
            hour, _colon, rest = text.partition(":")
            return _last(time.fromisoformat(f"{hour:0>2}:{rest}"), zone, now)
        moment = datetime.fromisoformat(text)
        if len(text) <= len("2026-11-22"):
            message = gettext_noop(
                "--at: %(text)r has no time of day; give one such as 20:00 or 2026-11-22T20:00"
            )
            raise NoMoment(message, text=text)
        typed = moment if moment.tzinfo else moment.replace(tzinfo=zone)
        if not is_answerable(typed):
            raise ValueError("no row tells of it")
        return typed
    except ValueError:
        message = gettext_noop("--at: %(text)r is no moment such as 20:00 or 2026-11-22T20:00")
        raise NoMoment(message, text=text) from None


def is_answerable(moment: datetime) -> bool:
    """Whether a moment (aware) is not so far away that the calendar ends beside it."""
    return EARLIEST <= moment < HORIZON


def _last(clock_time: time, zone: ZoneInfo, now: datetime) -> datetime:
    day: date = now.astimezone(zone).date()
    today = datetime.combine(day, clock_time, zone)
    if today.astimezone(UTC) <= now:
        return today
    return datetime.combine(day - timedelta(days=1), clock_time, zone)


def lines(task: BackgroundTask, voice: Voice, at: datetime | None, now: datetime) -> Iterator[str]:
    """The task and its rule, what became of its instants, and what comes next.

    :param at: the moment that is asked about, as it was typed.
    """
    standing = standing_of(task)
    words = standing.lack if standing.rule is None else standing.rule.describe(translation)
    yield f"{task}: {words} ({voice.zone.key})"
    if at is not None and (note := clock_note(at)):
        yield note
    *past, coming = ledger.why(task, at and at.astimezone(UTC), now)
    for answer in past:
        yield visible(_line(voice, answer.moment, answer), in_lines=False)
    yield visible(_("next: %s") % _line(voice, coming.due_at, coming), in_lines=False)


def clock_note(typed: datetime) -> str:
    """Which moment is meant by a time that the clocks of its zone leave out, or show twice.

    :param typed: aware; empty is the answer when its zone's clocks show it once.
    """
    zone = typed.tzinfo or UTC
    moment = typed.astimezone(UTC)
    words = {"asked": f"{typed:%Y-%m-%d %H:%M:%S}", "moment": shown_in(zone, moment)}
    if moment.astimezone(zone).time() != typed.time():
        return _("a clock change leaves out %(asked)s: this is about %(moment)s") % words
    if not is_ambiguous(moment, zone):
        return ""
    words["second"] = typed.replace(fold=1).isoformat()
    text = _("a clock change shows %(asked)s twice: this is about the first, not %(second)s")
    return text % words


def _line(voice: Voice, moment: datetime | None, answer: Answer) -> str:
    return f"{voice.moment(moment)}  {answer}" if moment is not None else str(answer)
