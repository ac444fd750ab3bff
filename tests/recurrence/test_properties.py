"""What holds for every rule and every moment."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from linod.recurrence import Recurrence
from tests.recurrence.strategies import moments, nearby, rules

TICK = timedelta(microseconds=1)
FEW = 60

slowly = settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow],
)


def near(rule: Recurrence, moment: datetime) -> datetime:
    """The moment, or one of the rule's own when it has one after it: where things happen."""
    return rule.next_after(moment) or rule.latest_until(moment) or moment


def bounded(rule: Recurrence, moment: datetime) -> datetime:
    """A later moment with few enough occurrences until then to list them."""
    until = moment
    for _step in range(FEW):
        following = rule.next_after(until)
        if following is None:
            return until + timedelta(days=3)
        until = following
    return until


@slowly
@given(rules(), moments())
def test_the_next_one_is_later_and_in_utc(rule: Recurrence, moment: datetime) -> None:
    following = rule.next_after(moment)
    if following is not None:
        assert following > moment
        assert following >= rule.start
        assert following.tzinfo is UTC
        assert rule.end is None or following <= rule.end


@slowly
@given(rules(), moments(), st.integers(0, FEW), nearby)
def test_a_span_is_the_sum_of_its_parts(
    rule: Recurrence, moment: datetime, cut: int, nudge: timedelta
) -> None:
    first = near(rule, moment) - TICK
    until = bounded(rule, first)
    whole = rule.between(first, until)
    cuts = {whole[min(cut, len(whole) - 1)] if whole else first, first + abs(nudge)}
    for middle in cuts:
        if first <= middle <= until:
            assert whole == rule.between(first, middle) + rule.between(middle, until)
            assert len(whole) == rule.count(first, middle) + rule.count(middle, until)


@slowly
@given(rules(), moments(), nearby)
def test_looking_back_agrees_with_looking_ahead(
    rule: Recurrence, moment: datetime, nudge: timedelta
) -> None:
    first = near(rule, moment) - TICK
    listed = rule.between(first, bounded(rule, first))
    assert listed == sorted(set(listed))
    assert rule.count(first, bounded(rule, first)) == len(listed)
    for earlier, later in pairwise(listed):
        assert rule.latest_before(later) == earlier
        assert rule.latest_until(later) == later
        assert rule.latest_until(later - TICK) == earlier
        assert rule.next_after(later - TICK) == later
    ever = rule.latest_until(moment + nudge)
    assert ever == rule.latest_before(moment + nudge + TICK)
    if ever is not None:
        assert rule.start <= ever <= moment + nudge
        following = rule.next_after(ever)
        assert following is None or following > moment + nudge


@slowly
@given(rules(), moments())
def test_the_answer_does_not_depend_on_the_way_to_it(rule: Recurrence, moment: datetime) -> None:
    following = rule.next_after(moment)
    if following is None:
        assert rule.count(moment, datetime.max.replace(tzinfo=UTC)) == 0
        return
    for step in (TICK, timedelta(minutes=1), timedelta(hours=7), timedelta(days=9)):
        on_the_way = max(following - step, moment)
        assert rule.next_after(on_the_way) == following
    assert rule.count(moment, following) == 1


@slowly
@given(rules())
def test_the_number_of_events_is_the_number_of_events(rule: Recurrence) -> None:
    before, forever = rule.start - TICK, datetime.max.replace(tzinfo=UTC)
    if rule.max_events is not None and rule.max_events <= FEW:
        listed = rule.between(before, forever)
        assert len(listed) == rule.count(before, forever) <= rule.max_events
        assert rule.next_after(listed[-1]) is None
        assert rule.latest_until(forever) == listed[-1]


@slowly
@given(rules(), st.integers(1, 40))
def test_a_limit_takes_the_first_ones(rule: Recurrence, limit: int) -> None:
    before = rule.start - TICK
    until = bounded(rule, before)
    assert rule.between(before, until, limit) == rule.between(before, until)[:limit]


@slowly
@given(rules())
def test_describing_never_fails(rule: Recurrence) -> None:
    assert rule.describe().strip() == rule.describe() != ""
