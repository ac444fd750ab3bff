"""A second opinion about time, slow and simple: it looks at every step or day in turn.

It shares nothing with linod but the rule's fields, and computes even Easter in its own way.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from functools import cached_property, lru_cache
from zoneinfo import ZoneInfo

from linod.recurrence import Recurrence
from tests.recurrence.zones import first_minute_without, offset_at

DAY = timedelta(days=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
UNIT = {"secondly": timedelta(seconds=1), "minutely": MINUTE, "hourly": HOUR}


class Clocks:
    """The clocks of a zone from three days before a moment to three after it.

    Times of day are whole minutes here, as they are in the rules that ask it. The days that it
    answers for are the moment's own and those beside it.
    """

    def __init__(self, zone: ZoneInfo, moment: datetime) -> None:
        self.zone = zone
        today = moment.date()
        self.first_day, self.last_day = today - DAY, today + DAY
        #: Each offset, from when and until when it holds.
        self.spans: list[tuple[timedelta, datetime, datetime]] = []
        self.gaps: list[tuple[datetime, datetime]] = []
        begin = instant = datetime.combine(today, time(12), UTC) - 84 * HOUR
        last = begin + 168 * HOUR
        offset = offset_at(zone, begin)
        while instant < last:
            if offset_at(zone, instant + HOUR) == offset:
                instant += HOUR
                continue
            instant = first_minute_without(zone, offset, instant)
            self.spans.append((offset, begin, instant))
            before = (instant - MINUTE).astimezone(zone).replace(tzinfo=None)
            wall = instant.astimezone(zone).replace(tzinfo=None)
            if wall - before > MINUTE:
                self.gaps.append((before, wall))
            begin, offset = instant, offset_at(zone, instant)
        self.spans.append((offset, begin, last))

    def instants_of(self, wall: datetime) -> list[datetime]:
        """When the clock shows ``wall``: once, twice, or never."""
        instant = wall.replace(tzinfo=UTC)
        return [
            instant - offset for offset, begin, end in self.spans if begin <= instant - offset < end
        ]

    @cached_property
    def window(self) -> tuple[datetime, datetime]:
        """From the first day's beginning to the last day's end, as instants."""
        midnights = (self.first_day, self.last_day + DAY)
        first, end = (self.as_soon_as_possible(datetime.combine(d, time())) for d in midnights)
        return first, end

    def first(self, wall: datetime) -> datetime:
        """When the clock shows ``wall`` for the first time, or would have but for a gap."""
        if instants := self.instants_of(wall):
            return instants[0]
        before, after = self.gap_over(wall)
        return self.instants_of(wall + (after - before - MINUTE))[0]

    def as_soon_as_possible(self, wall: datetime) -> datetime:
        """When the clock shows ``wall`` for the first time, or a gap over it has ended."""
        if instants := self.instants_of(wall):
            return instants[0]
        return self.instants_of(self.gap_over(wall)[1])[0]

    def gap_over(self, wall: datetime) -> tuple[datetime, datetime]:
        """What the clock shows in the minutes before and after the gap that swallows ``wall``."""
        for before, after in self.gaps:
            if before < wall < after:
                return before, after
        raise AssertionError(f"{wall} is in no gap of {self.zone}")


def occurrences(rule: Recurrence, clocks: Clocks) -> list[datetime]:
    """What the rule names in the window of ``clocks``, its ``max_events`` apart, ascending."""
    first, end = clocks.window
    first = max(first, rule.start)
    if rule.end is not None:
        end = min(end, rule.end + timedelta(microseconds=1))
    return sorted({instant for instant in _instants(rule, clocks) if first <= instant < end})


def _instants(rule: Recurrence, clocks: Clocks) -> Iterator[datetime]:
    if rule.every_unit in UNIT:
        yield from _steps(rule, clocks)
    elif rule.every_unit == "cron":
        yield from _cron(rule, clocks)
    else:
        first = rule.start.astimezone(clocks.zone)
        day = first.date()
        while day <= clocks.last_day + DAY:
            if day >= clocks.first_day - DAY and names_day(rule, first.date(), day):
                yield clocks.first(datetime.combine(day, first.time()))
            day += DAY


def _steps(rule: Recurrence, clocks: Clocks) -> Iterator[datetime]:
    instant = rule.start.astimezone(UTC)
    while instant < clocks.window[1]:
        if not rule.weekdays or instant.astimezone(clocks.zone).weekday() in rule.weekdays:
            yield instant
        instant += rule.every * UNIT[rule.every_unit]


def names_day(rule: Recurrence, start: date, day: date) -> bool:
    """Whether a rule of a day or longer that starts on ``start`` names ``day``."""
    match rule.every_unit:
        case "daily":
            on_grid = (day - start).days % rule.every == 0
            return on_grid and (not rule.weekdays or day.weekday() in rule.weekdays)
        case "weekly":
            weeks = (_monday(day) - _monday(start)).days // 7
            wanted = rule.weekdays or {start.weekday()}
            return weeks % rule.every == 0 and day.weekday() in wanted
        case "monthly":
            months = 12 * (day.year - start.year) + day.month - start.month
            return months % rule.every == 0 and _picks(rule, start, day, _month(day))
        case "yearly":
            years = day.year - start.year
            return years % rule.every == 0 and _picks(rule, start, day, _year(day))
        case "easter":
            distance = start - western_easter(start.year)
            sunday = day - distance
            years = sunday.year - start.year
            return years % rule.every == 0 and sunday == western_easter(sunday.year)
    raise AssertionError(rule.every_unit)


def _picks(rule: Recurrence, start: date, day: date, span: list[date]) -> bool:
    """Whether ``day`` is one of those that the rule wants of a whole month or year."""
    if rule.weekdays or rule.positions:
        matching = [d for d in span if not rule.weekdays or d.weekday() in rule.weekdays]
        if day not in matching:
            return False
        place = matching.index(day)
        return not rule.positions or bool({place + 1, place - len(matching)} & set(rule.positions))
    if rule.every_unit == "yearly" and day.month != start.month:
        return False
    if day.day == start.day:
        return True
    return day.day < start.day and (day + DAY).month != day.month


def _month(day: date) -> list[date]:
    return [d for d in _year(day) if d.month == day.month]


@lru_cache
def _days_of(year: int) -> list[date]:
    days = [date(year, 1, 1)]
    while (days[-1] + DAY).year == year:
        days.append(days[-1] + DAY)
    return days


def _year(day: date) -> list[date]:
    return _days_of(day.year)


def _monday(day: date) -> date:
    while day.weekday() != 0:
        day -= DAY
    return day


@lru_cache
def western_easter(year: int) -> date:
    """The Sunday after the first full moon of the tables from 21 March on (Gauss, 1816)."""
    a, k = year % 19, year // 100
    p = (13 + 8 * k) // 25
    q = k // 4
    m = (15 - p + k - q) % 30
    d = (19 * a + m) % 30
    e = (2 * (year % 4) + 4 * (year % 7) + 6 * d + (4 + k - q) % 7) % 7
    day = date(year, 3, 22) + (d + e) * DAY
    if (d == 29 and e == 6) or (d == 28 and e == 6 and (11 * m + 11) % 30 < 19):
        day -= 7 * DAY
    return day


def _cron(rule: Recurrence, clocks: Clocks) -> Iterator[datetime]:
    minute, hour, *_days = rule.cron.split()
    follows_the_clock = minute.startswith("*") or hour.startswith("*")
    day = clocks.first_day - DAY
    while day <= clocks.last_day + DAY:
        for wall in cron_minutes(rule.cron, day):
            if follows_the_clock:
                yield from clocks.instants_of(wall)
            else:
                yield clocks.as_soon_as_possible(wall)
        day += DAY


def cron_minutes(text: str, day: date) -> Iterator[datetime]:
    """The minutes of a day that a cron expression of numbers, lists, ranges and steps names."""
    minutes, hours, days, months, weekdays, both = _fields(text)
    on_day = day.day in days
    on_weekday = bool({day.isoweekday(), day.isoweekday() % 7} & weekdays)
    if day.month in months and ((on_day and on_weekday) if both else (on_day or on_weekday)):
        for hour in sorted(hours):
            for minute in sorted(minutes):
                yield datetime.combine(day, time(hour, minute))


@lru_cache
def _fields(text: str) -> tuple[set[int], set[int], set[int], set[int], set[int], bool]:
    minute, hour, day, month, weekday = text.split()
    return (
        _numbers(minute, 0, 59),
        _numbers(hour, 0, 23),
        _numbers(day, 1, 31),
        _numbers(month, 1, 12),
        _numbers(weekday, 0, 7),
        day.startswith("*") or weekday.startswith("*"),
    )


def _numbers(field: str, low: int, high: int) -> set[int]:
    found: set[int] = set()
    for part in field.split(","):
        span, _slash, step = part.partition("/")
        first, _dash, last = span.partition("-")
        if span == "*":
            first, last = str(low), str(high)
        found.update(range(int(first), int(last or first) + 1, int(step or 1)))
    return found
