"""What ``--list``, ``--forecast`` and ``--health`` say, without a process around it."""

from __future__ import annotations

import json
from argparse import ArgumentTypeError
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.test import override_settings

from linod import clock, forecast, health, listing
from linod.history import Daemon, Job
from linod.models import BackgroundTask
from linod.procedures import Procedure, declare
from linod.sync import sync
from tests.daemons import only_these_procedures

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)  # 13:00 in Brussels, a Sunday
DAY = timedelta(days=1)


def nothing(ar: Any) -> None:
    """Do nothing."""


@pytest.fixture(autouse=True)
def _procedures() -> Iterator[None]:
    with only_these_procedures(), override_settings(LINOD={"SITE": "tests", "LEASE": 30.0}):
        declare(nothing, "f")
        yield


def task(**values: Any) -> BackgroundTask:
    """A task that begins on 1 November 2026 unless ``values`` say otherwise; in memory only."""
    unit = values.setdefault("every_unit", "daily")
    values.setdefault("start_date", date(2026, 11, 1))
    values.setdefault("start_time", time(20) if unit not in ("secondly", "minutely") else time(12))
    made = BackgroundTask(id=values.pop("id", 7), procedure="f", seqno=1, **values)
    made.procedure = Procedure(None, "f") if values.get("name") == "unknown" else _procedure()
    if not made.disabled and "next_run_at" not in values:
        made.next_run_at = made.recurrence.next_after(NOON)
    return made


def _procedure() -> Procedure:
    from linod.procedures import Procedures

    return Procedures.find("f")


# Listing


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"every_unit": "secondly", "every": 10}, "Every 10 seconds do f()"),
        ({"every_unit": "secondly", "every": 3600}, "Every 3600 seconds do f()"),
        ({"every_unit": "secondly"}, "Every 1 second do f()"),
        ({"every_unit": "minutely", "every": 5}, "Every 5 minutes do f()"),
        ({"every_unit": "hourly"}, "Every 1 hour do f()"),
        ({}, "Every 1 day at 20:00:00 do f()"),
        ({"every": 3, "start_time": time(3, 30)}, "Every 3 days at 03:30:00 do f()"),
        ({"every_unit": "weekly"}, "Every 1 week at 20:00:00 do f()"),
        ({"every_unit": "weekly", "tuesday": True}, "Every 1 week at 20:00:00 do f()"),
        (
            {"every_unit": "weekly", "monday": True, "thursday": True},
            "Every Monday and Thursday at 20:00 do f()",
        ),
        ({"every_unit": "weekly", "every": 2}, "Every 2 weeks on Sunday at 20:00 do f()"),
        ({"friday": True}, "Every Friday at 20:00 do f()"),
        (
            {"every_unit": "secondly", "every": 10, "sunday": True},
            "Every 10 seconds on Sunday do f()",
        ),
        ({"every_unit": "monthly"}, "Every month on day 1 at 20:00 do f()"),
        ({"every_unit": "cron", "cron": "0 9 * * 1-5"}, "Cron 0 9 * * 1-5 do f()"),
        ({"max_events": 90}, "Every day at 20:00, 90 times do f()"),
        ({"end_date": date(2026, 12, 24)}, "Every day at 20:00, until 2026-12-24 23:59 do f()"),
        ({"time_zone": "Asia/Tokyo"}, "Every day at 20:00 (Asia/Tokyo) do f()"),
    ],
)
def test_a_line_says_the_rule_as_schedule_does_or_in_words(
    values: dict[str, Any], expected: str
) -> None:
    rule, _, times = listing.line(task(**values)).partition(" (last run")
    assert rule == expected
    assert times.startswith(": [never], next run: 2026-")


def test_a_line_tells_both_times_in_the_time_of_the_site() -> None:
    for unit in ("daily", "monthly"):
        line = listing.line(
            task(
                every_unit=unit, last_start_time=NOON, next_run_at=datetime(2026, 7, 1, tzinfo=UTC)
            )
        )
        assert line.endswith(
            "do f() (last run: 2026-11-22 13:00:00, next run: 2026-07-01 02:00:00)"
        )


def test_a_rule_that_cannot_be_answered_has_its_line() -> None:
    broken = task(next_run_at=None)
    broken.every = 0
    assert listing.line(broken) == (
        "No run, because the rule cannot be answered (every: give a whole number from 1 on)"
        " do f() (last run: [never], next run: [never])"
    )


def test_the_heading_counts() -> None:
    assert listing.lines([]) == ["This site has no scheduled jobs."]
    assert listing.lines([task()])[0] == "1 scheduled jobs:"
    assert [line[:4] for line in listing.lines([task(), task()])] == ["2 sc", "[1] ", "[2] "]


def test_json_has_moments_with_their_offset() -> None:
    (item,) = json.loads(listing.as_json([task(last_start_time=NOON)]))
    assert item["last_run"] == "2026-11-22T13:00:00+01:00"
    assert item["next_run"] == "2026-11-22T20:00:00+01:00"


@pytest.mark.django_db
def test_enabled_tasks_with_a_recurrence_are_listed_in_their_order() -> None:
    BackgroundTask.objects.all().delete()
    for seqno, values in (
        (3, {"every_unit": "daily"}),
        (2, {"every_unit": "daily", "disabled": True}),
        (4, {"every_unit": "never"}),
        (5, {"every_unit": ""}),
        (1, {"every_unit": "once", "start_date": date(2030, 1, 1)}),
    ):
        BackgroundTask.objects.create(procedure="f", seqno=seqno, **values)
    assert [each.seqno for each in listing.listed_tasks("default")] == [1, 3]
    declare(lambda: None, "g")
    assert listing.without_task("default") == ["g"]


# Forecast


def foretold(*tasks: BackgroundTask, now: datetime = NOON, span: timedelta = DAY) -> list[str]:
    return forecast.lines(tasks, now, span)


def test_runs_come_in_their_order() -> None:
    assert foretold(task(start_time=time(21)), task(id=8), span=timedelta(days=2)) == [
        "2026-11-22 20:00:00  f",
        "2026-11-22 21:00:00  f",
        "2026-11-23 20:00:00  f",
        "2026-11-23 21:00:00  f",
    ]


def test_many_runs_are_one_line() -> None:
    often = task(every_unit="secondly", every=10)
    assert foretold(often) == [
        "2026-11-22 13:00:10  f  every 10 seconds: 8640 runs until 2026-11-23 13:00:00"
    ]
    assert len(foretold(often, span=timedelta(seconds=200))) == forecast.SINGLE_RUNS


def test_nothing_is_said_to_be_nothing() -> None:
    quiet = [
        task(disabled=True),
        task(every_unit="never", start_date=None, start_time=None),
        task(name="unknown"),
        task(max_events=3, next_run_at=None),
    ]
    assert foretold(*quiet) == ["Nothing is going to run until 2026-11-23 13:00:00."]


def test_what_waits_already_comes_first() -> None:
    waiting = task(next_run_at=NOON - timedelta(hours=17), requested_at=NOON)
    assert foretold(waiting) == [
        "2026-11-22 13:00:00  f  overdue since 2026-11-21 20:00:00",
        "2026-11-22 13:00:00  f  requested: as soon as possible",
        "2026-11-22 20:00:00  f",
    ]


def test_a_task_that_will_be_enabled_runs_from_then_on() -> None:
    later = task(disabled=True, disabled_until=NOON + timedelta(hours=20), next_run_at=None)
    assert foretold(later, span=timedelta(days=2)) == ["2026-11-23 20:00:00  f"]


def test_what_comes_with_the_end_of_a_pause_does_not_run() -> None:
    with_it = datetime(2026, 11, 22, 19, tzinfo=UTC)
    paused = task(disabled=True, disabled_until=with_it, next_run_at=None)
    tomorrow = ["2026-11-23 20:00:00  f"]
    assert foretold(paused, span=timedelta(days=2)) == tomorrow
    assert foretold(paused, now=with_it) == tomorrow


def test_a_rule_that_cannot_be_answered_is_told() -> None:
    broken = task()
    broken.every = 0
    assert foretold(broken) == [
        "2026-11-22 13:00:00  f  cannot run: every: give a whole number from 1 on"
    ]


def test_clock_changes_are_marked() -> None:
    nightly = task(start_date=date(2026, 1, 1), start_time=time(2, 30))
    spring, autumn = datetime(2026, 3, 28, 12, tzinfo=UTC), datetime(2026, 10, 24, 12, tzinfo=UTC)
    nightly.next_run_at = spring
    assert "2026-03-29 03:30:00  f  (shifted: the clocks leave out 02:30:00)" in foretold(
        nightly, now=spring
    )
    nightly.next_run_at = nightly.recurrence.next_after(autumn)
    assert foretold(nightly, now=autumn) == ["2026-10-25 02:30:00 (first of two, UTC+02:00)  f"]


def test_an_hour_that_comes_twice_is_told_apart() -> None:
    night = datetime(2026, 10, 24, 23, tzinfo=UTC)
    hourly = task(every_unit="hourly", start_date=date(2026, 1, 1), next_run_at=night)
    found = foretold(hourly, now=night, span=timedelta(hours=4))
    assert [line.removesuffix("  f") for line in found] == [
        "2026-10-25 01:00:00",
        "2026-10-25 02:00:00 (first of two, UTC+02:00)",
        "2026-10-25 02:00:00 (second of two, UTC+01:00)",
        "2026-10-25 03:00:00",
        "2026-10-25 04:00:00",
    ]


def test_a_forecast_is_bounded() -> None:
    tasks = [task(id=number) for number in range(600)]
    lines = foretold(*tasks, span=timedelta(days=2))
    assert len(lines) == forecast.MAX_LINES + 1
    assert lines[-1] == "... and 200 more lines; ask for a shorter time"


@pytest.mark.parametrize("text", ["", "24", "h", "-1h", "1.5h", "24H", "1h 2m", "0s", "3661d"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ArgumentTypeError):
        forecast.duration(text)


# Health


def told() -> dict[bool, list[str]]:
    found: dict[bool, list[str]] = {True: [], False: []}
    for finding in health.findings("default"):
        found[finding.is_well].append(finding.text)
    return found


def make(**values: Any) -> BackgroundTask:
    return BackgroundTask.objects.create(**{"procedure": "f", **values})


def change(row: BackgroundTask, **values: Any) -> None:
    BackgroundTask.objects.filter(pk=row.pk).update(**values)


@pytest.fixture
def now(db: None) -> datetime:
    """The database's time, with a daemon seen just then and nothing else."""
    BackgroundTask.objects.all().delete()
    moment = clock.db_now()
    Daemon.objects.create(
        owner=uuid4(), host="here", pid=7, started_at=moment, last_seen_at=moment, state="running"
    )
    return moment


def test_all_is_well(now: datetime) -> None:
    make(every_unit="daily")
    make(every_unit="daily", disabled=True, disabled_reason="on holiday")
    assert told()[False] == []


def test_a_daemon_must_have_been_seen_within_a_lease(now: datetime) -> None:
    Daemon.objects.update(last_seen_at=now - timedelta(seconds=90))
    assert told()[False] == ["no daemon shows itself; here:7 was seen 1 minute ago"]
    Daemon.objects.update(state="stopped")
    assert told()[False] == ["no daemon runs; start one with: manage.py linod"]


def test_nothing_may_be_overdue_that_could_run(now: datetime) -> None:
    late = make(every_unit="daily")
    change(late, next_run_at=now - timedelta(seconds=30))
    assert told()[False] == []
    change(late, next_run_at=now - timedelta(seconds=40))
    asked = make()
    change(asked, requested_at=now - timedelta(seconds=40))
    assert told()[False] == [f"overdue for more than 35 seconds: #{late.pk} f, #{asked.pk} f"]
    Job.objects.create(
        task=late, active_task=late.pk, procedure="f", due_at=now, state="running",
        trigger="schedule",
    )  # fmt: skip
    change(asked, requested_at=None)
    assert told()[False] == []


def test_a_task_that_failed_is_no_health(now: datetime) -> None:
    failed = make(every_unit="daily")
    change(failed, disabled=True, failures=1, disabled_reason="ValueError: x", next_run_at=None)
    assert told()[False] == [f"{failed} was disabled by its failures: ValueError: x"]


def test_a_rule_that_broke_is_no_health(now: datetime) -> None:
    broken = make(every_unit="daily")
    change(broken, every=0, disabled=True, disabled_reason="every: ...", next_run_at=None)
    assert told()[False] == [
        f"{broken} is disabled, its rule cannot be answered: every: give a whole number from 1 on"
    ]


def test_a_wrong_declaration_is_no_health(now: datetime) -> None:
    declare(lambda: None, "loud", every_unit="daily", log_level="LOUD")
    _f, task = sync()
    assert told()[False] == [
        f"{task} is disabled. Declared wrongly: log_level: Value 'LOUD' is not a valid choice."
    ]


def test_an_unknown_procedure_is_told_and_well(now: datetime) -> None:
    row = make(procedure="newer", every_unit="daily")
    change(row, next_run_at=now - timedelta(days=1))
    assert told() == {
        True: [
            "the daemon here:7 was seen now",
            "nothing is overdue",
            f"procedures that are not declared here: #{row.pk} newer",
        ],
        False: [],
    }
