"""The edges of time: clock changes of every kind, the ends of the calendar, fractions."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest

from linod.recurrence import Recurrence
from linod.rules import as_utc
from linod.series import HORIZON
from linod.zonechanges import beginnings
from tests.recurrence.zones import changes, distinct_zones

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
TICK = timedelta(microseconds=1)


def local(text: str, key: str, fold: int = 0) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(key), fold=fold)


def instant(text: str, key: str, fold: int = 0) -> datetime:
    return local(text, key, fold).astimezone(UTC)


def shown(rule: Recurrence, after: datetime, number: int) -> list[str]:
    """What the clocks of the rule's zone show at its next occurrences."""
    found = rule.between(after, after + 4000 * DAY, number)
    return [f"{moment.astimezone(rule.zone):%m-%d %H:%M %z}" for moment in found]


def test_a_gap_shifts_by_its_length_and_only_that_day() -> None:
    start = local("2026-10-03T02:15", "Australia/Lord_Howe")  # half an hour is left out
    rule = Recurrence("daily", start=start, time_zone="Australia/Lord_Howe")
    assert shown(rule, start - TICK, 3) == [
        "10-03 02:15 +1030",
        "10-04 02:45 +1100",
        "10-05 02:15 +1100",
    ]


def test_a_gap_at_midnight_keeps_the_day() -> None:
    start = local("2026-03-27T00:00", "Asia/Beirut")
    rule = Recurrence("daily", start=start, time_zone="Asia/Beirut")
    assert shown(rule, start, 2) == ["03-28 00:00 +0200", "03-29 01:00 +0300"]


def test_a_gap_before_midnight_shifts_into_the_next_day() -> None:
    start = local("2026-03-27T23:30", "America/Nuuk")
    rule = Recurrence("daily", start=start, time_zone="America/Nuuk")
    expected = ["03-27 23:30 -0200", "03-29 00:30 -0100", "03-29 23:30 -0100"]
    assert shown(rule, start - TICK, 3) == expected
    midnight = instant("2026-03-29T00:00", "America/Nuuk")
    assert rule.count(start - TICK, midnight) == 1
    assert rule.count(start - TICK, midnight + HOUR) == 2
    weekly = Recurrence("weekly", start=start + DAY, time_zone="America/Nuuk")
    assert shown(weekly, start, 2) == ["03-29 00:30 -0100", "04-04 23:30 -0100"]


def test_a_start_in_a_gap_is_shifted_that_day_and_keeps_its_time() -> None:
    start = local("2026-03-29T02:30", "Europe/Brussels")
    rule = Recurrence("daily", start=start, time_zone="Europe/Brussels")
    assert shown(rule, start - TICK, 2) == ["03-29 03:30 +0200", "03-30 02:30 +0200"]
    assert rule.describe() == "every day at 02:30"


def test_a_start_in_the_second_of_two_equal_hours_waits_for_the_next_day() -> None:
    start = local("2026-10-25T02:30", "Europe/Brussels", fold=1)
    rule = Recurrence("daily", start=start, time_zone="Europe/Brussels")
    assert shown(rule, start - DAY, 1) == ["10-26 02:30 +0100"]
    assert rule.count(start - DAY, start + DAY) == 1
    once = Recurrence("once", start=start, time_zone="Europe/Brussels")
    assert once.next_after(start - DAY) == start.astimezone(UTC)


def test_elapsed_time_goes_straight_through_a_gap() -> None:
    start = local("2026-03-29T00:30", "Europe/Brussels")
    rule = Recurrence("hourly", start=start, time_zone="Europe/Brussels")
    assert shown(rule, start, 3) == ["03-29 01:30 +0100", "03-29 03:30 +0200", "03-29 04:30 +0200"]


def test_a_day_that_does_not_exist_meets_the_next_one() -> None:
    start = local("2011-12-28T20:00", "Pacific/Apia")  # 30 December was left out
    rule = Recurrence("daily", start=start, time_zone="Pacific/Apia", max_events=4)
    expected = ["12-28 20:00 -1000", "12-29 20:00 -1000", "12-31 20:00 +1400", "01-01 20:00 +1400"]
    assert shown(rule, start - TICK, 9) == expected
    assert rule.count(start - TICK, start + 30 * DAY) == 4
    assert rule.count(start, start + 3 * DAY) == 2
    assert shown(
        Recurrence("weekly", start=start + 2 * DAY, time_zone="Pacific/Apia"), start, 2
    ) == [
        "12-31 20:00 +1400",
        "01-06 20:00 +1400",
    ]


def test_a_weekday_that_does_not_exist_has_no_hours() -> None:
    start = local("2011-12-28T20:00", "Pacific/Apia")
    fridays = Recurrence("hourly", start=start, weekdays=frozenset({4}), time_zone="Pacific/Apia")
    assert shown(fridays, start, 1) == ["01-06 00:00 +1400"]
    both = Recurrence("hourly", start=start, weekdays=frozenset({3, 5}), time_zone="Pacific/Apia")
    assert both.count(start, start + 4 * DAY) == 24 + 24


def test_a_clock_that_goes_back_across_midnight_names_a_day_twice() -> None:
    key = "America/St_Johns"  # until 2010 it went back from 0:01 to 23:01
    start = local("2010-11-06T12:00", key)
    saturdays = Recurrence("minutely", start=start, weekdays=frozenset({5}), time_zone=key)
    sundays = Recurrence("minutely", start=start, weekdays=frozenset({6}), time_zone=key)
    assert saturdays.count(start - TICK, start + 2 * DAY) == 12 * 60 + 59
    assert sundays.count(start - TICK, start + 2 * DAY) == 1 + 24 * 60
    first, second = instant("2010-11-07T00:00", key), instant("2010-11-07T00:00", key, fold=1)
    minute = timedelta(minutes=1)
    assert sundays.next_after(start) == first
    assert saturdays.next_after(first) == first + minute
    assert sundays.next_after(first) == second
    assert saturdays.latest_until(second + HOUR) == second - minute
    assert sundays.latest_until(second - minute) == first
    second_45 = Recurrence("secondly", 45, start=start, weekdays=frozenset({5}), time_zone=key)
    assert second_45.next_after(first) == first + timedelta(seconds=90)


def test_no_zone_leaves_out_a_time_on_both_sides_of_midnight() -> None:
    """What :func:`linod.zonechanges.beginnings` takes for granted."""
    for key in distinct_zones():
        zone = ZoneInfo(key)
        for moment, _offset in changes(key)[1:]:
            before, after = (moment - TICK).astimezone(zone), moment.astimezone(zone)
            if before.date() < after.date():
                assert (before + TICK).time() == time(0) or after.time() == time(0), key
                assert beginnings(zone, after.toordinal()) == (moment,)


def test_weekdays_of_elapsed_time_move_with_the_clocks() -> None:
    start = local("2026-01-05T23:30", "Europe/Brussels")  # a Monday; in summer it is Tuesday
    rule = Recurrence(
        "hourly", 168, start=start, weekdays=frozenset({1}), time_zone="Europe/Brussels"
    )
    assert shown(rule, start, 1) == ["03-31 00:30 +0200"]
    assert rule.latest_until(local("2027-01-31T12:00", "Europe/Brussels")) == local(
        "2026-10-20T00:30", "Europe/Brussels"
    )


@pytest.mark.parametrize(
    "every_unit", ["secondly", "hourly", "daily", "monthly", "yearly", "easter"]
)
def test_fractions_of_seconds_are_kept(every_unit: str) -> None:
    start = datetime(2026, 4, 5, 14, 0, 0, 250_000, tzinfo=UTC)
    rule = Recurrence(every_unit, start=start)
    assert rule.next_after(start - TICK) == start
    following = rule.next_after(start)
    assert following is not None
    assert following.microsecond == 250_000
    assert rule.latest_before(following) == start
    assert rule.next_after(following - TICK) == following


@pytest.mark.parametrize(
    "rule",
    [
        Recurrence("secondly", 10, start=datetime(1970, 1, 1, tzinfo=UTC)),
        Recurrence("hourly", start=datetime(1970, 1, 1, tzinfo=UTC), weekdays=frozenset({0})),
        Recurrence("daily", start=datetime(1970, 1, 1, 23, tzinfo=UTC), time_zone="Pacific/Midway"),
        Recurrence("weekly", start=datetime(1970, 1, 1, tzinfo=UTC), time_zone="Pacific/Apia"),
        Recurrence("monthly", start=datetime(1970, 1, 1, tzinfo=UTC), positions=(-1,)),
        Recurrence("yearly", start=datetime(1970, 12, 31, tzinfo=UTC)),
        Recurrence("easter", start=datetime(1970, 1, 1, tzinfo=UTC)),
        Recurrence("easter", start=datetime(1970, 12, 31, tzinfo=UTC)),
        Recurrence("cron", start=datetime(1970, 1, 1, tzinfo=UTC), cron="0 0 * * *"),
        Recurrence("once", start=datetime(1970, 1, 1, tzinfo=UTC)),
        Recurrence("never", start=datetime(1970, 1, 1, tzinfo=UTC)),
    ],
    ids=lambda rule: f"{rule.every_unit}",
)
def test_the_ends_of_the_calendar(rule: Recurrence) -> None:
    first, last = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
    east, west = timezone(14 * HOUR), timezone(-12 * HOUR)
    assert rule.next_after(last) is None
    assert rule.next_after(datetime.max.replace(tzinfo=west)) is None
    assert rule.latest_before(first) is None
    assert rule.latest_until(datetime.min.replace(tzinfo=east)) is None
    assert rule.next_after(first) == rule.next_after(rule.start - TICK)
    newest = rule.latest_until(last)
    if newest is not None:
        assert newest == rule.latest_before(last) <= HORIZON
        assert rule.next_after(newest) is None
        assert rule.next_after(newest - TICK) == newest
    assert rule.between(last - DAY, last) == []
    assert rule.count(last, first) == 0


@pytest.mark.parametrize(
    "every_unit", ["secondly", "daily", "weekly", "monthly", "yearly", "easter"]
)
def test_an_interval_longer_than_time_has_one_occurrence(every_unit: str) -> None:
    start = datetime(2026, 11, 18, 14, tzinfo=UTC)
    rule = Recurrence(every_unit, 10**12, start=start)
    assert rule.between(start - TICK, datetime.max.replace(tzinfo=UTC)) == [start]
    assert rule.latest_until(datetime.max.replace(tzinfo=UTC)) == start


def test_a_moment_in_any_zone_is_that_moment() -> None:
    start = datetime(2026, 11, 18, 14, tzinfo=UTC)
    rule = Recurrence("secondly", 10, start=start.astimezone(ZoneInfo("Asia/Tokyo")))
    moment = (start + timedelta(seconds=11)).astimezone(timezone(-5 * HOUR))
    assert rule.next_after(moment) == start + timedelta(seconds=20)
    assert as_utc(moment).tzinfo is UTC


def test_the_end_counts() -> None:
    start = datetime(2026, 11, 18, 14, tzinfo=UTC)
    for end, number in ((start + DAY, 2), (start + DAY - TICK, 1)):
        rule = Recurrence("daily", start=start, end=end)
        assert rule.count(start - TICK, start + 9 * DAY) == number
        assert rule.latest_until(start + 9 * DAY) == start + (number - 1) * DAY


def test_of_end_and_number_of_events_the_first_one_counts() -> None:
    start = datetime(2026, 11, 18, 14, tzinfo=UTC)
    for days, number, expected in ((2, 9, 3), (9, 2, 2)):
        rule = Recurrence("daily", start=start, end=start + days * DAY, max_events=number)
        assert len(rule.between(start - TICK, start + 99 * DAY)) == expected


@pytest.mark.parametrize(
    ("rule", "number"),
    [
        (Recurrence("secondly", 10, start=datetime(2026, 3, 1, tzinfo=UTC)), 259_200),
        (
            Recurrence(
                "secondly",
                10,
                start=datetime(2026, 3, 1, tzinfo=UTC),
                weekdays=frozenset({6}),
                time_zone="Europe/Brussels",
            ),
            # The first Sunday began an hour before the start, the fifth has 23 hours.
            (23 + 3 * 24 + 23) * 360,
        ),
    ],
    ids=["every 10 seconds", "on Sundays"],
)
def test_counting_is_arithmetic(rule: Recurrence, number: int) -> None:
    start = rule.start - TICK
    assert rule.count(start, start + 30 * DAY) == number
