"""Elapsed time on named weekdays: a grid of instants, of which a zone's calendar lets some through.

While the clocks of the zone keep one offset, the weekdays are so many windows in each week, and how
many instants of the grid lie in them is arithmetic. So instants are counted from one clock change
to the next; there, time is a number of microseconds since a Monday's midnight.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from datetime import MAXYEAR, UTC, date, datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from zoneinfo import ZoneInfo

from linod.calendars import GREGORIAN_CYCLE, weekday
from linod.series import TICK, ByYears, Elapsed
from linod.zonechanges import (
    FIRST_CHANGE,
    REGULAR,
    YEARS_KEPT,
    beginnings,
    changes,
    offset_at,
    twin,
)

#: A Monday.
EPOCH = datetime(1, 1, 1, tzinfo=UTC)

DAY = timedelta(days=1) // TICK
WEEK = 7 * DAY

#: The Gregorian calendar's cycle, which is one of whole weeks.
CYCLE = (date(GREGORIAN_CYCLE + 1, 1, 1) - date(1, 1, 1)).days * DAY

#: Later than any moment.
EVER = (MAXYEAR + 1) * 366 * DAY

#: How often a step may lead past the named weekdays before the instants are counted instead.
PATIENCE = 32


class ElapsedOnWeekdays(ByYears):
    """The instants of :class:`Elapsed` whose local day is one of the named weekdays."""

    def __init__(
        self, start: datetime, step: timedelta, weekdays: frozenset[int], zone: ZoneInfo
    ) -> None:
        self.start, self.weekdays, self.zone = start, weekdays, zone
        self.grid = Elapsed(start, step)
        self.step, self.first = step // TICK, (start - EPOCH) // TICK
        self.is_steady = not changes(zone, REGULAR)
        self.repeats = CYCLE % self.step == 0 and not self.is_steady
        self.last_year = REGULAR if self.is_steady else MAXYEAR
        self.windows = windows(weekdays)
        self._years: dict[tuple[int, int], int] = {}

    def after(self, moment: datetime) -> datetime | None:
        found = self.grid.after(moment)
        for _try in range(PATIENCE):
            if found is None or self._allows(found):
                return found
            found = self.grid.after(self._opening(found) - TICK)
        return self.nth(self.rank(moment) + 1)

    def until(self, moment: datetime) -> datetime | None:
        found = self.grid.until(moment)
        for _try in range(PATIENCE):
            if found is None or self._allows(found):
                return found
            found = self.grid.until(self._closing(found) - TICK)
        return self.nth(number) if (number := self.rank(moment)) else None

    def soonest(self, number: int) -> datetime | None:
        return self.grid.nth(number)

    def year_of(self, moment: datetime) -> int:
        """One stands for all the years before any change, and one for all those after the last."""
        return min(max(moment.year, FIRST_CHANGE - 1), self.last_year)

    def held(self, year: int) -> int:
        if not self.repeats:
            return self._held(year)
        like, days = twin(year)
        key = (like, (self.first - days * DAY) % self.step)
        if key not in self._years:
            self._years[key] = self._held(year)
        return self._years[key]

    def _held(self, year: int) -> int:
        runs = self._runs(year)
        return sum(count_of_form(self.windows, self.step, wall % WEEK, n) for _, wall, n in runs)

    def held_until(self, moment: datetime) -> int:
        runs = self._runs(self.year_of(moment), (moment - EPOCH) // TICK + 1)
        return sum(self._named(wall, steps) for _number, wall, steps in runs)

    def pick(self, year: int, number: int) -> datetime | None:
        for first, wall, steps in self._runs(year):
            named = self._named(wall, steps)
            if number < named:
                counts = range(1, steps + 1)
                place = bisect_left(counts, number + 1, key=lambda n: self._named(wall, n))
                return self.grid.nth(first + place + 1)
            number -= named
        return None

    def _runs(self, year: int, end: int = EVER) -> Iterator[tuple[int, int, int]]:
        """The grid's instants in a year, before ``end``, from one clock change to the next.

        Of each run: the number of its first instant in the grid, from 0 on, what the clocks show
        then, and how many instants it has.
        """
        like, days = (year, 0) if year < REGULAR or self.is_steady else twin(year)
        for first, last, offset in stretches(self.zone, like):
            begins, ends = (edge + days * DAY - self.first for edge in (first, last))
            number = -(-begins // self.step)
            steps = -(-min(ends, end - self.first) // self.step) - number
            if steps > 0:
                yield number, self.first + number * self.step + offset, steps

    def _named(self, wall: int, steps: int) -> int:
        return count_named(self.windows, self.step, wall, steps)

    def _allows(self, moment: datetime) -> bool:
        return moment.astimezone(self.zone).weekday() in self.weekdays

    def _opening(self, moment: datetime) -> datetime:
        """When a named weekday begins next; the moment's own day is none."""
        today = moment.astimezone(self.zone).toordinal()
        day = today + 1
        while weekday(day) not in self.weekdays:
            day += 1
        edges = beginnings(self.zone, day)[::2]
        if weekday(today - 1) in self.weekdays:
            edges += beginnings(self.zone, today)[1::2]
        return min(edge for edge in edges if edge > moment)

    def _closing(self, moment: datetime) -> datetime:
        """When a named weekday last ended; the moment's own day is none."""
        today = moment.astimezone(self.zone).toordinal()
        day = today
        while weekday(day - 1) not in self.weekdays:
            day -= 1
        edges = beginnings(self.zone, day)[::2]
        if weekday(today + 1) in self.weekdays:
            edges += beginnings(self.zone, today + 1)[1::2]
        return max(edge for edge in edges if edge <= moment)


@lru_cache(maxsize=YEARS_KEPT)
def stretches(zone: ZoneInfo, year: int) -> tuple[tuple[int, int, int], ...]:
    """Beginnings, ends and offsets of the times in a year of UTC between two clock changes.

    A year before any change begins with time itself, one after the last of a zone ends with it.
    """
    first = datetime(year, 1, 1, tzinfo=UTC) if year >= FIRST_CHANGE else EPOCH
    has_ended = year >= REGULAR and not changes(zone, year)
    end = (
        datetime(MAXYEAR, 12, 31, tzinfo=UTC) if has_ended else datetime(year + 1, 1, 1, tzinfo=UTC)
    )
    edges = [first, *(change.moment for change in changes(zone, year)), end]
    return tuple(
        ((begin - EPOCH) // TICK, (end - EPOCH) // TICK, offset_at(zone, end - TICK) // TICK)
        for begin, end in pairwise(edges)
        if begin < end
    )


def windows(weekdays: frozenset[int]) -> tuple[tuple[int, int], ...]:
    """When in a week the named weekdays begin and end; neighbours are one stretch.

    >>> [(begin // DAY, end // DAY) for begin, end in windows(frozenset({0, 4, 5}))]
    [(0, 1), (4, 6)]
    """
    begins = [day * DAY for day in range(7) if day in weekdays and day - 1 not in weekdays]
    ends = [(day + 1) * DAY for day in range(7) if day in weekdays and day + 1 not in weekdays]
    return tuple(zip(begins, ends, strict=True))


def count_named(spans: tuple[tuple[int, int], ...], step: int, wall: int, steps: int) -> int:
    """How many of so many instants lie in these spans of a week; the clocks show ``wall`` at first.

    An instant has passed the begin of a span once more than its end when it lies in between.

    >>> count_named(((0, DAY),), DAY // 2, 0, 15)
    3
    """
    return sum(
        floor_sum(steps, WEEK, step, wall - begin) - floor_sum(steps, WEEK, step, wall - end)
        for begin, end in spans
    )


#: The same for the whole time from one clock change to the next: most summers are alike, and most
#: winters.
count_of_form = lru_cache(maxsize=16384)(count_named)


def floor_sum(count: int, divisor: int, step: int, first: int) -> int:
    """The sum of ``(first + n * step) // divisor`` for ``count`` numbers n from 0 on.

    The points of a lattice under a line, counted as Euclid would. The step is not negative.

    >>> floor_sum(1000, 7, 3, -5) == sum((3 * n - 5) // 7 for n in range(1000))
    True
    """
    total = 0
    while count > 0:
        more, step = divmod(step, divisor)
        total += more * (count * (count - 1) // 2)
        more, first = divmod(first, divisor)
        total += more * count
        count, first = divmod(step * count + first, divisor)
        divisor, step = step, divisor
    return total
