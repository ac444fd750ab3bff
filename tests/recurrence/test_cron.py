"""Cron expressions: what cronsim says, wherever its answer does not depend on where it starts."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim

from linod import cronrule
from linod.exceptions import MissingExtra
from linod.recurrence import Recurrence
from tests.recurrence.zones import changes, distinct_zones

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
TICK = timedelta(microseconds=1)
BY_CLOCK = ("30 2 * * *", "0,30 1-3 * * *", "15 23 * * 0-6", "0 0 * * *", "5,59 0-4 * * *")
BY_ELAPSED_TIME = ("* * * * *", "*/7 * * * *", "0 */2 * * *", "45 * * * *", "*/20 1-3 * * *")


def by_cronsim(text: str, after: datetime, until: datetime, zone: ZoneInfo) -> list[datetime]:
    """cronsim's own answers, each instant once."""
    found: list[datetime] = []
    for local in CronSim(text, after.astimezone(zone)):
        instant = local.astimezone(UTC)
        if instant > until:
            return found
        if instant > (found[-1] if found else after):
            found.append(instant)
    raise AssertionError(f"{text} ended")


@pytest.mark.parametrize("text", BY_CLOCK)
def test_rules_by_the_clock_are_cronsims_in_every_zone(text: str) -> None:
    for key in distinct_zones():
        for moment, _offset in changes(key)[:7]:
            after, until = moment - 2 * DAY, moment + 2 * DAY
            rule = Recurrence("cron", start=after, cron=text, time_zone=key)
            assert rule.between(after, until) == by_cronsim(text, after, until, rule.zone), key


@pytest.mark.parametrize("text", BY_ELAPSED_TIME)
def test_rules_by_elapsed_time_are_cronsims_where_clocks_change_by_hours(text: str) -> None:
    tried = 0
    for key in distinct_zones():
        for moment, _offset in changes(key)[1:4]:
            before, after = (m.astimezone(ZoneInfo(key)) for m in (moment - TICK, moment))
            change = (after.utcoffset() or 0 * DAY) - (before.utcoffset() or 0 * DAY)
            if change % HOUR or before.minute != 59:
                continue  # cronsim steps by whole hours and misses minutes there
            tried += 1
            begin, until = moment - 9 * HOUR, moment + 9 * HOUR
            rule = Recurrence("cron", start=begin, cron=text, time_zone=key)
            assert rule.between(begin, until) == by_cronsim(text, begin, until, rule.zone), key
    assert tried > 60


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("0 9 * * 1-5", "2026-11-19 09:00"),
        ("0 9 * * MON", "2026-11-23 09:00"),
        ("0 9 * * 0", "2026-11-22 09:00"),
        ("0 9 * * 7", "2026-11-22 09:00"),
        ("0 9 L * *", "2026-11-30 09:00"),
        ("0 9 LW * *", "2026-11-30 09:00"),
        ("0 9 * * 5L", "2026-11-27 09:00"),
        ("0 9 * * TUE#2", "2026-12-08 09:00"),
        ("0 9 13 * FRI", "2026-11-20 09:00"),
        ("0 9 13 * */5", "2026-12-13 09:00"),
        ("0 0 29 2 *", "2028-02-29 00:00"),
        ("0 0 * 2 MON#5", "2044-02-29 00:00"),
        ("59 23 31 DEC *", "2026-12-31 23:59"),
    ],
)
def test_what_cronsim_reads(text: str, first: str) -> None:
    start = datetime(2026, 11, 18, 14, tzinfo=UTC)
    rule = Recurrence("cron", start=start, cron=text)
    expected = datetime.fromisoformat(first).replace(tzinfo=UTC)
    assert rule.next_after(start) == expected == next(CronSim(text, start))
    assert rule.latest_until(expected + HOUR) is not None


def test_two_times_in_one_gap_happen_together_once() -> None:
    start = datetime(2026, 3, 28, 12, tzinfo=UTC)
    rule = Recurrence("cron", start=start, cron="0,30 2,3 * * *", time_zone="Europe/Brussels")
    change = datetime(2026, 3, 29, 1, tzinfo=UTC)
    assert rule.between(start, start + DAY) == [change, change + HOUR / 2]
    assert rule.count(start, start + DAY) == 2


def test_a_time_shifted_into_the_next_day_meets_what_is_there() -> None:
    start = datetime(2026, 3, 28, 12, tzinfo=UTC)
    rule = Recurrence("cron", start=start, cron="0,30 0,23 * * *", time_zone="America/Nuuk")
    change = datetime(2026, 3, 29, 1, tzinfo=UTC)  # from 23:00 to 0:00
    first = [change, change + HOUR / 2, change + 23 * HOUR]
    assert rule.between(start, change + 23 * HOUR) == first
    assert rule.count(start, change + 23 * HOUR) == 3
    limited = Recurrence(
        "cron", start=start, cron="0,30 0,23 * * *", time_zone="America/Nuuk", max_events=3
    )
    assert limited.between(start, start + 9 * DAY) == first


def test_the_number_of_events_is_counted_from_the_start() -> None:
    start = datetime(1970, 1, 1, tzinfo=UTC)
    rule = Recurrence("cron", start=start, cron="0 9 * * 1-5", max_events=15_000)
    listed = rule.between(start, datetime(2040, 1, 1, tzinfo=UTC))
    assert len(listed) == 15_000
    assert rule.count(start, datetime(2040, 1, 1, tzinfo=UTC)) == 15_000
    assert rule.next_after(listed[-1]) is None
    assert rule.next_after(listed[-2]) == listed[-1]


def test_without_cronsim_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cronsim", None)
    cronrule.parse.cache_clear()
    start = datetime(2026, 11, 18, 14, tzinfo=UTC)
    with pytest.raises(MissingExtra, match=r'pip install "linod\[cron\]"'):
        Recurrence("cron", start=start, cron="0 9 * * *")
    assert Recurrence("daily", start=start).next_after(start) == start + DAY
