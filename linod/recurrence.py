"""When something happens: the rule :class:`Recurrence`. Pure: no clock, no database, no Django.

The days are counted in :mod:`linod.calendars`, the instants in :mod:`linod.series`,
:mod:`linod.elapsed` and :mod:`linod.cronrule`, the words are made in :mod:`linod.wording`.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from dateutil.easter import easter

from linod import calendars, cronrule, elapsed, series, wording
from linod.phrases import ENGLISH, Language
from linod.rules import (
    BY_WALL_CLOCK,
    EARLIEST,
    STEPS,
    as_utc,
    as_zone,
    check_fields,
    check_occurs,
)
from linod.series import HORIZON, TICK

if TYPE_CHECKING:
    from dateutil.rrule import rrule

#: The longest list that :meth:`Recurrence.between` makes without being told how long.
MAX_LISTED = 1_000_000


@dataclass(frozen=True)
class Recurrence:
    """A rule that names instants.

    :param every_unit: one of :data:`UNITS`.
    :param every: how many units from one occurrence to the next.
    :param start: aware; an occurrence when it fits the rule, and nothing occurs before it.
    :param end: aware; nothing occurs after it.
    :param weekdays: days of the week, 0 is Monday.
    :param positions: which of the matching days of a month or year; negative ones count from its
        end.
    :param max_events: how many occurrences there are from the start on.
    :param cron: five fields, only with the unit ``cron``.
    :param time_zone: a key of the tz database; its clocks give days and times of day.

    Raises :class:`linod.exceptions.InvalidRecurrence`, with the name of the row's field to mend,
    when the rule cannot be answered or never names an instant. Answers are aware and in UTC:

    >>> from datetime import UTC, datetime
    >>> def show(rule, after, count=3):
    ...     for _ in range(count):
    ...         after = rule.next_after(after)
    ...         print(f"{after.astimezone(as_zone(rule.time_zone)):%a %Y-%m-%d %H:%M:%S %z}")
    >>> brussels = dict(time_zone="Europe/Brussels")

    Occurrences count from the start, and never from the last end; there is no drift.

    >>> start = datetime(2026, 3, 28, 12, 0, 7, tzinfo=UTC)
    >>> rule = Recurrence("secondly", 300, start=start)
    >>> show(rule, datetime(2026, 3, 28, 13, 33, 33, tzinfo=UTC))
    Sat 2026-03-28 13:35:07 +0000
    Sat 2026-03-28 13:40:07 +0000
    Sat 2026-03-28 13:45:07 +0000

    Seconds, minutes and hours are elapsed time, straight through clock changes.

    >>> night = datetime(2026, 10, 25, 0, 0, tzinfo=UTC)
    >>> show(Recurrence("minutely", 30, start=start, **brussels), night, 4)
    Sun 2026-10-25 02:00:07 +0200
    Sun 2026-10-25 02:30:07 +0200
    Sun 2026-10-25 02:00:07 +0100
    Sun 2026-10-25 02:30:07 +0100

    Weekdays filter them by the local day.

    >>> sundays = frozenset({6})
    >>> show(Recurrence("hourly", 6, start=start, weekdays=sundays, **brussels), start, 5)
    Sun 2026-03-29 01:00:07 +0100
    Sun 2026-03-29 08:00:07 +0200
    Sun 2026-03-29 14:00:07 +0200
    Sun 2026-03-29 20:00:07 +0200
    Sun 2026-04-05 02:00:07 +0200

    A unit of a day or longer goes by the wall clock. What a spring change leaves out happens once,
    later by the gap; what an autumn change repeats happens the first time only.

    >>> start = datetime(2026, 3, 28, 1, 30, tzinfo=UTC)
    >>> daily = Recurrence("daily", start=start, **brussels)
    >>> show(daily, start - TICK)
    Sat 2026-03-28 02:30:00 +0100
    Sun 2026-03-29 03:30:00 +0200
    Mon 2026-03-30 02:30:00 +0200
    >>> show(daily, datetime(2026, 10, 25, 0, 0, tzinfo=UTC), 2)
    Sun 2026-10-25 02:30:00 +0200
    Mon 2026-10-26 02:30:00 +0100

    The last day stands in for a day that a month lacks; the anchor stays.

    >>> show(Recurrence("monthly", start=datetime(2026, 1, 31, 20, tzinfo=UTC)), start, 3)
    Tue 2026-03-31 20:00:00 +0000
    Thu 2026-04-30 20:00:00 +0000
    Sun 2026-05-31 20:00:00 +0000
    >>> leap_day = datetime(2028, 2, 29, 20, tzinfo=UTC)
    >>> show(Recurrence("yearly", 2, start=leap_day), leap_day, 2)
    Thu 2030-02-28 20:00:00 +0000
    Sun 2032-02-29 20:00:00 +0000

    Weekdays with ``daily``: the interval counts days, and only those weekdays run.

    >>> friday = datetime(2026, 11, 20, 20, tzinfo=UTC)
    >>> show(Recurrence("daily", 2, start=friday, weekdays=frozenset(range(5))), friday)
    Tue 2026-11-24 20:00:00 +0000
    Thu 2026-11-26 20:00:00 +0000
    Mon 2026-11-30 20:00:00 +0000

    ``weekly``: the named weekdays (none: the start's own) of every n-th week; weeks begin on
    Monday.

    >>> show(Recurrence("weekly", 2, start=friday, weekdays=frozenset({0, 3})), friday)
    Mon 2026-11-30 20:00:00 +0000
    Thu 2026-12-03 20:00:00 +0000
    Mon 2026-12-14 20:00:00 +0000

    Positions pick among the matching days of a month or year, as BYSETPOS in :rfc:`5545`.

    >>> tuesdays = frozenset({1})
    >>> show(Recurrence("monthly", start=friday, weekdays=tuesdays, positions=(2,)), friday, 2)
    Tue 2026-12-08 20:00:00 +0000
    Tue 2027-01-12 20:00:00 +0000
    >>> working_days = frozenset(range(5))
    >>> show(Recurrence("monthly", start=friday, weekdays=working_days, positions=(-1,)), friday, 2)
    Mon 2026-11-30 20:00:00 +0000
    Thu 2026-12-31 20:00:00 +0000

    ``easter`` keeps the start's distance in days to Western Easter.

    >>> ascension = datetime(2026, 5, 14, 9, tzinfo=UTC)
    >>> show(Recurrence("easter", start=ascension), ascension, 2)
    Thu 2027-05-06 09:00:00 +0000
    Thu 2028-05-25 09:00:00 +0000

    ``cron`` reads five fields; see :mod:`linod.cronrule`.

    >>> show(Recurrence("cron", start=friday, cron="30 2 * * sun", **brussels), friday, 2)
    Sun 2026-11-22 02:30:00 +0100
    Sun 2026-11-29 02:30:00 +0100

    The end is inclusive, ``max_events`` counts from the start; then there is nothing more.

    >>> twice = Recurrence("daily", start=friday, max_events=2)
    >>> twice.next_after(friday)
    datetime.datetime(2026, 11, 21, 20, 0, tzinfo=datetime.timezone.utc)
    >>> twice.next_after(twice.next_after(friday)) is None
    True
    >>> Recurrence("weekly", start=friday, end=ascension)
    Traceback (most recent call last):
    ...
    linod.exceptions.InvalidRecurrence: end_date: the end lies before the start
    """

    every_unit: str
    every: int = 1
    _: KW_ONLY
    start: datetime
    end: datetime | None = None
    weekdays: frozenset[int] = frozenset()
    positions: tuple[int, ...] = ()
    max_events: int | None = None
    cron: str = ""
    time_zone: str = "UTC"

    def __post_init__(self) -> None:
        unit = "weekly" if self.every_unit == "per_weekday" else self.every_unit
        object.__setattr__(self, "every_unit", unit)
        object.__setattr__(self, "weekdays", frozenset(self.weekdays))
        object.__setattr__(self, "positions", tuple(self.positions))
        check_fields(self)
        check_occurs(self, self._series.after(self._before_start))

    def next_after(self, moment: datetime) -> datetime | None:
        """The first occurrence after ``moment`` (aware); None when there is none any more."""
        moment = as_utc(moment)
        if moment >= self._end:
            return None
        found = self._series.after(moment)
        return found if found is not None and found <= self._capped(found) else None

    def latest_before(self, moment: datetime) -> datetime | None:
        """The last occurrence before ``moment`` (aware); None when there was none yet."""
        moment = as_utc(moment)
        return self.latest_until(moment - TICK) if moment >= EARLIEST else None

    def latest_until(self, moment: datetime) -> datetime | None:
        """The last occurrence at or before ``moment`` (aware); None when there was none yet."""
        return self._series.until(self._capped(as_utc(moment)))

    def count(self, after: datetime, until: datetime) -> int:
        """How many occurrences lie in (``after``, ``until``], both aware."""
        after, until = max(as_utc(after), self._before_start), self._capped(as_utc(until))
        return self._series.count(after, until) if after < until else 0

    def between(self, after: datetime, until: datetime, limit: int | None = None) -> list[datetime]:
        """The occurrences in (``after``, ``until``], ascending; at most the first ``limit``.

        Without a limit, more than :data:`MAX_LISTED` of them raise :class:`ValueError`.
        """
        if limit is None and (number := self.count(after, until)) > MAX_LISTED:
            raise ValueError(f"{number} occurrences are too many for a list; give a limit")
        until = as_utc(until)
        found: list[datetime] = []
        later = self.next_after(after)
        while later is not None and later <= until and len(found) != limit:
            found.append(later)
            later = self.next_after(later)
        return found

    def describe(self, language: Language = ENGLISH) -> str:
        """The rule as a person says it; ``django.utils.translation`` is a language, too.

        >>> start = datetime(2026, 11, 24, 9, tzinfo=UTC)
        >>> Recurrence("weekly", 2, start=start).describe()
        'every 2 weeks on Tuesday at 09:00'
        """
        return wording.describe(self, language)

    def build_rrule(self) -> rrule | None:
        """The rule for other programs; see :meth:`linod.mixins.RecurrenceSet.build_rrule`."""
        from linod.rrules import as_rrule

        return as_rrule(self)

    @cached_property
    def zone(self) -> ZoneInfo:
        """The time zone of the rule."""
        return as_zone(self.time_zone)

    @cached_property
    def wall_start(self) -> datetime:
        """What the clocks of the zone show at the start; naive.

        A start that was given in that zone keeps its time even when a clock change leaves it out.
        """
        given_here = getattr(self.start.tzinfo, "key", None) == self.zone.key
        start = self.start if given_here else self.start.astimezone(self.zone)
        return start.replace(tzinfo=None, fold=0)

    @property
    def days_from_easter(self) -> int:
        """How many days the start lies after Western Easter of its year."""
        first = self.wall_start.date()
        return (first - easter(first.year)).days

    @cached_property
    def _series(self) -> series.Series:
        start = self.start.astimezone(UTC)
        if self.every_unit == "never":
            return series.Nothing(start)
        if self.every_unit == "once":
            return series.Once(start)
        if self.every_unit == "cron":
            return cronrule.Cron(start, self.cron, self.zone)
        if self.every_unit in BY_WALL_CLOCK:
            clock_time = self.wall_start.time()
            return series.WallClock(start, self._days(), clock_time, self.zone)
        step = self.every * STEPS[self.every_unit]
        if self.weekdays and self.weekdays != calendars.EVERY_DAY:
            return elapsed.ElapsedOnWeekdays(start, step, self.weekdays, self.zone)
        return series.Elapsed(start, step)

    def _days(self) -> calendars.Days:
        first, every = self.wall_start.date(), self.every
        match self.every_unit:
            case "daily":
                return calendars.Daily(first.toordinal(), every, self.weekdays)
            case "weekly":
                return calendars.Weekly(first.toordinal(), every, self.weekdays)
            case "monthly":
                return calendars.Monthly(first, every, self.weekdays, self.positions)
            case "yearly":
                return calendars.Yearly(first, every, self.weekdays, self.positions)
            case _:
                return calendars.Easter(first.year, every, self.days_from_easter)

    def _capped(self, moment: datetime) -> datetime:
        """The moment, or the end when that is earlier."""
        moment = min(moment, self._end)
        if self.max_events is not None and moment > self._soonest_last:
            return min(moment, self._last)
        return moment

    @cached_property
    def _before_start(self) -> datetime:
        return self._series.start - TICK

    @cached_property
    def _end(self) -> datetime:
        return HORIZON if self.end is None else min(as_utc(self.end), HORIZON)

    @cached_property
    def _last(self) -> datetime:
        """The last of ``max_events`` occurrences."""
        return self._series.nth(self.max_events or 1) or HORIZON

    @cached_property
    def _soonest_last(self) -> datetime:
        """A moment not later than :attr:`_last`, so that a far limit is not counted out."""
        return self._series.soonest(self.max_events or 1) or HORIZON
