"""The drawing of a day: where runs and plans stand, and what happens when there are too many."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from django.db import connection
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

from linod import clock, timeline
from linod.history import Job, time_ordered_uuid
from linod.models import BackgroundTask
from linod.procedures import declare
from linod.recent import first_id
from linod.templatetags.linod_live import bars, lane_text
from linod.timeline import HOLLOW, STROKE, WIDTH, Lane, Run, Stroke, Window, draw
from tests.daemons import only_these_procedures
from tests.test_live import make_job

NOW = datetime(2026, 11, 22, 16, 30, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
WINDOW = Window(NOW)
X_NOW = 18 * 60


@pytest.fixture(autouse=True)
def _procedures() -> Iterator[None]:
    with only_these_procedures():
        declare(lambda: None, "f")
        yield


def task(**values: object) -> BackgroundTask:
    given = {"pk": 1, "procedure": "f", "every_unit": "daily", "start_date": NOW.date(),
             "start_time": NOW.time(), "time_zone": "UTC"}  # fmt: skip
    return BackgroundTask(**given | values)


def run(minutes_ago: float, lasts: float | None = 0.1, state: str = "succeeded") -> Run:
    start = NOW - minutes_ago * MINUTE
    end = None if lasts is None else start + lasts * MINUTE
    return Run(uuid4(), 1, state, start, end)


def lane(*runs: Run, unread: datetime | None = None, **values: object) -> Lane:
    return draw(task(**values), runs, unread, WINDOW)


def spots(strokes: list[Stroke]) -> list[tuple[float, float]]:
    return [(round(stroke.x, 3), round(stroke.width, 3)) for stroke in strokes]


def test_short_runs_are_strokes_and_neighbours_are_one() -> None:
    found = lane(run(60), run(61), run(300))
    assert spots(found.quiet) == [(X_NOW - 300, STROKE), (X_NOW - 61, STROKE + 1)]
    assert found.notable == []
    assert found.runs == 3


def test_long_runs_failures_and_what_runs_have_strokes_of_their_own() -> None:
    found = lane(run(100, 30), run(50, 0.1, "failed"), run(20, None, "running"))
    assert spots(found.notable) == [(X_NOW - 100, 30), (X_NOW - 50, STROKE), (X_NOW - 20, 20)]
    assert [stroke.is_bad for stroke in found.notable] == [False, True, False]
    assert (found.quiet, found.failures) == ([], 1)


def test_what_reaches_out_of_the_window_is_cut() -> None:
    found = lane(run(19 * 60, 120), next_run_at=NOW + timedelta(hours=7))
    assert spots(found.notable) == [(0, 60)]
    assert (found.planned, found.band) == ([], None)


def test_plans_are_marks_and_a_band_when_there_are_many() -> None:
    hourly = lane(every_unit="hourly", next_run_at=NOW + 30 * MINUTE)
    assert spots(hourly.planned) == [(X_NOW + 60 * n, HOLLOW) for n in range(1, 7)]
    often = lane(every_unit="minutely", next_run_at=NOW + 30 * MINUTE)
    assert often.planned == []
    assert often.band == Stroke(X_NOW + 30, WIDTH - X_NOW - 30)


def test_no_plan_for_what_will_not_run() -> None:
    soon = NOW + MINUTE
    for values in (
        {"next_run_at": None},
        {"next_run_at": soon, "procedure": "unknown"},
        {"next_run_at": soon, "every_unit": "cron", "cron": "not a rule"},
        {"disabled": True, "next_run_at": None},
    ):
        found = lane(**values)
        assert (found.planned, found.band) == ([], None)


def test_a_pause_that_ends_shows_what_comes_after_it() -> None:
    found = lane(every_unit="hourly", disabled=True, disabled_until=NOW + 150 * MINUTE)
    assert spots(found.planned) == [(X_NOW + 60 * n, HOLLOW) for n in (3, 4, 5, 6)]
    # What comes with its end is over when the task is enabled.
    found = lane(every_unit="hourly", disabled=True, disabled_until=NOW + 180 * MINUTE)
    assert spots(found.planned) == [(X_NOW + 60 * n, HOLLOW) for n in (4, 5, 6)]


def test_the_scale_names_full_hours_of_the_sites_clock() -> None:
    with override_settings(TIME_ZONE="Europe/Brussels"):
        found = [(x, f"{hour:%H:%M}") for x, hour in WINDOW.scale()]
    assert found[0] == (30.0, "00:00")
    assert [text for _x, text in found] == [f"{hour:02}:00" for hour in range(0, 24, 3)]


def test_the_scale_goes_by_the_clock_on_the_day_when_it_changes() -> None:
    with override_settings(TIME_ZONE="Europe/Brussels"):
        window = Window(datetime(2026, 10, 25, 6, 0, tzinfo=UTC))
        found = [(x, f"{hour:%H:%M}") for x, hour in window.scale()]
    # 25 hours long: from 03:00 on, wall times are an hour later.
    assert (660.0, "00:00") not in found
    assert (600.0, "00:00") in found
    assert (840.0, "03:00") in found


def test_the_words_for_those_who_cannot_see_it() -> None:
    found = lane(run(9), run(50, 1, "failed"), every_unit="hourly", next_run_at=NOW)
    assert lane_text(found) == "2 runs, 1 failed, 7 planned"
    assert lane_text(lane(next_run_at=NOW, every_unit="secondly")) == "0 runs, planned often"


def test_bars_are_one_path() -> None:
    assert bars([Stroke(1, 4), Stroke(10.26, 5)], 6, 10) == (
        "M1.0 6h4.0v10h-4.0zM10.3 6h5.0v10h-5.0z"
    )


def test_keys_begin_with_their_moment() -> None:
    before = datetime.now(UTC) - timedelta(milliseconds=2)
    key = time_ordered_uuid()
    after = datetime.now(UTC) + timedelta(milliseconds=2)
    assert first_id(before) < key < first_id(after)


@pytest.mark.django_db
def test_tasks_that_run_often_leave_room_for_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timeline, "LIMIT", 20)
    often, seldom = (BackgroundTask.objects.create(procedure="f") for _ in range(2))
    for number in range(50):
        make_job(often, Job.State.SUCCEEDED, ago=60 * number)
    for number in range(10):
        make_job(seldom, Job.State.SUCCEEDED, ago=3600 * number + 30)
    window = Window.around(clock.db_now())
    with CaptureQueriesContext(connection) as queries:
        runs, unread = timeline.read_runs("default", [often.pk, seldom.pk], window)
    assert len(queries) == 2
    assert {run.id for run in runs if run.task_id == seldom.pk} == set(
        seldom.jobs.values_list("id", flat=True)
    )
    assert list(unread) == [often.pk]
    oldest = min(run.start for run in runs if run.task_id == often.pk)
    assert abs(unread[often.pk] - oldest) < MINUTE
    found = timeline.lanes("default", [often, seldom], window)
    assert found[0].unread is not None
    assert found[0].unread.width == pytest.approx(window.x(unread[often.pk]))
    assert found[1].unread is None


@pytest.mark.django_db
def test_only_the_windows_jobs_are_read() -> None:
    row = BackgroundTask.objects.create(procedure="f")
    inside = make_job(row, Job.State.SUCCEEDED, ago=17 * 3600)
    make_job(row, Job.State.SUCCEEDED, ago=19 * 3600)
    make_job(row, Job.State.CANCELLED, ago=60, start_time=None)
    make_job(None, Job.State.SUCCEEDED, ago=60)
    runs, unread = timeline.read_runs("default", [row.pk], Window.around(clock.db_now()))
    assert [run.id for run in runs] == [inside.pk]
    assert unread == {}
