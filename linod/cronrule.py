"""Cron expressions as a series. cronsim reads them; where clocks change they mean what it says:

* A rule for certain times (neither minute nor hour begins with ``*``) goes by the clock: a time
  that a spring change leaves out happens as soon as the change is over, a repeated one once.
* A rule with ``*`` in minute or hour goes by elapsed time: it has an instant whenever the clock
  shows a matching time, none in a gap, and both times in an hour that repeats itself.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from linod.calendars import GREGORIAN_CYCLE, Months
from linod.exceptions import InvalidRecurrence, MissingExtra
from linod.phrases import gettext_noop
from linod.series import TICK, ByDays

if TYPE_CHECKING:
    from cronsim import CronSim

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

    def __init__(self, year: int, rule: CronSim) -> None:
        self.year, self.rule = year, rule
        self.months = sorted(rule.months)
        self.cycle = GREGORIAN_CYCLE * len(self.months)
        self._known: dict[tuple[int, int], tuple[int, ...]] = {}

    def period_of(self, day: int) -> int:
        today = date.fromordinal(day)
        return (today.year - self.year) * len(self.months) + bisect(self.months, today.month) - 1

    def month_of(self, period: int) -> tuple[int, int]:
        years, place = divmod(period, len(self.months))
        return self.year + years, self.months[place]

    def offsets(self, first: date, length: int) -> Sequence[int]:
        form = (first.weekday(), length)  # months of one form have the same matching days
        if form not in self._known:
            self._known[form] = tuple(
                n for n in range(length) if self.rule.match_day(first.replace(day=n + 1))
            )
        return self._known[form]


class Cron(ByDays):
    """The instants of a cron expression, by the clocks of a zone."""

    def __init__(self, start: datetime, text: str, zone: ZoneInfo) -> None:
        self.text, self.expression = text, parse(text)
        year = start.astimezone(zone).year
        super().__init__(start, CronDays(year, self.expression.days), zone)

    def first_of(self, day: int, after: datetime) -> datetime | None:
        midnight, times = self._times_of(day)
        index = bisect(times, (after - midnight) // SECOND)
        return midnight + times[index] * SECOND if index < len(times) else None

    def last_of(self, day: int, until: datetime) -> datetime | None:
        midnight, times = self._times_of(day)
        index = bisect(times, (until - midnight) // SECOND)
        return midnight + times[index - 1] * SECOND if index else None

    def count(self, after: datetime, until: datetime) -> int:
        total = 0
        after = max(after, self.start - TICK)
        for day in self.days.onwards(self.local_day(after) - 1):
            midnight, times = self._times_of(day)
            if midnight > until:
                break
            begin = bisect(times, (after - midnight) // SECOND)
            end = bisect(times, (until - midnight) // SECOND)
            if begin < end:
                total += end - begin
                after = midnight + times[end - 1] * SECOND  # a shifted one may meet the next day's
        return total

    def nth(self, number: int) -> datetime | None:
        after = self.start - TICK
        for day in self.days.onwards(self.local_day(after)):
            midnight, times = self._times_of(day)
            begin = bisect(times, (after - midnight) // SECOND)
            if begin + number <= len(times):
                return midnight + times[begin + number - 1] * SECOND
            if begin < len(times):
                number -= len(times) - begin
                after = midnight + times[-1] * SECOND
        return None

    def soonest(self, number: int) -> datetime | None:
        try:
            return self.start + (number - 1) * MINUTE
        except OverflowError:
            return None

    def _times_of(self, day: int) -> tuple[datetime, Sequence[int]]:
        """The day's midnight, and how many seconds after it the day's instants are."""
        midnight = datetime.combine(date.fromordinal(day), time(), self.zone)
        tomorrow = datetime.combine(date.fromordinal(day + 1), time(), self.zone)
        if midnight.utcoffset() == tomorrow.utcoffset():
            return midnight.astimezone(UTC), self.expression.times
        return midnight.astimezone(UTC), changed_times(self.text, self.zone, day)


@lru_cache(maxsize=1024)
def changed_times(text: str, zone: ZoneInfo, day: int) -> tuple[int, ...]:
    """The instants of a day with a clock change, in seconds after its midnight.

    Brussels, 29 March 2026: 02:00 and 02:30 both happen at 03:00, when the change is over; in a
    rule of elapsed time nothing happens instead.

    >>> day = date(2026, 3, 29).toordinal()
    >>> changed_times("0,30 1-3 * * *", ZoneInfo("Europe/Brussels"), day)
    (3600, 5400, 7200, 9000)
    >>> changed_times("*/30 2 * * *", ZoneInfo("Europe/Brussels"), day)
    ()
    """
    expression = parse(text)
    midnight = datetime.combine(date.fromordinal(day), time())
    base = midnight.replace(tzinfo=zone).astimezone(UTC)
    found: set[datetime] = set()
    for seconds in expression.times:
        wall = midnight + seconds * SECOND
        first, second = both_instants(wall, zone)
        if expression.by_clock:
            while second < first:  # left out: the first minute that exists again
                wall += MINUTE
                first, second = both_instants(wall, zone)
            found.add(first)
        elif first <= second:
            found.update((first, second))
    return tuple(sorted((instant - base) // SECOND for instant in found))


def both_instants(wall: datetime, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """The first and the second instant that a naive wall time can mean.

    Mostly the same; the second is earlier where a clock change leaves the time out (:pep:`495`).
    """
    aware = wall.replace(tzinfo=zone)
    return aware.astimezone(UTC), aware.replace(fold=1).astimezone(UTC)
