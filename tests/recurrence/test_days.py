"""Which days a rule of a day or longer names: against the oracle, which looks at each day."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from dateutil.easter import easter
from hypothesis import given

from linod.exceptions import InvalidRecurrence
from linod.recurrence import Recurrence
from tests.recurrence.oracle import names_day, western_easter
from tests.recurrence.strategies import rules
from tests.recurrence.test_properties import slowly

DAY, TICK = timedelta(days=1), timedelta(microseconds=1)
DAYS = 1200


@slowly
@given(rules(units=("daily", "weekly", "monthly", "yearly", "easter")))
def test_days_agree_with_the_oracle(rule: Recurrence) -> None:
    try:
        rule = replace(rule, time_zone="UTC", start=rule.start.astimezone(UTC))
    except InvalidRecurrence:
        return  # the other zone's clocks made another day of its start
    first = rule.start.date()
    moments = [rule.start + n * DAY for n in range(DAYS)]
    early = [m for m in moments if names_day(rule, first, m.date())]
    expected = [m for m in early[: rule.max_events] if rule.end is None or m <= rule.end]
    assert rule.between(rule.start - TICK, moments[-1]) == expected


@pytest.mark.parametrize(
    ("every_unit", "every", "positions", "weekdays", "years"),
    [
        ("monthly", 1, (31,), (), 3),
        ("monthly", 12, (29, -29), (), 9),
        ("monthly", 1, (5,), (0,), 3),
        ("monthly", 2, (-5,), (2, 6), 3),
        ("yearly", 1, (366,), (), 12),
        ("yearly", 1, (-366, 53), (0,), 30),
        ("yearly", 3, (60, -306), (), 20),
    ],
)
def test_positions_that_not_every_month_or_year_has(
    every_unit: str, every: int, positions: tuple[int, ...], weekdays: tuple[int, ...], years: int
) -> None:
    start = datetime(2025, 1, 15, 20, tzinfo=UTC)
    rule = Recurrence(
        every_unit, every, start=start, positions=positions, weekdays=frozenset(weekdays)
    )
    moments = [start + n * DAY for n in range(366 * years)]
    expected = [m for m in moments if names_day(rule, start.date(), m.date())]
    assert expected
    assert rule.between(start - TICK, moments[-1]) == expected


def test_easter_is_the_same_by_two_ways_of_computing_it() -> None:
    for year in range(1900, 2200):
        assert western_easter(year) == easter(year)
