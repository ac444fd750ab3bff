"""Rules that cannot be answered: refused, with the field to mend."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from linod.exceptions import InvalidRecurrence
from linod.recurrence import Recurrence

START = datetime(2026, 11, 18, 14, tzinfo=UTC)  # a Wednesday
MONDAYS = frozenset({0})


@pytest.mark.parametrize(
    ("every_unit", "options", "field"),
    [
        ("dayly", {}, "every_unit"),
        ("", {}, "every_unit"),
        ("daily", {"every": 0}, "every"),
        ("daily", {"every": -3}, "every"),
        ("daily", {"every": 1.5}, "every"),
        ("daily", {"every": True}, "every"),
        ("never", {"every": 0}, "every"),
        ("hourly", {"every": 10**30}, "every"),
        ("daily", {"max_events": 0}, "max_events"),
        ("daily", {"max_events": -1}, "max_events"),
        ("daily", {"max_events": "3"}, "max_events"),
        ("daily", {"time_zone": "Europe/Brusels"}, "time_zone"),
        ("daily", {"time_zone": ""}, "time_zone"),
        ("daily", {"time_zone": None}, "time_zone"),
        ("cron", {"cron": None}, "cron"),
        (None, {}, "every_unit"),
        ("daily", {"time_zone": "../etc/passwd"}, "time_zone"),
        ("daily", {"time_zone": "Europe"}, "time_zone"),
        ("daily", {"start": START.replace(tzinfo=None)}, "start_date"),
        ("daily", {"start": datetime(1, 5, 1, tzinfo=UTC)}, "start_date"),
        ("daily", {"start": datetime(9999, 12, 31, tzinfo=UTC)}, "start_date"),
        ("daily", {"end": START.replace(tzinfo=None)}, "end_date"),
        ("daily", {"end": START - timedelta(seconds=1)}, "end_date"),
        ("never", {"end": START - timedelta(seconds=1)}, "end_date"),
        ("weekly", {"weekdays": MONDAYS, "end": START + timedelta(days=4)}, "end_date"),
        ("once", {"weekdays": MONDAYS}, "monday"),
        ("easter", {"weekdays": frozenset({2, 6})}, "wednesday"),
        ("cron", {"weekdays": frozenset({6}), "cron": "0 9 * * *"}, "sunday"),
        ("weekly", {"weekdays": frozenset({7})}, "monday"),
        ("weekly", {"weekdays": frozenset({-1})}, "monday"),
        ("daily", {"every": 7, "weekdays": frozenset({3})}, "thursday"),
        ("hourly", {"every": 168, "weekdays": frozenset({4})}, "friday"),
        ("secondly", {"every": 7 * 86400, "weekdays": frozenset({5})}, "saturday"),
        ("daily", {"positions": (1,)}, "positions"),
        ("weekly", {"positions": (1,)}, "positions"),
        ("hourly", {"positions": (1,)}, "positions"),
        ("easter", {"positions": (1,)}, "positions"),
        ("cron", {"positions": (1,), "cron": "0 9 * * *"}, "positions"),
        ("monthly", {"positions": (0,)}, "positions"),
        ("monthly", {"positions": (32,)}, "positions"),
        ("monthly", {"positions": (-32,)}, "positions"),
        ("monthly", {"positions": ("x",)}, "positions"),
        ("yearly", {"positions": (367,)}, "positions"),
        ("monthly", {"positions": (6,), "weekdays": MONDAYS}, "positions"),
        ("monthly", {"positions": (11,), "weekdays": frozenset({0, 1})}, "positions"),
        ("yearly", {"positions": (54, -54), "weekdays": MONDAYS}, "positions"),
        ("yearly", {"positions": (366,), "every": 2, "start": START.replace(2025)}, "positions"),
        ("daily", {"cron": "0 9 * * *"}, "cron"),
        ("cron", {}, "cron"),
        ("cron", {"cron": "   "}, "cron"),
        ("cron", {"cron": "0 9 * *"}, "cron"),
        ("cron", {"cron": "0 0 9 * * *"}, "cron"),
        ("cron", {"cron": "@daily"}, "cron"),
        ("cron", {"cron": "0 24 * * *"}, "cron"),
        ("cron", {"cron": "0 9 * * xyz"}, "cron"),
        ("cron", {"cron": "0 9 30 2 *"}, "cron"),
        ("cron", {"cron": "0 9 31 4,6,9,11 *"}, "cron"),
        ("cron", {"cron": "0 9 * * *", "every": 2}, "every"),
    ],
)
def test_refused(every_unit: str, options: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRecurrence) as caught:
        Recurrence(every_unit, **{"start": START, **options})
    assert caught.value.field == field
    assert caught.value.message
    assert "\n" not in str(caught.value)


def test_the_years_that_a_rule_may_begin_in_are_told() -> None:
    says = r"start_date: the start must lie from 0002-01-01 to 9999-11-30 \(in UTC\)$"
    day = timedelta(days=1)
    first, last = datetime(2, 1, 1, tzinfo=UTC), datetime(9999, 11, 30, tzinfo=UTC)
    for start in (first, last):
        Recurrence("daily", start=start)
    for start in (first - day, last + day):
        with pytest.raises(InvalidRecurrence, match=says):
            Recurrence("daily", start=start)


@pytest.mark.parametrize(
    ("options", "near"),
    [
        ({"every_unit": "dayly"}, "'daily'"),
        ({"every_unit": "daily", "time_zone": "Europe/Brusels"}, "'Europe/Brussels'"),
        ({"every_unit": "daily", "time_zone": "America/NewYork"}, "'America/New_York'"),
    ],
)
def test_a_typing_error_is_told_the_near_name(options: dict[str, Any], near: str) -> None:
    with pytest.raises(InvalidRecurrence, match=f"did you mean {near}"):
        Recurrence(start=START, **options)


def test_what_never_recurs_may_keep_what_it_will_need_again() -> None:
    rule = Recurrence("never", start=START, weekdays=MONDAYS, positions=(40,), cron="0 9 * * *")
    assert rule.next_after(START) is None
    assert rule.count(START - timedelta(days=1), START + timedelta(days=1)) == 0


def test_a_rule_whose_end_has_passed_is_still_a_rule() -> None:
    rule = Recurrence("daily", start=START, end=START)
    assert rule.next_after(START - timedelta(days=1)) == START
    assert rule.next_after(START) is None


def test_a_moment_without_a_zone_is_refused() -> None:
    rule = Recurrence("daily", start=START)
    with pytest.raises(ValueError, match="give an aware datetime"):
        rule.next_after(START.replace(tzinfo=None))


def test_a_list_too_long_is_refused_before_it_is_made() -> None:
    rule = Recurrence("secondly", start=START)
    with pytest.raises(ValueError, match="31536000 occurrences are too many for a list"):
        rule.between(START, START + timedelta(days=365))
    assert len(rule.between(START, START + timedelta(days=365), limit=5)) == 5
