"""Which days a rule of a day or longer names: pure arithmetic of dates, without clocks or zones.

A rule cuts time into periods 0, 1, 2, ... that count from its start; every period holds a few days.
Days are ordinals (:meth:`datetime.date.toordinal`): day 1 was a Monday.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from calendar import isleap, monthrange
from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from functools import cache, cached_property, lru_cache
from math import gcd

from dateutil.easter import easter

from linod.totals import Totals

#: The last day that any rule names; one short of the end, so that no zone leads beyond year 9999.
LAST_DAY = date(9999, 12, 30).toordinal()

#: All days of the week.
EVERY_DAY = frozenset(range(7))

#: The Gregorian calendar, weekdays included, repeats itself after so many years.
GREGORIAN_CYCLE = 400


class Days:
    """The days of a rule, period by period.

    ``cycle``: after how many periods the number of days per period repeats itself; so many periods
    without a day mean that there will never be one.
    """

    cycle = 1

    def period_of(self, day: int) -> int:
        """The period that ``day`` lies in; a negative number before the start."""
        raise NotImplementedError

    def days_in(self, period: int) -> Sequence[int]:
        """The days of that period, ascending; none beyond :data:`LAST_DAY`."""
        raise NotImplementedError

    def names(self, day: int) -> bool:
        """Whether that day is one of the rule's."""
        return day in self.days_in(self.period_of(day))

    def onwards(self, day: int) -> Iterator[int]:
        """The rule's days from ``day`` on, ascending; ends when no more will come."""
        idle = 0
        for period in range(max(self.period_of(day), 0), self.last_period + 1):
            days = self.days_in(period)
            idle = 0 if days else idle + 1
            if idle > self.cycle:
                return
            yield from days[bisect_left(days, day) :]

    def backwards(self, day: int) -> Iterator[int]:
        """The rule's days from ``day`` back to the start, descending."""
        for period in range(min(self.period_of(day), self.last_period), -1, -1):
            days = self.days_in(period)
            yield from reversed(days[: bisect_right(days, day)])

    @cached_property
    def last_period(self) -> int:
        """The period that holds :data:`LAST_DAY`."""
        return self.period_of(LAST_DAY)

    def sizes(self, periods: range) -> Iterable[int]:
        """How many days each of some periods in a row holds."""
        return (len(self.days_in(period)) for period in periods)

    def days_before(self, period: int) -> int:
        """How many days the periods before that one hold."""
        return self._totals.before(period)

    def find(self, number: int) -> int | None:
        """Day number 0, 1, 2, ... of the rule; None beyond :data:`LAST_DAY`."""
        if (found := self._totals.find(number)) is None:
            return None
        period, index = found
        days = self.days_in(period)
        return days[index] if index < len(days) else None

    @cached_property
    def _totals(self) -> Totals:
        return Totals(self.sizes, min(self.cycle, self.last_period + 1))


class Daily(Days):
    """Every n-th day from the first; of these, only the named weekdays."""

    def __init__(self, first: int, every: int, weekdays: frozenset[int]) -> None:
        self.first, self.every, self.weekdays = first, every, weekdays
        self.cycle = 7 if weekdays else 1

    def period_of(self, day: int) -> int:
        return (day - self.first) // self.every

    def days_in(self, period: int) -> Sequence[int]:
        day = self.first + period * self.every
        if day > LAST_DAY or (self.weekdays and weekday(day) not in self.weekdays):
            return ()
        return (day,)


class Weekly(Days):
    """The named weekdays of every n-th week; weeks begin on Monday."""

    def __init__(self, first: int, every: int, weekdays: frozenset[int]) -> None:
        self.monday = first - weekday(first)
        self.length = 7 * every
        self.offsets = sorted(weekdays) or [weekday(first)]

    def period_of(self, day: int) -> int:
        return (day - self.monday) // self.length

    def days_in(self, period: int) -> Sequence[int]:
        monday = self.monday + period * self.length
        return [monday + n for n in self.offsets if monday + n <= LAST_DAY]


class Months(Days):
    """Days that a rule names in certain months; each of these is a period."""

    def month_of(self, period: int) -> tuple[int, int]:
        """The year and the month (1 to 12) that a period is."""
        raise NotImplementedError

    def offsets(self, first: date, length: int) -> Sequence[int]:
        """Which days of the month that begins with ``first`` are meant, counted from 0."""
        raise NotImplementedError

    def days_in(self, period: int) -> Sequence[int]:
        year, month = self.month_of(period)
        if year > date.max.year:
            return ()
        first, length = date(year, month, 1), monthrange(year, month)[1]
        start = first.toordinal()
        days = [start + n for n in self.offsets(first, length)]
        return days if start + length <= LAST_DAY else [day for day in days if day <= LAST_DAY]


class Monthly(Months):
    """In every n-th month: the anchor's day or else the last one; or the picked days."""

    def __init__(
        self, anchor: date, every: int, weekdays: frozenset[int], positions: tuple[int, ...]
    ) -> None:
        self.month, self.every = months_to(anchor), every
        self.day = 0 if weekdays or positions else anchor.day
        self.pick = (weekdays or EVERY_DAY, positions)
        self.cycle = 1 if self.day else 12 * GREGORIAN_CYCLE // gcd(12 * GREGORIAN_CYCLE, every)

    def period_of(self, day: int) -> int:
        return (months_to(date.fromordinal(day)) - self.month) // self.every

    def month_of(self, period: int) -> tuple[int, int]:
        year, month = divmod(self.month + period * self.every, 12)
        return year, month + 1

    def offsets(self, first: date, length: int) -> Sequence[int]:
        if self.day:
            return (min(self.day, length) - 1,)
        return picked(first.weekday(), length, *self.pick)

    def sizes(self, periods: range) -> Iterable[int]:
        """Without the days themselves: it is asked for all months of the calendar's cycle."""
        if self.day:
            return [1] * len(periods)
        first, end = (self.month + place * self.every for place in (periods.start, periods.stop))
        of_month, cycle = self._sizes, len(self._sizes)
        return [of_month[month % cycle] for month in range(first, end, self.every)]

    @cached_property
    def _sizes(self) -> bytes:
        """How many days the months of the calendar's cycle hold, from January of year 0 on."""
        by_form = (len(picked(n % 7, 28 + n // 7, *self.pick)) for n in range(28))
        return month_forms().translate(bytes(by_form).ljust(256))


class Yearly(Days):
    """In every n-th year: the anchor's day (29 February: or the 28th), or the picked days."""

    def __init__(
        self, anchor: date, every: int, weekdays: frozenset[int], positions: tuple[int, ...]
    ) -> None:
        self.anchor, self.every = anchor, every
        self.anchored = not (weekdays or positions)
        self.pick = (weekdays or EVERY_DAY, positions)
        self.cycle = 1 if self.anchored else GREGORIAN_CYCLE // gcd(GREGORIAN_CYCLE, every)

    def period_of(self, day: int) -> int:
        return (date.fromordinal(day).year - self.anchor.year) // self.every

    def days_in(self, period: int) -> Sequence[int]:
        year = self.anchor.year + period * self.every
        if year > date.max.year:
            return ()
        if self.anchored:
            length = monthrange(year, self.anchor.month)[1]
            days = [self.anchor.replace(year=year, day=min(self.anchor.day, length)).toordinal()]
        else:
            first = date(year, 1, 1).toordinal()
            days = [first + n for n in self._picked_in(year)]
        return days if year < date.max.year else [day for day in days if day <= LAST_DAY]

    def sizes(self, periods: range) -> Iterable[int]:
        """Without the days themselves: it is asked for all years of the calendar's cycle."""
        if self.anchored:
            return [1] * len(periods)
        return (len(self._picked_in(self.anchor.year + n * self.every)) for n in periods)

    def _picked_in(self, year: int) -> tuple[int, ...]:
        first = date(year, 1, 1).weekday()
        return picked(first, 366 if isleap(year) else 365, *self.pick)


class Easter(Days):
    """So many days after Western Easter (or before it), in every n-th year.

    A day far from Easter can fall into a neighbouring year.
    """

    def __init__(self, year: int, every: int, distance: int) -> None:
        self.year, self.every, self.distance = year, every, distance

    def period_of(self, day: int) -> int:
        """Exact, because that day without the distance lies in the year of its Easter."""
        year = date.fromordinal(min(max(day - self.distance, 1), date.max.toordinal())).year
        return (year - self.year) // self.every

    def days_in(self, period: int) -> Sequence[int]:
        year = self.year + period * self.every
        if year > date.max.year:
            return ()
        day = easter(year).toordinal() + self.distance
        return (day,) if day <= LAST_DAY else ()


def weekday(day: int) -> int:
    """The weekday of an ordinal, 0 is Monday."""
    return (day - 1) % 7


def months_to(day: date) -> int:
    """The number of that day's month, counted from year 0."""
    return day.year * 12 + day.month - 1


@cache
def month_forms() -> bytes:
    """What the months of the calendar's cycle look like, counted from January of year 0.

    A month that begins on weekday ``w`` and has ``n`` days is ``w + 7 * (n - 28)``.
    """
    months = (
        monthrange(year, month)
        for year in range(GREGORIAN_CYCLE, 2 * GREGORIAN_CYCLE)
        for month in range(1, 13)
    )
    return bytes(first + 7 * (length - 28) for first, length in months)


@lru_cache(maxsize=1024)
def picked(
    first_weekday: int, length: int, weekdays: frozenset[int], positions: tuple[int, ...]
) -> tuple[int, ...]:
    """Offsets of the days that are named in a span of ``length`` days; positions as in BYSETPOS.

    The last working day of a month of 30 days that begins on a Saturday:

    >>> picked(5, 30, frozenset(range(5)), (-1,))
    (27,)
    """
    matching = [n for n in range(length) if (first_weekday + n) % 7 in weekdays]
    if not positions:
        return tuple(matching)
    indexes = {p - 1 if p > 0 else len(matching) + p for p in positions}
    return tuple(matching[i] for i in sorted(indexes) if 0 <= i < len(matching))
