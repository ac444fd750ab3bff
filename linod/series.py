"""Series of instants: what a rule names, without its end. All moments are aware and in UTC.

Every series answers the same four questions in a bounded number of steps, wherever its start is.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from functools import cached_property, lru_cache
from zoneinfo import ZoneInfo

from linod.calendars import LAST_DAY, Days, weekday

#: The resolution of time here: "before" means this much earlier.
TICK = timedelta(microseconds=1)

#: Where time ends here: a month short of year 9999's end, so that no step leads beyond that.
HORIZON = datetime(9999, 12, 1, tzinfo=UTC)

#: How often a step may lead past the named weekdays before the rule counts as ended. A step of any
#: number of hours comes back to the same hour of the week within 168.
PATIENCE = 200


class Series:
    """A strictly ascending series of instants that begins at ``start`` or later."""

    start: datetime

    def after(self, moment: datetime) -> datetime | None:
        """The first instant > ``moment``."""
        raise NotImplementedError

    def until(self, moment: datetime) -> datetime | None:
        """The last instant <= ``moment``."""
        raise NotImplementedError

    def count(self, after: datetime, until: datetime) -> int:
        """How many instants lie in (``after``, ``until``]."""
        raise NotImplementedError

    def nth(self, number: int) -> datetime | None:
        """Instant number 1, 2, 3, ..."""
        raise NotImplementedError

    def soonest(self, number: int) -> datetime | None:
        """A moment that instant ``number`` does not precede, where that is cheaper to tell."""
        return self.nth(number)


class Nothing(Series):
    """No instant at all."""

    def __init__(self, start: datetime) -> None:
        self.start = start

    def after(self, moment: datetime) -> datetime | None:
        return None

    def until(self, moment: datetime) -> datetime | None:
        return None

    def count(self, after: datetime, until: datetime) -> int:
        return 0

    def nth(self, number: int) -> datetime | None:
        return None


class Once(Series):
    """The start, and nothing else."""

    def __init__(self, start: datetime) -> None:
        self.start = start

    def after(self, moment: datetime) -> datetime | None:
        return self.start if self.start > moment else None

    def until(self, moment: datetime) -> datetime | None:
        return self.start if self.start <= moment else None

    def count(self, after: datetime, until: datetime) -> int:
        return int(after < self.start <= until)

    def nth(self, number: int) -> datetime | None:
        return self.start if number == 1 else None


class Elapsed(Series):
    """The start and every multiple of ``step`` after it, straight through clock changes."""

    def __init__(self, start: datetime, step: timedelta) -> None:
        self.start, self.step = start, step

    def after(self, moment: datetime) -> datetime | None:
        if moment < self.start:
            return self.start
        return self.nth((moment - self.start) // self.step + 2)

    def until(self, moment: datetime) -> datetime | None:
        if moment < self.start:
            return None
        return self.start + (moment - self.start) // self.step * self.step

    def count(self, after: datetime, until: datetime) -> int:
        return max(self.rank(until) - self.rank(after), 0)

    def nth(self, number: int) -> datetime | None:
        try:
            found = self.start + (number - 1) * self.step
        except OverflowError:
            return None
        return found if found <= HORIZON else None

    def rank(self, moment: datetime) -> int:
        """How many instants are <= ``moment``."""
        return max((moment - self.start) // self.step + 1, 0)


class ElapsedOnWeekdays(Series):
    """The instants of :class:`Elapsed` whose local day is one of the named weekdays."""

    def __init__(
        self, start: datetime, step: timedelta, weekdays: frozenset[int], zone: ZoneInfo
    ) -> None:
        self.start, self.weekdays, self.zone = start, weekdays, zone
        self.grid = Elapsed(start, step)

    def after(self, moment: datetime) -> datetime | None:
        found = self.grid.after(moment)
        for _try in range(PATIENCE):
            if found is None or self._allows(found):
                return found
            found = self.grid.after(self._opening(found) - TICK)
        return None

    def until(self, moment: datetime) -> datetime | None:
        found = self.grid.until(moment)
        for _try in range(PATIENCE):
            if found is None or self._allows(found):
                return found
            found = self.grid.until(self._closing(found) - TICK)
        return None

    def count(self, after: datetime, until: datetime) -> int:
        total = 0
        for first, end in self._windows(max(after, self.start)):
            if first > until:
                break
            total += self.grid.count(max(after, first - TICK), min(until, end - TICK))
        return total

    def nth(self, number: int) -> datetime | None:
        for first, end in self._windows(self.start):
            before = self.grid.rank(first - TICK)
            here = self.grid.rank(end - TICK) - before
            if number <= here:
                return self.grid.nth(before + number)
            number -= here
        return None

    def soonest(self, number: int) -> datetime | None:
        return self.grid.nth(number)

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

    def _windows(self, moment: datetime) -> Iterator[tuple[datetime, datetime]]:
        """The stretches of named weekdays around and after ``moment``: beginnings and ends."""
        day = moment.astimezone(self.zone).toordinal() - 1
        while True:
            while weekday(day) not in self.weekdays:
                day += 1
            first = day
            while weekday(day) in self.weekdays:
                day += 1
            if day > LAST_DAY:
                return
            edges = sorted(beginnings(self.zone, first) + beginnings(self.zone, day))
            yield from zip(edges[::2], edges[1::2], strict=True)


class ByDays(Series):
    """Instants that belong to the days of a rule, by the clocks of a zone.

    A day's instants lie on that day or, shifted by a clock change, soon after it.
    """

    def __init__(self, start: datetime, days: Days, zone: ZoneInfo) -> None:
        self.start, self.days, self.zone = start, days, zone

    def first_of(self, day: int, after: datetime) -> datetime | None:
        """The first instant > ``after`` that belongs to ``day``."""
        raise NotImplementedError

    def last_of(self, day: int, until: datetime) -> datetime | None:
        """The last instant <= ``until`` that belongs to ``day``."""
        raise NotImplementedError

    def after(self, moment: datetime) -> datetime | None:
        floor = max(moment, self.start - TICK)
        for day in self.days.onwards(self.local_day(floor) - 1):
            if found := self.first_of(day, floor):
                return found
        return None

    def until(self, moment: datetime) -> datetime | None:
        if moment < self.start:
            return None
        for day in self.days.backwards(self.local_day(moment) + 1):
            if found := self.last_of(day, moment):
                return found if found >= self.start else None
        return None

    def local_day(self, moment: datetime) -> int:
        """The day that the zone's calendars show."""
        return moment.astimezone(self.zone).toordinal()


class WallClock(ByDays):
    """A time of day on certain days.

    A time that a spring change leaves out happens once, later by the gap; of a time that an
    autumn change repeats, the first counts. (That is what ``fold=0`` means in :pep:`495`.)
    """

    def __init__(self, start: datetime, days: Days, clock_time: time, zone: ZoneInfo) -> None:
        super().__init__(start, days, zone)
        self.clock_time = clock_time

    def first_of(self, day: int, after: datetime) -> datetime | None:
        found = self._instant(day)
        return found if found > after else None

    def last_of(self, day: int, until: datetime) -> datetime | None:
        found = self._instant(day)
        return found if found <= until else None

    def count(self, after: datetime, until: datetime) -> int:
        if not self._may_merge(after, until):
            return max(self._rank(until) - self._rank(after), 0)
        total = 0
        while (found := self.after(after)) is not None and found <= until:
            total, after = total + 1, found
        return total

    def nth(self, number: int) -> datetime | None:
        day = self.days.find(self._skipped + number - 1)
        found = None if day is None else self._instant(day)
        if found is not None and self._may_merge(self.start, found):
            for _merged in range(number - self.count(self.start - TICK, found)):
                found = None if found is None else self.after(found)
        return found

    def _instant(self, day: int) -> datetime:
        wall = datetime.combine(date.fromordinal(day), self.clock_time, self.zone)
        return wall.astimezone(UTC)

    def _rank(self, moment: datetime) -> int:
        """How many days have had their instant by then."""
        if moment < self.start:
            return 0
        today = self.local_day(moment)
        first = max(self.days.period_of(today - 2), 0)
        rank = self.days.days_before(first) - self._skipped
        for period in range(first, self.days.period_of(today + 1) + 1):
            rank += bisect_right(self.days.days_in(period), moment, key=self._instant)
        return rank

    @cached_property
    def _skipped(self) -> int:
        """How many days of period 0 come before the start."""
        return sum(self._instant(day) < self.start for day in self.days.days_in(0))

    def _may_merge(self, earlier: datetime, later: datetime) -> bool:
        """Whether the zone crossed the date line between: then a whole day does not exist.

        What should happen on that day is shifted by a day, and meets the next day's instant.
        """
        return abs(self._offset(later) - self._offset(earlier)) > timedelta(hours=20)

    def _offset(self, moment: datetime) -> timedelta:
        return moment.astimezone(self.zone).utcoffset() or timedelta(0)


@lru_cache(maxsize=4096)
def beginnings(zone: ZoneInfo, day: int) -> tuple[datetime, ...]:
    """The instants at which the clocks of a zone pass into that day.

    Mostly one. Where the clock went back across midnight there are three (into the day, back out
    of it, into it again), as in St. John's until 2010:

    >>> day = date(2010, 11, 7).toordinal()
    >>> [f"{t:%H:%M}" for t in beginnings(ZoneInfo("America/St_Johns"), day)]
    ['02:30', '02:31', '03:30']
    """
    midnight = datetime.combine(date.fromordinal(day), time(), zone)
    first, second = midnight.astimezone(UTC), midnight.replace(fold=1).astimezone(UTC)
    if second <= first or (second - TICK).astimezone(zone).toordinal() >= day:
        return (first,)
    return (first, _change_between(zone, first, second), second)


def _change_between(zone: ZoneInfo, before: datetime, after: datetime) -> datetime:
    """The second at which the offset of a zone changes; there is one change in that time."""
    offset = before.astimezone(zone).utcoffset()
    while after - before > timedelta(seconds=1):
        middle = (before + (after - before) / 2).replace(microsecond=0)
        if middle.astimezone(zone).utcoffset() == offset:
            before = middle
        else:
            after = middle
    return after
