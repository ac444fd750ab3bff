"""Cron expressions as a series. cronsim reads them; where clocks change they mean what it says:

* A rule for certain times (neither minute nor hour begins with ``*``) goes by the clock: a time
  that a spring change leaves out happens as soon as the change is over, a repeated one once.
* A rule with ``*`` in minute or hour goes by elapsed time: it has an instant whenever the clock
  shows a matching time, none in a gap, and both times in an hour that repeats itself.
"""

from __future__ import annotations

from bisect import bisect, bisect_left
from calendar import isleap, monthrange
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from linod.calendars import GREGORIAN_CYCLE, LAST_DAY, Months, month_forms
from linod.exceptions import InvalidRecurrence, MissingExtra
from linod.phrases import gettext_noop
from linod.series import ByDays, ByYears
from linod.zonechanges import change_days, turning, twin

if TYPE_CHECKING:
    from cronsim import CronSim

#: How many seconds a day has.
DAY = 24 * 60 * 60

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)


@dataclass(frozen=True)
class Expression:
    """A cron expression that was read; ``times`` are those of a matching day, in seconds."""

    days: CronSim
    times: tuple[int, ...]
    by_clock: bool


@lru_cache(maxsize=1024)
def parse(text: str) -> Expression:
    """Read a cron expression of five fields.

    Raises :class:`linod.exceptions.InvalidRecurrence` for a text that is none, and
    :class:`linod.exceptions.MissingExtra` without cronsim.
    """
    try:
        from cronsim import CronSim, CronSimError
    except ImportError as error:
        message = gettext_noop('The unit cron needs cronsim: pip install "linod[cron]"')
        raise MissingExtra(message) from error
    fields = text.split()
    if len(fields) != 5:
        message = gettext_noop("give five fields: minute, hour, day of month, month, day of week")
        raise InvalidRecurrence("cron", message)
    try:
        rule = CronSim(text, datetime(2000, 1, 1, tzinfo=UTC))
    except CronSimError as error:
        message = gettext_noop("%(text)r is no cron expression: %(error)s")
        raise InvalidRecurrence("cron", message, text=text, error=error) from error
    return Expression(
        days=rule,
        times=tuple(sorted(60 * (60 * h + m) for h in rule.hours for m in rule.minutes)),
        by_clock=not any(field.startswith("*") for field in fields[:2]),
    )


class CronDays(Months):
    """The days that match a cron expression, in the months that it names."""

    def __init__(self, year: int, text: str) -> None:
        self.year, self.text = year, text
        self.months = sorted(parse(text).days.months)
        self.cycle = GREGORIAN_CYCLE * len(self.months)

    def period_of(self, day: int) -> int:
        today = date.fromordinal(day)
        return (today.year - self.year) * len(self.months) + bisect(self.months, today.month) - 1

    def month_of(self, period: int) -> tuple[int, int]:
        years, place = divmod(period, len(self.months))
        return self.year + years, self.months[place]

    def offsets(self, first: date, length: int) -> Sequence[int]:
        return matching_days(self.text, first.weekday(), length)

    def names(self, day: int) -> bool:
        """Without the month's other days: it is asked for each clock change of a zone."""
        today = date.fromordinal(day)
        first, length = today.replace(day=1), monthrange(today.year, today.month)[1]
        return today.month in self.months and today.day - 1 in self.offsets(first, length)

    def in_year(self, year: int) -> Iterator[int]:
        """The matching days of a year."""
        first = date(year, 1, 1).toordinal()
        return (first + n for n in self.matching(year) if first + n <= LAST_DAY)

    def matching(self, year: int) -> tuple[int, ...]:
        """Which days of a year match, counted from 0."""
        return matching_year(self.text, date(year, 1, 1).weekday(), isleap(year))


@lru_cache(maxsize=4096)
def matching_year(text: str, first_weekday: int, is_leap: bool) -> tuple[int, ...]:
    """Which days of such a year match, counted from 0; all years of one form have the same.

    >>> [matching_year("0 9 29 2 *", 3, is_leap) for is_leap in (False, True)]
    [(), (59,)]
    """
    months = parse(text).days.months
    days, gone = list[int](), 0
    for month in range(1, 13):
        length = monthrange(2000 if is_leap else 2001, month)[1]
        if month in months:
            days += [gone + n for n in matching_days(text, (first_weekday + gone) % 7, length)]
        gone += length
    return tuple(days)


@lru_cache(maxsize=16384)
def matching_days(text: str, first_weekday: int, length: int) -> tuple[int, ...]:
    """Which days of such a month match, counted from 0; all months of one form have the same.

    >>> matching_days("0 9 13 * */5", 1, 30)
    (12,)
    """
    rule, number = parse(text).days, month_forms().index(first_weekday + 7 * (length - 28))
    first = date(GREGORIAN_CYCLE + number // 12, number % 12 + 1, 1).toordinal()
    return tuple(n for n in range(length) if rule.match_day(date.fromordinal(first + n)))


class Cron(ByDays, ByYears):
    """The instants of a cron expression, by the clocks of a zone.

    They are counted by the years of the zone's calendar. On all days but those on which the clocks
    change there are as many as the expression has times.
    """

    days: CronDays

    def __init__(self, start: datetime, text: str, zone: ZoneInfo) -> None:
        self.text, self.expression = text, parse(text)
        year = start.astimezone(zone).year
        super().__init__(start, CronDays(year, text), zone)
        self._known: dict[int, int] = {}

    def first_of(self, day: int, after: datetime) -> datetime | None:
        midnight, times = self._times_of(day)
        index = bisect(times, (after - midnight) // SECOND)
        return midnight + times[index] * SECOND if index < len(times) else None

    def last_of(self, day: int, until: datetime) -> datetime | None:
        midnight, times = self._times_of(day)
        index = bisect(times, (until - midnight) // SECOND)
        return midnight + times[index - 1] * SECOND if index else None

    def soonest(self, number: int) -> datetime | None:
        try:
            return self.start + (number - 1) * MINUTE
        except OverflowError:
            return None

    def year_of(self, moment: datetime) -> int:
        """Of the day before: its instants may still be to come."""
        return date.fromordinal(self.local_day(moment) - 1).year

    def held(self, year: int) -> int:
        like, _days = twin(year)
        if like not in self._known:
            usual, unusual = len(self.expression.times), self._unusual(like).values()
            matching = len(self.days.matching(like))
            self._known[like] = usual * (matching - len(unusual)) + sum(unusual)
        return self._known[like]

    def held_until(self, moment: datetime) -> int:
        yesterday = self.local_day(moment) - 1
        year = date.fromordinal(yesterday).year
        days_gone = yesterday - date(year, 1, 1).toordinal()
        usual = len(self.expression.times)
        total = usual * bisect_left(self.days.matching(year), days_gone)
        total += sum(n - usual for day, n in self._unusual(year).items() if day < yesterday)
        for day in range(yesterday, yesterday + 3):
            if self.days.names(day):
                midnight, times = self._times_of(day)
                total += bisect(times, (moment - midnight) // SECOND)
        return total

    def pick(self, year: int, number: int) -> datetime | None:
        usual, unusual = len(self.expression.times), self._unusual(year)
        for day in self.days.in_year(year):
            if number < (size := unusual.get(day, usual)):
                midnight, times = self._times_of(day)
                return midnight + times[number] * SECOND
            number -= size
        return None

    def _unusual(self, year: int) -> dict[int, int]:
        """The matching days of a year that have more or fewer instants than usual; how many."""
        like, moved = twin(year)
        sizes = {
            day + moved: len(self._changed(day + moved, *change))
            for day, *change in change_days(self.zone, like)
        }
        usual = len(self.expression.times)
        return {day: n for day, n in sizes.items() if n != usual and self.days.names(day)}

    def _times_of(self, day: int) -> tuple[datetime, Sequence[int]]:
        """The day's midnight, and how many seconds after it the day's instants are."""
        midnight = datetime.combine(date.fromordinal(day), time(), self.zone)
        tomorrow = datetime.combine(date.fromordinal(day + 1), time(), self.zone)
        first, before, after = midnight.astimezone(UTC), midnight.utcoffset(), tomorrow.utcoffset()
        if before == after or before is None or after is None:
            return first, self.expression.times
        change = turning(self.zone, first - DAY * SECOND, tomorrow.astimezone(UTC)) - first
        return first, self._changed(day, change // SECOND, (after - before) // SECOND)

    def _changed(self, day: int, change: int, shift: int) -> Sequence[int]:
        times = changed_times(self.text, change, shift)
        beyond = times[-1] - (DAY - shift) if times else -1  # from when tomorrow begins
        if beyond >= 0 and self.days.names(day + 1) and beyond in self._times_of(day + 1)[1]:
            return times[:-1]  # shifted into tomorrow, it meets what is there
        return times


@lru_cache(maxsize=1024)
def changed_times(text: str, change: int, shift: int) -> tuple[int, ...]:
    """The instants of a day with a clock change, in seconds after its midnight.

    :param change: when the clocks change, in seconds after midnight.
    :param shift: by how many seconds they go forward; negative: back.

    Brussels, 29 March 2026: 02:00 and 02:30 both happen at 03:00, when the change is over; in a
    rule of elapsed time nothing happens instead.

    >>> changed_times("0,30 1-3 * * *", 7200, 3600)
    (3600, 5400, 7200, 9000)
    >>> changed_times("*/30 2 * * *", 7200, 3600)
    ()

    25 October: what happens from 02:00 to 03:00 happens once, or in a rule of elapsed time twice.

    >>> changed_times("30 2,3 * * *", 10800, -3600)
    (9000, 16200)
    >>> changed_times("*/30 2 * * *", 10800, -3600)
    (7200, 9000, 10800, 12600)
    """
    expression = parse(text)
    times, by_clock = expression.times, expression.by_clock
    before = bisect_left(times, change)
    if shift < 0:
        again = before if by_clock else bisect_left(times, change + shift)
        return (*times[:before], *(seconds - shift for seconds in times[again:]))
    after = bisect_left(times, change + shift)
    later = [seconds - shift for seconds in times[after:]]
    if by_clock and before < after:
        moved = -(-(change + shift) // 60) * 60 - shift  # the first whole minute that exists again
        later = [moved, *later] if moved not in later[:1] else later
    return (*times[:before], *later)
