"""What the original answered wrongly, and the right answers.

Its last run ended on Wednesday 18 November 2026 at 14:00 where nothing else is said. A task that
is due keeps its grid here, so that its start stands where the original looked at its last end.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from linod.exceptions import InvalidRecurrence
from linod.recurrence import Recurrence

LAST = datetime(2026, 11, 18, 14, tzinfo=UTC)
MONDAY, TUESDAY, THURSDAY, SUNDAY = 0, 1, 3, 6


def days(rule: Recurrence, after: datetime, number: int) -> list[date]:
    found = []
    moment: datetime | None = after
    for _each in range(number):
        assert moment is not None
        moment = rule.next_after(moment)
        assert moment is not None
        found.append(moment.date())
    return found


def test_weekly_on_tuesday_only_was_13_days_late() -> None:
    rule = Recurrence("weekly", start=LAST, weekdays=frozenset({TUESDAY}))
    assert rule.next_after(LAST) == datetime(2026, 11, 24, 14, tzinfo=UTC)


def test_weekly_on_monday_and_thursday_skipped_thursday() -> None:
    rule = Recurrence("weekly", start=LAST, weekdays=frozenset({MONDAY, THURSDAY}))
    monday = datetime(2026, 11, 23, 14, tzinfo=UTC)
    assert days(rule, monday, 2) == [date(2026, 11, 26), date(2026, 11, 30)]


def test_every_10_seconds_on_sunday_began_in_the_afternoon() -> None:
    rule = Recurrence("secondly", 10, start=LAST, weekdays=frozenset({SUNDAY}))
    assert rule.next_after(LAST) == datetime(2026, 11, 22, tzinfo=UTC)


def test_a_weekday_rule_ran_at_once_on_a_forbidden_day() -> None:
    rule = Recurrence("minutely", 5, start=LAST, weekdays=frozenset({SUNDAY}))
    assert rule.latest_until(LAST) is None


def test_monthly_on_the_31st_lost_its_day_for_good() -> None:
    january = datetime(2027, 1, 31, 20, tzinfo=UTC)
    rule = Recurrence("monthly", start=january)
    assert days(rule, january, 3) == [date(2027, 2, 28), date(2027, 3, 31), date(2027, 4, 30)]


def test_yearly_on_29_february_comes_back_to_it() -> None:
    leap_day = datetime(2028, 2, 29, 20, tzinfo=UTC)
    found = days(Recurrence("yearly", start=leap_day), leap_day, 4)
    assert found == [date(2029, 2, 28), date(2030, 2, 28), date(2031, 2, 28), date(2032, 2, 29)]


def test_positions_stopped_the_daemon() -> None:
    rule = Recurrence("monthly", start=LAST, weekdays=frozenset({MONDAY}), positions=(1,))
    assert rule.next_after(LAST) == datetime(2026, 12, 7, 14, tzinfo=UTC)


def test_easter_stopped_the_daemon() -> None:
    good_friday = datetime(2026, 4, 3, 9, tzinfo=UTC)
    rule = Recurrence("easter", start=good_friday)
    assert days(rule, good_friday, 2) == [date(2027, 3, 26), date(2028, 4, 14)]


@pytest.mark.parametrize("every", [0, -1])
def test_every_zero_was_a_busy_loop_and_less_lay_in_the_past(every: int) -> None:
    with pytest.raises(InvalidRecurrence) as caught:
        Recurrence("secondly", every, start=LAST)
    assert caught.value.field == "every"


@pytest.mark.parametrize("every_unit", ["once", "never"])
def test_once_and_never_ran_when_they_had_not(every_unit: str) -> None:
    rule = Recurrence(every_unit, start=LAST)
    assert rule.next_after(LAST) is None
    assert rule.latest_until(LAST) == (LAST if every_unit == "once" else None)


def test_per_weekday_reads_as_weekly() -> None:
    rule = Recurrence("per_weekday", start=LAST, weekdays=frozenset({TUESDAY}))
    assert rule == Recurrence("weekly", start=LAST, weekdays=frozenset({TUESDAY}))
    assert rule.every_unit == "weekly"


def test_a_daily_task_drifted_by_its_own_duration() -> None:
    rule = Recurrence("daily", start=LAST)
    ended = LAST + timedelta(minutes=10)
    assert rule.next_after(ended) == LAST + timedelta(days=1)


def test_a_time_of_day_could_not_be_set() -> None:
    rule = Recurrence("daily", start=LAST.replace(hour=3))
    assert rule.next_after(LAST) == datetime(2026, 11, 19, 3, tzinfo=UTC)


def test_the_start_date_was_ignored() -> None:
    later = datetime(2030, 1, 1, 20, tzinfo=UTC)
    assert Recurrence("daily", start=later).next_after(LAST) == later


def test_the_end_was_ignored() -> None:
    end = LAST + timedelta(days=2)
    rule = Recurrence("daily", start=LAST, end=end)
    assert rule.next_after(LAST + timedelta(days=1)) == end
    assert rule.next_after(end) is None


@pytest.mark.parametrize("number", [1, 2, 3])
def test_the_number_of_events_was_ignored(number: int) -> None:
    rule = Recurrence("secondly", 10, start=LAST, max_events=number)
    assert rule.count(LAST - timedelta(seconds=1), LAST + timedelta(days=1)) == number


def test_an_autumn_change_stopped_everything_for_an_hour() -> None:
    brussels = ZoneInfo("Europe/Brussels")
    change = datetime(2026, 10, 25, 1, tzinfo=UTC)
    rule = Recurrence(
        "secondly", start=datetime(2026, 10, 1, tzinfo=brussels), time_zone="Europe/Brussels"
    )
    second = timedelta(seconds=1)
    assert rule.next_after(change - second) == change
    assert rule.next_after(change) == change + second
    assert rule.count(change - 3600 * second, change + 3600 * second) == 7200


@pytest.mark.parametrize(
    ("every_unit", "every", "text"),
    [
        ("secondly", 10, "every 10 seconds"),
        ("minutely", 1, "every minute"),
        ("hourly", 2, "every 2 hours"),
    ],
)
def test_units_below_a_day_had_no_words(every_unit: str, every: int, text: str) -> None:
    assert Recurrence(every_unit, every, start=LAST).describe() == text
