"""Counting is arithmetic: it agrees with a walk from one instant to the next, anywhere in time."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from itertools import accumulate, pairwise
from random import Random
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linod.calendars import Monthly, Yearly
from linod.elapsed import floor_sum
from linod.recurrence import Recurrence
from linod.totals import Totals
from linod.zonechanges import FIRST_CHANGE, REGULAR, change_days, changes, lost_days, twin
from tests.recurrence.zones import offset_at

DAY, TICK = timedelta(days=1), timedelta(microseconds=1)
FOREVER = datetime.max.replace(tzinfo=UTC)
FULL = os.environ.get("LINOD_FULL") == "1"

#: Changes of all kinds: by an hour, by half of one, by two; at midnight, before it and after it;
#: four a year; across the date line and back; winter time that counts as the exception.
ZONES = (
    "UTC",
    "Europe/Brussels",
    "Europe/Dublin",
    "Africa/Casablanca",
    "Africa/Freetown",
    "America/Nuuk",
    "America/Santiago",
    "America/Sitka",
    "America/St_Johns",
    "Antarctica/Troll",
    "Asia/Gaza",
    "Asia/Manila",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Pacific/Kiritimati",
    "Pacific/Kwajalein",
)

RULES: dict[str, dict[str, Any]] = {
    "cron, at one time": {"cron": "0 12 * * *"},
    "cron, in the night": {"cron": "0,30 0-3,23 * * 6,0,1"},
    "cron, at midnight": {"cron": "0 0 * * *"},
    "cron, late in months": {"cron": "59 23 29-31 * *"},
    "cron, by elapsed time": {"cron": "*/20 23,0,1,2 1-10,25-31 3,4,9-12 *"},
    "cron, each minute": {"cron": "* * 31 12 *"},
    "hourly, on Mondays": {"every": 5, "weekdays": {0}},
    "hourly, at the week's end": {"every": 29, "weekdays": {4, 5, 6}},
    "hourly, on three days": {"every": 3, "weekdays": {1, 3, 6}},
    "hourly, seldom": {"every": 167, "weekdays": {2}},
    "minutely, on Sundays": {"every": 97, "weekdays": {6}},
    "secondly, on working days": {"every": 40_001, "weekdays": range(5)},
    "daily": {},
    "daily, on working days": {"every": 2, "weekdays": range(5)},
    "weekly": {"weekdays": {4, 5}},
    "monthly": {},
    "monthly, by position": {"weekdays": range(5), "positions": (-1, 1)},
    "yearly, on Fridays": {"weekdays": {4}},
    "easter": {},
}

#: The years in which the walks begin: local time, the world wars, date lines crossed, rules of
#: today, Morocco's and Palestine's last exceptions, and the centuries after them.
YEARS = (1844, 1867, 1892, 1916, 1939, 1969, 1993, 1994, 2006, 2011, 2026, 2086, 2099, 2400, 9000)


def make(name: str, start: datetime, key: str, **limits: Any) -> Recurrence:
    return Recurrence(name.partition(",")[0], start=start, time_zone=key, **RULES[name], **limits)


def last_of(rule: Recurrence, number: int) -> datetime | None:
    """The last instant of a new rule that has so many."""
    return replace(rule, max_events=number).latest_until(FOREVER)


@pytest.mark.parametrize("key", ZONES)
@pytest.mark.parametrize("name", RULES)
def test_counting_agrees_with_a_walk(name: str, key: str) -> None:
    dice = Random(name + key)
    for year in YEARS if FULL else dice.sample(YEARS, 2):
        start = datetime(year, 1, 1, tzinfo=UTC) + dice.randrange(366 * 24 * 60) * DAY / 1440
        rule = make(name, start - 30 * DAY, key)
        walked = rule.between(start, start + 500 * DAY)
        number = rule.count(rule.start - TICK, start)
        for place in {0, len(walked) - 1, *(dice.randrange(len(walked) or 1) for _ in range(20))}:
            if walked:
                instant = walked[place]
                assert rule.count(start, instant) == place + 1, (rule, instant)
                assert rule.count(start, instant - TICK) == place, (rule, instant)
                assert last_of(rule, number + place + 1) == instant, (rule, instant)


@pytest.mark.parametrize("key", ZONES)
@pytest.mark.parametrize("name", RULES)
def test_a_far_instant_has_its_number(name: str, key: str) -> None:
    dice = Random(name + key)
    for asks_next_first in (False, True):
        start = datetime(dice.randrange(2, 2100), dice.randrange(1, 13), 28, 12, tzinfo=UTC)
        moment = datetime(dice.randrange(start.year + 1, 9998), 6, 1, 5, 7, tzinfo=UTC)
        rule = make(name, start, key)
        instant = rule.next_after(moment)
        assert instant is not None
        number = rule.count(start - TICK, instant)
        assert rule.count(start - TICK, moment) == number - 1
        limited = replace(rule, max_events=number)
        if asks_next_first:  # the first question makes a new rule count
            assert limited.next_after(moment) == instant
        assert limited.latest_until(FOREVER) == instant
        assert limited.next_after(moment) == instant
        assert limited.next_after(instant) is None
        assert replace(rule, max_events=number - 1).next_after(moment) is None


@pytest.mark.parametrize("name", ["cron, by elapsed time", "hourly, on three days"])
def test_centuries_are_the_sum_of_their_days(name: str) -> None:
    rule = make(name, datetime(2080, 1, 31, tzinfo=UTC), "Europe/Brussels")
    until = rule.start + 150_000 * DAY
    days = [rule.start + n * DAY for n in range(0, 150_000, 97)] + [until]
    parts = sum(rule.count(first, last) for first, last in pairwise(days))
    assert parts == rule.count(rule.start, until) > 100_000


def test_a_step_that_comes_by_seldom_is_followed_to_the_end() -> None:
    """It is on a Tuesday once in a while of centuries, a second earlier each week."""
    start = datetime(2026, 11, 25, 1, tzinfo=UTC)  # a Wednesday
    rule = Recurrence("secondly", 604_799, start=start, weekdays=frozenset({1}))
    first = rule.next_after(start)
    assert first is not None
    assert first == start + 3601 * timedelta(seconds=604_799)
    assert first.weekday() == 1
    assert rule.latest_until(first) == first
    assert rule.latest_before(first) is None


def test_a_lost_day_is_counted_once_between_equal_offsets() -> None:
    """Kwajalein went back across the date line in 1969 and forward again in 1993."""
    start = datetime(1969, 6, 1, 20, tzinfo=UTC)
    rule = Recurrence("daily", start=start, time_zone="Pacific/Kwajalein")
    until = datetime(1994, 6, 1, tzinfo=UTC)
    assert rule.count(start - TICK, until) == len(rule.between(start - TICK, until))


@pytest.mark.parametrize(
    "key", sorted(available_timezones()) if FULL else (*ZONES, "America/Toronto")
)
def test_the_changes_of_a_zone_are_found(key: str) -> None:
    zone = ZoneInfo(key)
    days = range(date(FIRST_CHANGE - 10, 1, 1).toordinal(), date(REGULAR + 50, 1, 1).toordinal())
    midnights = [
        datetime.combine(date.fromordinal(day), time(), zone) for day in (*days, days.stop)
    ]
    expected = [
        day
        for day, (midnight, next_one) in zip(days, pairwise(midnights), strict=True)
        if midnight.utcoffset() != next_one.utcoffset()
    ]
    found = [
        day + moved
        for year in range(FIRST_CHANGE - 10, REGULAR + 50)
        for like, moved in [twin(year)]
        for day, _seconds, _shift in change_days(zone, like)
    ]
    assert found == expected


@pytest.mark.parametrize("year", [2, 1843, REGULAR, 2100, 9998])
def test_twins_are_alike_in_every_zone(year: int) -> None:
    like, moved = twin(year)
    for zone in map(ZoneInfo, available_timezones()):
        for moment in (datetime(year, 1, 1, 12, tzinfo=UTC) + n * 5 * DAY for n in range(73)):
            other = moment - moved * DAY
            assert other.year == like
            assert other.weekday() == moment.weekday()
            assert offset_at(zone, other) == offset_at(zone, moment), zone


def test_a_change_is_the_first_second_of_another_offset() -> None:
    for zone in map(ZoneInfo, available_timezones()):
        for year in (1912, 2026, 2040):
            for change in changes(zone, year):
                assert offset_at(zone, change.moment - TICK) == change.before != change.after
                assert offset_at(zone, change.moment) == change.after


def test_whole_days_were_lost_on_four_dates() -> None:
    """From midnight to midnight: so what should happen on them meets the next day's instant."""
    lost = set()
    for zone in map(ZoneInfo, available_timezones()):
        for day in lost_days(zone):
            lost.add(str(date.fromordinal(day)))
            midnight = datetime.combine(date.fromordinal(day), time(), zone)
            assert midnight.astimezone(UTC) == (midnight + DAY).astimezone(UTC)
            assert (midnight + DAY).astimezone(UTC) == (midnight + DAY).replace(fold=1)
    assert lost == {"1844-12-31", "1993-08-21", "1994-12-31", "2011-12-30"}


@given(st.lists(st.integers(0, 5), max_size=5), st.lists(st.integers(0, 5), min_size=1, max_size=5))
def test_totals_are_sums(lead: list[int], cycle: list[int]) -> None:
    def held(place: int) -> int:
        return lead[place] if place < len(lead) else cycle[(place - len(lead)) % len(cycle)]

    totals = Totals(lambda places: map(held, places), len(cycle), len(lead))
    things = [(place, n) for place in range(40) for n in range(held(place))]
    for number, thing in enumerate(things):
        assert totals.find(number) == thing
    if not sum(cycle):
        assert totals.find(sum(lead)) is None
    expected = list(accumulate(map(held, range(40)), initial=0))
    assert [totals.before(place) for place in range(41)] == expected


@given(st.integers(0, 60), st.integers(1, 50), st.integers(0, 200), st.integers(-(10**4), 10**4))
def test_a_floor_sum_is_that_sum(count: int, divisor: int, step: int, first: int) -> None:
    expected = sum((first + n * step) // divisor for n in range(count))
    assert floor_sum(count, divisor, step, first) == expected


@given(st.integers(1, 5000), st.sets(st.integers(0, 6)), st.lists(st.integers(-9, 9).filter(bool)))
def test_periods_hold_as_many_days_as_they_list(
    every: int, weekdays: set[int], positions: list[int]
) -> None:
    anchor, pick = date(1970, 1, 31), (frozenset(weekdays), tuple(positions))
    for days in (Monthly(anchor, every, *pick), Yearly(anchor, every, *pick)):
        periods = range(min(60, days.last_period))
        assert list(days.sizes(periods)) == [len(days.days_in(n)) for n in periods]
