"""The history's end: old rows go in batches, each task keeps its last jobs."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

from linod import clock, retention
from linod.history import Daemon, Decision, Job, JobLog
from linod.models import BackgroundTask
from linod.procedures import Procedure

pytestmark = pytest.mark.django_db

NOOP = Procedure(None, "noop")


@pytest.fixture(autouse=True)
def _no_rows() -> None:
    BackgroundTask.objects.all().delete()


def make_task() -> BackgroundTask:
    return BackgroundTask.objects.create(procedure=NOOP)


def make_jobs(task: BackgroundTask | None, count: int, *, days: float, **values: Any) -> list[Job]:
    """Ended jobs, the oldest first, the last of them ``days`` old; each ended when it was due."""
    newest = clock.db_now() - timedelta(days=days)
    instants = [newest - timedelta(minutes=count - n) for n in range(count)]
    jobs = [
        Job(
            task=task, procedure=NOOP, due_at=instant, trigger="schedule",
            **{"state": "succeeded", "end_time": instant, **values},
        )
        for instant in instants
    ]  # fmt: skip
    Job.objects.bulk_create(jobs)
    JobLog.objects.bulk_create(JobLog(job=job, n=1, text="said") for job in jobs)
    return jobs


def test_each_task_keeps_its_last_twenty_however_old() -> None:
    busy, rare, young = make_task(), make_task(), make_task()
    old = make_jobs(busy, 50, days=40)
    make_jobs(rare, 20, days=400)
    make_jobs(young, 50, days=1)
    assert retention.clean("default") == 30
    kept = set(Job.objects.filter(task=busy))
    assert kept == set(old[30:])
    assert Job.objects.filter(task=rare).count() == 20
    assert Job.objects.filter(task=young).count() == 50
    assert JobLog.objects.count() == Job.objects.count() == 90
    assert retention.clean("default") == 0


def test_young_jobs_count_among_the_last_twenty() -> None:
    task = make_task()
    make_jobs(task, 30, days=40)
    make_jobs(task, 15, days=1)
    assert retention.clean("default") == 25
    assert Job.objects.filter(task=task).count() == 20


def test_what_has_not_ended_stays() -> None:
    task = make_task()
    make_jobs(task, 20, days=50)
    running = make_jobs(task, 1, days=60, state="running", end_time=None)[0]
    assert retention.clean("default") == 0
    long_ago = clock.db_now() - timedelta(days=31)
    Job.objects.filter(pk=running.pk).update(state="lost", end_time=long_ago)
    assert retention.clean("default") == 1


def test_what_was_made_up_long_after_its_instant_is_as_old_as_its_end() -> None:
    task = make_task()
    made_up = make_jobs(task, 40, days=40, end_time=clock.db_now() - timedelta(hours=1))
    make_jobs(None, 5, days=40, end_time=clock.db_now() - timedelta(hours=1))
    assert retention.clean("default") == 0
    long_ago = clock.db_now() - timedelta(days=31)
    Job.objects.filter(pk__in=[job.pk for job in made_up]).update(end_time=long_ago)
    assert retention.clean("default") == 20


def test_jobs_without_a_task_the_ledger_and_dead_daemons_go_by_age() -> None:
    make_jobs(None, 25, days=40)
    make_jobs(None, 25, days=1)
    Decision.objects.all().delete()
    note = Decision.objects.record("edited")
    old = Decision.objects.record("edited")
    Decision.objects.filter(pk=old.pk).update(at=clock.db_now() - timedelta(days=31))
    for days in (1, 31):
        Daemon.objects.create(
            owner=uuid.uuid4(), host="h", pid=1, version="1", started_at=clock.db_now(),
            last_seen_at=clock.db_now() - timedelta(days=days), state="stopped",
        )  # fmt: skip
    assert retention.clean("default") == 25 + 1 + 1
    assert Job.objects.filter(task=None).count() == 25
    assert list(Decision.objects.all()) == [note]
    assert Daemon.objects.count() == 1


def test_the_site_says_how_many_days() -> None:
    make_jobs(None, 3, days=8)
    assert retention.clean("default") == 0
    with override_settings(LINOD={"KEEP_JOBS_DAYS": 7}):
        assert retention.clean("default") == 3
    with override_settings(LINOD={"KEEP_JOBS_DAYS": 99_999}):
        assert retention.clean("default") == 0


def test_it_deletes_in_batches_and_stops_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "BATCH", 4)
    monkeypatch.setattr(retention, "BATCHES", 3)
    make_jobs(make_task(), 40, days=40)
    assert retention.clean("default") == 12  # of 20
    assert retention.clean("default") == 8
    assert Job.objects.count() == 20


def test_the_number_of_tasks_does_not_change_the_number_of_queries() -> None:
    def queries() -> int:
        with CaptureQueriesContext(
            connection,
        ) as seen:
            retention.clean("default")
        return len(seen)

    few = queries()
    for _ in range(12):
        make_jobs(make_task(), 20, days=40)
    assert queries() == few


def test_the_last_word_about_a_task_and_the_last_daemon_stay() -> None:
    disabled, busy = make_task(), make_task()
    disabled.disable("on holiday", user="anna")
    for reason in ("one", "two"):
        busy.disable(reason)
    Decision.objects.record("coalesced", busy)
    Decision.objects.record("disabled")
    Decision.objects.update(at=clock.db_now() - timedelta(days=31))
    for days in (32, 31):
        Daemon.objects.create(
            owner=uuid.uuid4(), host=f"h{days}", pid=1, version="1", started_at=clock.db_now(),
            last_seen_at=clock.db_now() - timedelta(days=days), state="stopped",
        )  # fmt: skip
    assert retention.clean("default") == 3 + 1
    assert set(Decision.objects.values_list("task", "reason")) == {
        (disabled.pk, "on holiday"), (busy.pk, "two"),
    }  # fmt: skip
    assert [daemon.host for daemon in Daemon.objects.all()] == ["h31"]
