"""One answer takes less than a millisecond at p99, for every kind of rule, from any start.

Each moment is tried a few times and the shortest time counts: the machine may be busy. What a new
rule counts at first is compared with a short walk on the same machine, by the processor's time.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from time import perf_counter, thread_time
from typing import Any

import pytest

from linod.recurrence import Recurrence

TICK = timedelta(microseconds=1)
OLD = datetime(1970, 1, 31, 9, 30, tzinfo=UTC)
MOMENTS, TRIES = 400, 5
LIMIT = 0.001
COMMON_LIMIT = 0.00005

#: What a new rule counts until it has answered may take as long as so many steps from one day to
#: the next; a walk to its last instant has thousands of times as many.
NEW_LIMIT = 400

RULES: dict[str, dict[str, Any]] = {
    "once": {},
    "secondly": {"every": 10},
    "secondly, limited": {"every": 10, "max_events": 10**8},
    "secondly, on Sundays": {"every": 10, "weekdays": {6}},
    "secondly, on Sundays, limited": {"every": 10, "weekdays": {6}, "max_events": 26_000_000},
    "minutely": {"every": 7},
    "hourly, on Mondays": {"every": 29, "weekdays": {0}},
    "daily": {},
    "daily, limited": {"max_events": 20_500},
    "daily, on Mondays": {"every": 3, "weekdays": {0}},
    "weekly": {"every": 2, "weekdays": {0, 3}},
    "monthly": {},
    "monthly, by position": {"weekdays": range(5), "positions": (-1,)},
    "monthly, by position, limited": {"weekdays": {0}, "positions": (5,), "max_events": 250},
    "yearly": {},
    "yearly, on working days": {"weekdays": range(5)},
    "yearly, leap years": {"every": 2, "positions": (366,)},
    "easter": {},
    "cron, on working days": {"cron": "0 9 * * 1-5"},
    "cron, each minute": {"cron": "* * * * *"},
    "cron, each 28 years": {"cron": "0 0 * 2 MON#5"},
    "cron, limited": {"cron": "0 9 * * 1-5", "max_events": 15_000},
}


def make(name: str, rules: dict[str, dict[str, Any]] = RULES) -> Recurrence:
    every_unit = name.partition(",")[0]
    return Recurrence(every_unit, start=OLD, time_zone="Europe/Brussels", **rules[name])


def shortest(call: Callable[[], object], clock: Callable[[], float] = perf_counter) -> float:
    """Seconds of the quickest of a few calls."""
    seconds = []
    for _try in range(TRIES):
        before = clock()
        call()
        seconds.append(clock() - before)
    return min(seconds)


def new_limit() -> float:
    """Seconds that a new rule may take here and now."""
    rule = make("daily")

    def walk() -> None:
        moment = OLD
        for _step in range(NEW_LIMIT):
            moment = rule.next_after(moment) or OLD

    return shortest(walk, thread_time)


def p99(
    rule: Recurrence,
    ask: Callable[[datetime], object],
    number: int = MOMENTS,
    clock: Callable[[], float] = perf_counter,
) -> float:
    dice = random.Random(rule.every_unit)
    begin = datetime(2025, 1, 1, tzinfo=UTC)
    moments = [begin + timedelta(seconds=dice.uniform(0, 13 * 365 * 86400)) for _ in range(number)]
    seconds = sorted(shortest(lambda moment=moment: ask(moment), clock) for moment in moments)
    return seconds[int(0.99 * number)]


@pytest.mark.parametrize("name", RULES)
def test_one_answer_takes_less_than_a_millisecond(name: str) -> None:
    rule = make(name)
    assert p99(rule, rule.next_after) < LIMIT
    assert p99(rule, rule.latest_until) < LIMIT


def test_the_common_case_takes_microseconds() -> None:
    """The claim asks it a thousand times a second."""
    rule = make("secondly")
    assert p99(rule, rule.next_after) < COMMON_LIMIT


def test_counting_a_month_of_seconds_is_no_walk() -> None:
    rule = make("secondly")
    month = timedelta(days=30)
    assert rule.count(OLD, OLD + month) == 259_200
    assert shortest(lambda: rule.count(OLD + 9 * month, OLD + 10 * month)) < COMMON_LIMIT


@pytest.mark.parametrize(
    "name", ["secondly, on Sundays", "daily", "weekly", "monthly", "easter", "cron, each minute"]
)
def test_counting_half_a_century_is_quick(name: str) -> None:
    rule = make(name)
    until = datetime(2026, 1, 1, tzinfo=UTC)
    assert rule.count(OLD, until) > 50
    assert shortest(lambda: rule.count(OLD, until), thread_time) < new_limit()


def test_making_a_rule_is_cheap() -> None:
    assert shortest(lambda: make("monthly, by position")) < LIMIT


#: Rules whose last instant is far away, so that a new one has much to count before it answers.
FAR: dict[str, dict[str, Any]] = {
    "secondly, on Sundays": {"every": 10, "weekdays": {6}, "max_events": 26_000_000},
    "minutely, on working days": {"every": 15, "weekdays": range(5), "max_events": 10**6},
    "hourly, on three days": {"every": 7, "weekdays": {0, 2, 5}, "max_events": 20_000},
    "cron, at noon": {"cron": "0 12 * * *", "max_events": 20_000},
    "cron, each minute": {"cron": "* * * * *", "max_events": 3 * 10**7},
    "cron, on working days": {"cron": "*/5 0-6 * * 1-5", "max_events": 10**6},
}


#: Rules that end only centuries later. What is alike is counted once, so this is not much farther.
CENTURIES: dict[str, dict[str, Any]] = {
    "hourly, on three days": {"every": 7, "weekdays": {0, 2, 5}, "max_events": 2_900_000},
    "monthly, by position": {"weekdays": {0}, "positions": (5,), "max_events": 3_000},
    "yearly, on Mondays": {"weekdays": {0}, "max_events": 30_000},
    "cron, at noon": {"cron": "0 12 * * *", "max_events": 2_600_000},
    "cron, each minute": {"cron": "* * * * 1-5", "max_events": 2 * 10**9},
}


@pytest.mark.parametrize("name", FAR)
def test_a_new_rule_answers_at_once(name: str) -> None:
    def fresh() -> Recurrence:
        return make(name, FAR)

    until = datetime(2038, 1, 1, tzinfo=UTC)
    rule = fresh()
    last = rule.latest_until(until)
    assert last is not None
    assert rule.count(OLD - TICK, last) == rule.max_events
    assert rule.next_after(last) is None
    asked: tuple[Callable[[datetime], object], ...] = (
        lambda moment: fresh().next_after(moment),
        lambda moment: fresh().latest_until(moment),
        lambda moment: fresh().count(OLD, moment),
    )
    for ask in asked:
        assert p99(rule, ask, 40, thread_time) < new_limit()


@pytest.mark.parametrize("name", CENTURIES)
def test_a_new_rule_of_centuries_answers_at_once(name: str) -> None:
    late = datetime(9999, 1, 1, tzinfo=UTC)
    last = make(name, CENTURIES).latest_until(late)
    assert last is not None
    assert 2500 < last.year < late.year
    limit = new_limit()
    assert shortest(lambda: make(name, CENTURIES).latest_until(late), thread_time) < limit
