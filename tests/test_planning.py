"""Missed runs: the decision about a due task, against a slow oracle that lists every instant."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linod import planning
from linod.planning import BY_POLICY, PUNCTUAL, TOO_MANY, TOO_OLD, Plan, plan
from linod.recurrence import Recurrence

START = datetime(2026, 3, 28, 12, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def every(seconds: int, **options: int) -> Recurrence:
    return Recurrence("secondly", seconds, start=START, **options)  # type: ignore[arg-type]


def oracle(
    rule: Recurrence, waiting_since: datetime, now: datetime, policy: str, within: int | None
) -> Plan:
    """The words of the design, one after another, over a plain list of instants."""
    passed = [waiting_since, *rule.between(waiting_since, now)]
    after_now = rule.next_after(max(now, waiting_since))
    newest_is_punctual = now - passed[-1] <= PUNCTUAL
    limit = None if within is None else max(PUNCTUAL, timedelta(seconds=within))
    wanted = [each for each in passed if limit is None or now - each <= limit]
    too_old = len(passed) - len(wanted)
    if policy == "skip":
        by_policy = (BY_POLICY,) if len(passed) > 1 else ()
        if newest_is_punctual and wanted:
            return Plan(passed[-1], after_now, skipped=len(passed) - 1, why=by_policy)
        return Plan(None, after_now, skipped=len(passed), why=(BY_POLICY,))
    if not wanted:
        return Plan(None, after_now, skipped=len(passed), why=(TOO_OLD,))
    if policy == "once":
        return Plan(passed[-1], after_now, missed=len(passed) - 1)
    surplus = max(len(wanted) - planning.KEPT, 0)
    kept = wanted[surplus:]
    why = (TOO_OLD,) * (too_old > 0) + (TOO_MANY,) * (surplus > 0)
    return Plan(kept[0], rule.next_after(kept[0]), skipped=too_old + surplus, why=why)


@settings(max_examples=400, deadline=None)
@given(
    every_seconds=st.integers(1, 200),
    first=st.integers(0, 50),
    late=st.integers(0, 4000),
    policy=st.sampled_from(["once", "skip", "all"]),
    within=st.none() | st.integers(0, 4000),
    events=st.none() | st.integers(1, 200),
    kept=st.integers(1, 40),
)
def test_every_decision_agrees_with_the_oracle(
    every_seconds: int,
    first: int,
    late: int,
    policy: str,
    within: int | None,
    events: int | None,
    kept: int,
) -> None:
    rule = every(every_seconds) if events is None else every(every_seconds, max_events=events)
    waiting_since = rule.next_after(at(min(first, (events or 51) - 1) * every_seconds - 1))
    assert waiting_since is not None
    now = waiting_since + timedelta(seconds=late)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planning, "KEPT", kept)
        assert plan(rule, waiting_since, now, policy, within) == oracle(
            rule, waiting_since, now, policy, within
        )


@settings(max_examples=60, deadline=None)
@given(
    every_seconds=st.integers(1, 90),
    late=st.integers(0, 2000),
    within=st.none() | st.integers(0, 2000),
)
def test_all_makes_up_each_wanted_instant_once_and_oldest_first(
    every_seconds: int, late: int, within: int | None
) -> None:
    rule, now = every(every_seconds), at(late)
    waiting: datetime | None = START
    ran, skipped = [], 0
    while waiting is not None and waiting <= now:
        step = plan(rule, waiting, now, "all", within)
        ran += [step.due_at] if step.due_at is not None else []
        skipped += step.skipped
        waiting = step.next_run_at
    assert ran == sorted(set(ran))
    assert len(ran) + skipped == 1 + rule.count(START, now)
    assert waiting == rule.next_after(now)


@pytest.mark.parametrize("policy", ["once", "skip", "all"])
def test_a_punctual_instant_simply_runs(policy: str) -> None:
    assert plan(every(300), START, at(60), policy, None) == Plan(START, at(300))
    assert plan(every(300), START, at(60), policy, 0) == Plan(START, at(300))


def test_over_sixty_seconds_late_is_missed_even_when_no_other_came() -> None:
    rule = every(300)
    assert plan(rule, START, at(61), "once", None) == Plan(START, at(300))
    assert plan(rule, START, at(61), "skip", None) == Plan(
        None, at(300), skipped=1, why=(BY_POLICY,)
    )
    assert plan(rule, START, at(61), "all", None) == Plan(START, at(300))
    assert plan(rule, START, at(61), "once", 60) == Plan(None, at(300), skipped=1, why=(TOO_OLD,))


def test_a_later_instant_has_come_too() -> None:
    rule = every(10)
    assert plan(rule, START, at(35), "once", None) == Plan(at(30), at(40), missed=3)
    assert plan(rule, START, at(35), "skip", None) == Plan(
        at(30), at(40), skipped=3, why=(BY_POLICY,)
    )
    assert plan(rule, START, at(35), "all", None) == Plan(START, at(10))


def test_a_week_down_runs_a_daily_task_once() -> None:
    rule = Recurrence("daily", start=START)
    now = START + timedelta(days=7, hours=12)
    expected = Plan(START + timedelta(days=7), START + timedelta(days=8), missed=7)
    assert plan(rule, START, now, "once", None) == expected
    assert plan(rule, START, now, "once", 3600) == Plan(
        None, START + timedelta(days=8), skipped=8, why=(TOO_OLD,)
    )


def test_all_keeps_a_thousand() -> None:
    decided = plan(every(1), START, at(10_000), "all", None)
    assert decided == Plan(at(9001), at(9002), skipped=9001, why=(TOO_MANY,))
    decided = plan(every(1), START, at(10_000), "all", 3600)
    assert decided == Plan(at(9001), at(9002), skipped=9001, why=(TOO_OLD, TOO_MANY))


def test_nothing_comes_after_the_last() -> None:
    rule = every(10, max_events=3)
    for policy, due in (("once", at(20)), ("all", START)):
        assert plan(rule, START, at(1000), policy, None).due_at == due
    assert plan(rule, at(20), at(20), "once", None) == Plan(at(20), None)
    assert plan(rule, START, at(1000), "skip", None) == Plan(
        None, None, skipped=3, why=(BY_POLICY,)
    )
