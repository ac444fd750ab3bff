"""From the fields of a row to the rule that they describe."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime, time
from functools import lru_cache
from zoneinfo import ZoneInfo

from linod.exceptions import InvalidRecurrence
from linod.phrases import gettext_noop
from linod.recurrence import Recurrence
from linod.rules import BY_WALL_CLOCK, DEFAULT_TIME, as_utc, as_zone, check_text

#: Where a parked rule begins, which needs no beginning.
LONG_AGO = date(2000, 1, 1)


@contextmanager
def answered() -> Iterator[None]:
    """A rule is built or asked here: what its own numbers come to must end nobody else's work.

    Raises :class:`linod.exceptions.InvalidRecurrence` where they lead beyond all that can be
    counted; databases hold larger ones than a calendar.
    """
    try:
        yield
    except (ArithmeticError, TypeError, ValueError) as error:
        message = gettext_noop("the rule cannot be answered (%(error)s)")
        raise InvalidRecurrence("every_unit", message, error=str(error)) from error


@lru_cache(maxsize=4096)
@answered()
def rule_of(
    every_unit: str,
    every: int,
    start_date: date | str | None,
    start_time: time | str | None,
    end_date: date | str | None,
    end_time: time | str | None,
    weekdays: frozenset[int],
    positions: str,
    max_events: int | None,
    cron: str,
    time_zone: str,
) -> Recurrence:
    """The rule of a row's fields; dates and times may still be texts, as a declaration gives them.

    Rows of the same rule share it, and what it has found out about itself.
    """
    zone = as_zone(time_zone)
    start_time = as_time("start_time", start_time)
    if start_time is None:
        start_time = DEFAULT_TIME if every_unit in BY_WALL_CLOCK else time()
    first_day = as_date("start_date", start_date)
    if first_day is None:
        if every_unit != "never":
            message = gettext_noop("is missing; it is set when the row is saved")
            raise InvalidRecurrence("start_date", message)
        first_day = LONG_AGO
    return Recurrence(
        every_unit,
        every,
        start=datetime.combine(first_day, start_time, zone),
        end=end_of(as_date("end_date", end_date), as_time("end_time", end_time), zone),
        weekdays=weekdays,
        positions=as_positions(positions),
        max_events=max_events,
        cron=cron,
        time_zone=time_zone,
    )


def as_positions(text: str) -> tuple[int, ...]:
    """Positions as a row holds them: whole numbers, separated by blanks or commas.

    >>> as_positions("1 3, -1")
    (1, 3, -1)
    """
    check_text("positions", text)
    try:
        return tuple(int(word) for word in text.replace(",", " ").split())
    except ValueError as error:
        message = gettext_noop('%(text)r is no list of whole numbers such as "1 -1"')
        raise InvalidRecurrence("positions", message, text=text) from error


def end_of(day: date | None, clock_time: time | None, zone: ZoneInfo) -> datetime | None:
    """The last moment of a rule; of a time that a clock change repeats, the second."""
    if day is None:
        if clock_time is not None:
            raise InvalidRecurrence("end_time", gettext_noop("needs an end date"))
        return None
    end = datetime.combine(day, time.max if clock_time is None else clock_time, zone)
    return max(as_utc(end), as_utc(end.replace(fold=1)))


def as_date(field: str, value: date | str | None) -> date | None:
    """A date, or its text in ISO form."""
    try:
        return date.fromisoformat(value) if isinstance(value, str) else value
    except ValueError as error:
        message = gettext_noop("%(value)r is no date such as 2026-12-31")
        raise InvalidRecurrence(field, message, value=value) from error


def as_time(field: str, value: time | str | None) -> time | None:
    """A time of day, or its text in ISO form."""
    try:
        return time.fromisoformat(value) if isinstance(value, str) else value
    except ValueError as error:
        message = gettext_noop("%(value)r is no time such as 20:00")
        raise InvalidRecurrence(field, message, value=value) from error
