"""Rules in words."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from linod.recurrence import Recurrence

START = datetime(2026, 11, 24, 9, tzinfo=UTC)  # a Tuesday
MONDAY, THURSDAY = 0, 3
WORKING_DAYS = frozenset(range(5))
EASTER = datetime(2026, 4, 5, 9, tzinfo=UTC)


@pytest.mark.parametrize(
    ("every_unit", "options", "text"),
    [
        ("never", {}, "never"),
        ("once", {}, "once on 2026-11-24 at 09:00"),
        ("secondly", {"every": 10}, "every 10 seconds"),
        ("secondly", {}, "every second"),
        ("minutely", {"every": 5, "weekdays": {6}}, "every 5 minutes on Sunday"),
        ("hourly", {"weekdays": WORKING_DAYS}, "every hour on working days"),
        ("hourly", {"weekdays": range(7)}, "every hour"),
        ("daily", {}, "every day at 09:00"),
        ("daily", {"every": 3}, "every 3 days at 09:00"),
        ("daily", {"weekdays": WORKING_DAYS}, "every working day at 09:00"),
        ("daily", {"weekdays": range(7)}, "every day at 09:00"),
        (
            "daily",
            {"every": 3, "weekdays": {MONDAY, THURSDAY}},
            "every 3 days at 09:00, only on Monday and Thursday",
        ),
        ("daily", {"every": 3, "weekdays": range(7)}, "every 3 days at 09:00"),
        ("daily", {"start": START.replace(second=7)}, "every day at 09:00:07"),
        ("daily", {"time_zone": "Europe/Brussels"}, "every day at 10:00"),
        ("weekly", {}, "every Tuesday at 09:00"),
        ("weekly", {"every": 2}, "every 2 weeks on Tuesday at 09:00"),
        ("weekly", {"weekdays": {MONDAY, THURSDAY}}, "every Monday and Thursday at 09:00"),
        ("weekly", {"weekdays": {0, 2, 4}}, "every Monday, Wednesday and Friday at 09:00"),
        ("weekly", {"every": 2, "weekdays": range(7)}, "every 2 weeks on every day at 09:00"),
        (
            "weekly",
            {"every": 2, "weekdays": WORKING_DAYS},
            "every 2 weeks on working days at 09:00",
        ),
        ("monthly", {}, "every month on day 24 at 09:00"),
        (
            "monthly",
            {"start": START.replace(month=12, day=31)},
            "every month on day 31 or the last at 09:00",
        ),
        ("monthly", {"every": 3}, "every 3 months on day 24 at 09:00"),
        (
            "monthly",
            {"weekdays": {MONDAY}, "positions": (1,)},
            "every first Monday of the month at 09:00",
        ),
        (
            "monthly",
            {"weekdays": {MONDAY}, "positions": (1, 3)},
            "every first and third Monday of the month at 09:00",
        ),
        (
            "monthly",
            {"weekdays": {MONDAY, THURSDAY}, "positions": (2,)},
            "every second Monday or Thursday of the month at 09:00",
        ),
        (
            "monthly",
            {"weekdays": WORKING_DAYS, "positions": (-1,)},
            "every last working day of the month at 09:00",
        ),
        (
            "monthly",
            {"every": 2, "weekdays": {MONDAY}, "positions": (1,)},
            "every 2 months on the first Monday at 09:00",
        ),
        ("monthly", {"positions": (-2,)}, "every second last day of the month at 09:00"),
        ("monthly", {"weekdays": {MONDAY}}, "every Monday of the month at 09:00"),
        ("monthly", {"every": 2, "weekdays": {MONDAY}}, "every 2 months on every Monday at 09:00"),
        ("yearly", {}, "every year on 24 November at 09:00"),
        ("yearly", {"every": 4}, "every 4 years on 24 November at 09:00"),
        (
            "yearly",
            {"weekdays": {MONDAY}, "positions": (21,)},
            "every 21st Monday of the year at 09:00",
        ),
        ("easter", {"start": EASTER}, "on Easter Sunday every year at 09:00"),
        ("easter", {"start": EASTER.replace(day=6)}, "1 day after Easter every year at 09:00"),
        ("easter", {"start": EASTER.replace(day=3)}, "2 days before Easter every year at 09:00"),
        (
            "easter",
            {"start": EASTER.replace(month=5, day=14), "every": 2},
            "39 days after Easter every 2 years at 09:00",
        ),
        ("cron", {"cron": "0 9 * * 1-5"}, "cron 0 9 * * 1-5"),
        ("secondly", {"every": 10, "max_events": 3}, "every 10 seconds, 3 times"),
        ("daily", {"max_events": 1}, "every day at 09:00, once only"),
        (
            "daily",
            {"end": datetime(2026, 12, 31, 12, 30, tzinfo=UTC)},
            "every day at 09:00, until 2026-12-31 12:30",
        ),
    ],
)
def test_described(every_unit: str, options: dict[str, Any], text: str) -> None:
    assert Recurrence(every_unit, **{"start": START, **options}).describe() == text
