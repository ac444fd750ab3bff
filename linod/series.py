"""Series of instants: what a rule names, without its end. All moments are aware and in UTC.

Every series answers the same four questions in a bounded number of steps, wherever its start is.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from datetime import MAXYEAR, UTC, date, datetime, time, timedelta
from functools import cached_property
from zoneinfo import ZoneInfo

from linod.calendars import GREGORIAN_CYCLE, Days
from linod.totals import Totals
from linod.zonechanges import REGULAR, lost_days

#: The resolution of time here: "before" means this much earlier.
TICK = timedelta(microseconds=1)

DAY = timedelta(days=1)

#: Where time ends here: a month short of year 9999's end, so that no step leads beyond that.
HORIZON = datetime(9999, 12, 1, tzinfo=UTC)


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


class ByYears(Series):
    """A series that is counted year by year: far away in as few steps as near by.

    Which years are meant is the series' own affair.
    """

    #: Whether a year holds as many instants as its twins (:func:`linod.zonechanges.twin`).
    repeats = True

    #: The last year that holds any.
    last_year = MAXYEAR

    def year_of(self, moment: datetime) -> int:
        """The year up to which is counted: what the years before it hold is all <= ``moment``."""
        raise NotImplementedError

    def held(self, year: int) -> int:
        """How many instants that year holds, whatever the start."""
        raise NotImplementedError

    def held_until(self, moment: datetime) -> int:
        """How many instants of that year, and of the years after it, are <= ``moment``."""
        raise NotImplementedError

    def pick(self, year: int, number: int) -> datetime | None:
        """Instant number 0, 1, 2, ... of that year; None where time ends."""
        raise NotImplementedError

    def count(self, after: datetime, until: datetime) -> int:
        return max(self.rank(until) - self.rank(after), 0)

    def nth(self, number: int) -> datetime | None:
        found = self._totals.find(self._skipped + number - 1)
        if found is None or (year := self._first_year + found[0]) > self.last_year:
            return None
        return self.pick(year, found[1])

    def rank(self, moment: datetime) -> int:
        """How many instants are <= ``moment``."""
        return self._held_before(moment) - self._skipped if moment >= self.start else 0

    def _held_before(self, moment: datetime) -> int:
        years = self.year_of(moment) - self._first_year
        return self._totals.before(years) + self.held_until(moment)

    @cached_property
    def _skipped(self) -> int:
        """How many instants of the first year come before the start."""
        return self._held_before(self.start - TICK)

    @cached_property
    def _first_year(self) -> int:
        return self.year_of(self.start - TICK)

    @cached_property
    def _totals(self) -> Totals:
        years = self.last_year + 1 - self._first_year
        if not self.repeats:
            return Totals(self._held_in, years)
        lead = max(REGULAR - self._first_year, 0)
        return Totals(self._held_in, min(GREGORIAN_CYCLE, years - lead), lead)

    def _held_in(self, places: range) -> Iterable[int]:
        first = self._first_year
        return map(self.held, range(first + places.start, first + places.stop))


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
        return max(self._rank(until) - self._rank(after), 0)

    def nth(self, number: int) -> datetime | None:
        place = self._skipped + number - 1
        found = self._instant_number(place)
        while found is not None and (merged := self._merged(found)):
            if (later := self._instant_number(place + merged)) == found:
                break
            found = later
        return found

    def soonest(self, number: int) -> datetime | None:
        try:
            return self.start + (number - 3) * DAY  # clock changes bring two days nearer, at most
        except OverflowError:
            return None

    def _instant(self, day: int) -> datetime:
        wall = datetime.combine(date.fromordinal(day), self.clock_time, self.zone)
        return wall.astimezone(UTC)

    def _instant_number(self, place: int) -> datetime | None:
        day = self.days.find(place)
        return None if day is None else self._instant(day)

    def _rank(self, moment: datetime) -> int:
        """How many instants are <= ``moment``."""
        if moment < self.start:
            return 0
        today = self.local_day(moment)
        first = max(self.days.period_of(today - 2), 0)
        rank = self.days.days_before(first) - self._skipped
        for period in range(first, self.days.period_of(today + 1) + 1):
            rank += bisect_right(self.days.days_in(period), moment, key=self._instant)
        return rank - self._merged(moment)

    @cached_property
    def _skipped(self) -> int:
        """How many days of period 0 come before the start."""
        return sum(self._instant(day) < self.start for day in self.days.days_in(0))

    def _merged(self, moment: datetime) -> int:
        """How many days of the rule have had no instant of their own by then.

        What should happen on a day that the zone left out is shifted by a day, and meets the next
        day's instant.
        """
        return sum(
            self.days.names(day) and self.days.names(day + 1)
            for day in lost_days(self.zone)
            if self.days.period_of(day) >= 0 and self.start <= self._instant(day) <= moment
        )
