"""What makes a rule answerable: the words of a recurrence, and the checks that refuse nonsense."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo, available_timezones

from linod.exceptions import InvalidRecurrence
from linod.phrases import gettext_noop
from linod.series import HORIZON

if TYPE_CHECKING:
    from linod.recurrence import Recurrence

#: The units of recurrence. ``per_weekday``, which rows of old may hold, reads as ``weekly``.
UNITS = (
    "once",
    "never",
    "secondly",
    "minutely",
    "hourly",
    "daily",
    "weekly",
    "monthly",
    "yearly",
    "easter",
    "cron",
)

#: The units of elapsed time.
STEPS = {
    "secondly": timedelta(seconds=1),
    "minutely": timedelta(minutes=1),
    "hourly": timedelta(hours=1),
}

#: The units of a day or longer, which go by the wall clock.
BY_WALL_CLOCK = frozenset({"daily", "weekly", "monthly", "yearly", "easter"})

#: The units that take weekdays.
BY_WEEKDAY = frozenset({*STEPS, "daily", "weekly", "monthly", "yearly"})

#: The units that take positions, and how many days one of them has at most.
BY_POSITION = {"monthly": 31, "yearly": 366}

#: The row's fields for the days of the week, Monday first.
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")

#: The time of day at which a rule of a day or longer starts when it is given none.
DEFAULT_TIME = time(20)

#: No rule starts before.
EARLIEST = datetime(2, 1, 1, tzinfo=UTC)


@lru_cache(maxsize=1024)
def as_zone(key: str) -> ZoneInfo:
    """The time zone of that name in the tz database.

    >>> as_zone("Irann")
    Traceback (most recent call last):
    ...
    linod.exceptions.InvalidRecurrence: time_zone: 'Irann' is unknown; did you mean 'Iran'?
    """
    check_text("time_zone", key)
    try:
        return ZoneInfo(key)
    except (KeyError, ValueError, OSError) as error:
        raise unknown("time_zone", key, available_timezones()) from error


def as_utc(moment: datetime) -> datetime:
    """An aware moment in UTC; near enough where that would lie beyond the calendar."""
    if moment.tzinfo is None:
        raise ValueError(f"{moment!r} has no time zone; give an aware datetime")
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        return datetime(moment.year, moment.month, moment.day, tzinfo=UTC)


def default_start(unit: str, moment: datetime, zone: ZoneInfo) -> tuple[date, time]:
    """Where a rule begins that was made at ``moment`` (aware) and is given no start.

    A unit of a day or longer starts at 20:00 of that day, all others at that very second.

    >>> moment = datetime(2026, 11, 22, 8, 30, 15, 999999, tzinfo=UTC)
    >>> default_start("daily", moment, as_zone("Europe/Brussels"))
    (datetime.date(2026, 11, 22), datetime.time(20, 0))
    >>> default_start("secondly", moment, as_zone("Europe/Brussels"))
    (datetime.date(2026, 11, 22), datetime.time(9, 30, 15))
    """
    made = moment.astimezone(zone).replace(microsecond=0)
    by_wall_clock = unit in BY_WALL_CLOCK or unit == "per_weekday"
    return made.date(), DEFAULT_TIME if by_wall_clock else made.time()


def unknown(field: str, word: str, words: Iterable[str]) -> InvalidRecurrence:
    """The error for a word that is none of ``words``, with the nearest of them."""
    near = difflib.get_close_matches(word, list(words), n=1)
    if not near:
        return InvalidRecurrence(field, gettext_noop("%(word)r is unknown"), word=word)
    message = gettext_noop("%(word)r is unknown; did you mean %(near)r?")
    return InvalidRecurrence(field, message, word=word, near=near[0])


def check_fields(rule: Recurrence) -> None:
    """Refuse a field whose value means nothing, or nothing in this unit."""
    check_text("every_unit", rule.every_unit)
    check_text("cron", rule.cron)
    if rule.every_unit not in UNITS:
        raise unknown("every_unit", rule.every_unit, UNITS)
    check_interval(rule)
    check_span(rule)
    if rule.every_unit == "never":
        return  # a rule that is parked may keep what it will need again
    check_weekdays(rule)
    check_positions(rule)
    if rule.every_unit == "cron":
        if not rule.cron.strip():
            message = gettext_noop('the unit cron needs five fields such as "0 9 * * 1-5"')
            raise InvalidRecurrence("cron", message)
        if rule.every != 1:
            message = gettext_noop("the unit cron takes no interval; leave it 1")
            raise InvalidRecurrence("every", message)
    elif rule.cron:
        raise InvalidRecurrence("cron", gettext_noop("this unit takes no cron expression"))


def check_text(field: str, value: object) -> None:
    """Refuse what is no text where one is expected."""
    if not isinstance(value, str):
        raise InvalidRecurrence(field, gettext_noop("give a text, not %(value)r"), value=value)


def check_interval(rule: Recurrence) -> None:
    """Refuse an interval or a number of events that is not 1 or more."""
    if not is_whole(rule.every) or rule.every < 1:
        raise InvalidRecurrence("every", gettext_noop("give a whole number from 1 on"))
    if rule.max_events is not None and (not is_whole(rule.max_events) or rule.max_events < 1):
        message = gettext_noop("give a whole number from 1 on, or leave it empty")
        raise InvalidRecurrence("max_events", message)
    if rule.every_unit in STEPS:
        try:
            rule.every * STEPS[rule.every_unit]
        except OverflowError as error:
            message = gettext_noop("the interval is too long")
            raise InvalidRecurrence("every", message) from error


def check_span(rule: Recurrence) -> None:
    """Refuse a start and an end that are no span of time."""
    as_zone(rule.time_zone)
    for field, moment in (("start_date", rule.start), ("end_date", rule.end)):
        if moment is not None and moment.tzinfo is None:
            raise InvalidRecurrence(field, gettext_noop("the moment has no time zone"))
    if not EARLIEST <= as_utc(rule.start) < HORIZON:
        message = gettext_noop("the start must lie from %(first)s to %(last)s (in UTC)")
        first, last = EARLIEST.date(), HORIZON.date() - timedelta(days=1)
        raise InvalidRecurrence("start_date", message, first=first, last=last)
    if rule.end is not None and as_utc(rule.end) < as_utc(rule.start):
        raise InvalidRecurrence("end_date", gettext_noop("the end lies before the start"))


def check_weekdays(rule: Recurrence) -> None:
    """Refuse weekdays that do not exist, or in a unit that takes none."""
    for day in rule.weekdays:
        if not is_whole(day) or not 0 <= day <= 6:
            message = gettext_noop("weekdays are 0 (Monday) to 6, not %(day)r")
            raise InvalidRecurrence("monday", message, day=day)
    if rule.weekdays and rule.every_unit not in BY_WEEKDAY:
        message = gettext_noop("this unit takes no days of the week")
        raise InvalidRecurrence(weekday_field(rule), message)


def check_positions(rule: Recurrence) -> None:
    """Refuse positions that no month or year has, or in a unit that takes none."""
    if not rule.positions:
        return
    largest = BY_POSITION.get(rule.every_unit)
    if largest is None:
        raise InvalidRecurrence("positions", gettext_noop("this unit takes no positions"))
    for position in rule.positions:
        if not is_whole(position) or not 1 <= abs(position) <= largest:
            message = gettext_noop("give whole numbers from 1 to %(last)d or -1 to -%(last)d")
            raise InvalidRecurrence("positions", message, last=largest)


def check_occurs(rule: Recurrence, first: datetime | None) -> None:
    """Refuse a rule that never names an instant; ``first`` is its first one, its end apart."""
    if rule.every_unit == "never":
        return
    if first is None:
        field = "cron" if rule.cron else "positions" if rule.positions else "every"
        if field == "every" and rule.weekdays:
            field = weekday_field(rule)
        raise InvalidRecurrence(field, gettext_noop("the rule never names a day"))
    if rule.end is not None and first > rule.end:
        message = gettext_noop("the rule names nothing from its start to its end")
        raise InvalidRecurrence("end_date", message)


def weekday_field(rule: Recurrence) -> str:
    """The row's field of the first weekday that the rule names."""
    return WEEKDAYS[min(rule.weekdays)]


def is_whole(value: object) -> bool:
    """Whether a value is a whole number, and no truth value."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_fraction(value: Any) -> bool:
    """Whether something is a number, but not a whole one.

    >>> [is_fraction(value) for value in (1.5, float("inf"), float("nan"), 2.0, "1.5", None)]
    [True, True, True, False, False, False]
    """
    try:
        return not isinstance(value, str) and int(value) != value
    except TypeError:
        return False
    except (OverflowError, ValueError):  # infinity, NaN
        return True
