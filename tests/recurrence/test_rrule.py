"""The rule for other programs: where no clock changes, it names the same instants."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given

from linod.exceptions import InvalidRecurrence
from linod.recurrence import Recurrence
from tests.recurrence.strategies import UNITS, rules
from tests.recurrence.test_properties import slowly

START = datetime(2026, 11, 18, 14, tzinfo=UTC)
SPAN = timedelta(days=900)


@slowly
@given(rules(units=tuple(unit for unit in UNITS if unit not in ("cron", "easter"))))
def test_it_names_the_same_instants_in_utc(rule: Recurrence) -> None:
    try:
        rule = replace(
            rule, time_zone="UTC", start=rule.start.astimezone(UTC).replace(microsecond=0)
        )
    except InvalidRecurrence:
        return  # the other zone's clocks made another day of its start
    limit = 40
    exported = rule.build_rrule()
    assert exported is not None
    listed = rule.between(rule.start - timedelta(seconds=1), rule.start + SPAN, limit)
    naive = exported.xafter(rule.wall_start - timedelta(seconds=1), count=len(listed))
    assert [moment.replace(tzinfo=UTC) for moment in naive] == listed


@pytest.mark.parametrize("month", [2, 4, 5, 6])
def test_easter(month: int) -> None:
    rule = Recurrence("easter", start=START.replace(month=month, day=4))
    exported = rule.build_rrule()
    assert exported is not None
    listed = rule.between(START, START + 20 * SPAN)
    naive = exported.xafter(START.replace(tzinfo=None), count=len(listed))
    assert [moment.replace(tzinfo=UTC) for moment in naive] == listed


@pytest.mark.parametrize(
    ("rule", "number"),
    [
        (Recurrence("daily", start=START, end=START + timedelta(days=4)), 5),
        (Recurrence("daily", start=START, max_events=3), 3),
        (Recurrence("daily", start=START, max_events=3, end=START + timedelta(days=9)), 3),
        (Recurrence("daily", start=START, max_events=30, end=START + timedelta(days=9)), 10),
        (Recurrence("once", start=START), 1),
    ],
)
def test_it_ends_where_the_rule_ends(rule: Recurrence, number: int) -> None:
    exported = rule.build_rrule()
    assert exported is not None
    assert len(list(exported)) == number


@pytest.mark.parametrize(
    "rule", [Recurrence("never", start=START), Recurrence("cron", start=START, cron="0 9 * * *")]
)
def test_what_has_no_such_form(rule: Recurrence) -> None:
    assert rule.build_rrule() is None
