"""Every zone of the tz database, on every day from 2025 to 2037 on which its clocks change.

Zones whose clocks agree in all that time are tried once; ``LINOD_FULL=1`` tries each of them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import datetime, time, timedelta
from zoneinfo import ZoneInfo, available_timezones

import pytest

from linod.recurrence import Recurrence
from tests.recurrence.oracle import Clocks, occurrences
from tests.recurrence.zones import changes, distinct_zones

DAY, HALF_HOUR = timedelta(days=1), timedelta(minutes=30)
TICK = timedelta(microseconds=1)

FULL = os.environ.get("LINOD_FULL") == "1"
PARTS = 8  # so that workers can share them


def times_around(moment: datetime, zone: ZoneInfo) -> list[time]:
    """Times of day just before, in and after the gap or the repeated hour; and 0:00, 20:00."""
    walls = [(moment - timedelta(minutes=1)).astimezone(zone), moment.astimezone(zone)]
    near = {
        (wall.replace(tzinfo=None) + n * HALF_HOUR).time().replace(second=0)
        for wall in walls
        for n in (-1, 0, 1)
    }
    return sorted(near | {time(0), time(20)})


def rules_around(moment: datetime, key: str) -> Iterator[Recurrence]:
    """Rules of every unit, with starts near and far, that have something to do in those days."""
    zone = ZoneInfo(key)
    today = moment.astimezone(zone).date()
    weekdays = frozenset({today.weekday()})
    others = frozenset(range(7)) - weekdays
    for number, clock_time in enumerate(times_around(moment, zone)):
        near = datetime.combine(today - (9 + number) * DAY, clock_time, zone)
        far = datetime.combine(today.replace(year=today.year - 3, day=28), clock_time, zone)
        yield Recurrence("daily", start=near, time_zone=key)
        yield Recurrence("daily", 2, start=near, weekdays=weekdays, time_zone=key)
        yield Recurrence("weekly", start=near, weekdays=others, time_zone=key)
        match number % 4:
            case 0:
                yield Recurrence("monthly", start=far, weekdays=weekdays, time_zone=key)
            case 1:
                yield Recurrence(
                    "yearly", start=far, positions=tuple(range(-366, 0)), time_zone=key
                )
            case 2:
                yield Recurrence("easter", start=near.replace(year=near.year - 1), time_zone=key)
            case _:
                yield Recurrence("monthly", start=far.replace(day=today.day), time_zone=key)
    instant = moment - 2 * DAY
    yield Recurrence("hourly", start=instant, time_zone=key)
    yield Recurrence("hourly", 5, start=instant, weekdays=weekdays, time_zone=key)
    yield Recurrence("minutely", 17, start=instant, weekdays=others, time_zone=key)
    yield Recurrence("secondly", 1801, start=instant, weekdays=weekdays, time_zone=key)


def cron_rules_around(moment: datetime, key: str) -> Iterator[Recurrence]:
    zone = ZoneInfo(key)
    before = (moment - timedelta(minutes=1)).astimezone(zone)
    after = moment.astimezone(zone)
    hours = f"{before.hour},{after.hour}"
    for text in (
        f"{after.minute},30 {hours},20 * * *",
        f"*/20 {hours} * * *",
        f"*/30 * {before.day} * *",
        f"15 */1 * * {after.isoweekday()}",
        f"0-59/7 {hours} {after.day} {after.month} *",
    ):
        yield Recurrence("cron", start=moment - 400 * DAY, cron=text, time_zone=key)


@pytest.mark.parametrize("part", range(PARTS))
def test_agrees_with_the_oracle_on_every_change_day(part: int) -> None:
    zones = sorted(available_timezones() if FULL else distinct_zones())
    for key in zones[part::PARTS]:
        for moment, _offset in changes(key):
            clocks = Clocks(ZoneInfo(key), moment)
            for rule in (*rules_around(moment, key), *cron_rules_around(moment, key)):
                check(rule, clocks)


def check(rule: Recurrence, clocks: Clocks) -> None:
    first, end = clocks.window
    expected = occurrences(rule, clocks)
    assert rule.between(first - TICK, end - TICK) == expected, rule
    assert rule.count(first - TICK, end - TICK) == len(expected), rule
    for place, instant in enumerate(expected[:30]):
        assert rule.count(first - TICK, instant - TICK) == place, rule
        assert rule.latest_until(instant) == instant, rule
        assert rule.latest_before(instant + TICK) == instant, rule
        assert rule.next_after(instant - TICK) == instant, rule


def test_zones_are_tried_once_only_when_their_clocks_agree() -> None:
    assert sum(len(keys) for keys in distinct_zones().values()) == len(available_timezones())
    assert len({changes(key) for key in distinct_zones()}) == len(distinct_zones())
