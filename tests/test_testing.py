"""``linod.testing``: the daemon's decisions in a test's own thread, by a clock that obeys."""

from __future__ import annotations

import time as real_time
from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth import get_user_model
from django.db import IntegrityError, connection, connections
from django.test import TestCase, TransactionTestCase
from django.utils import timezone
from django.utils.timezone import now as kept_before

from linod import Procedures, testing
from linod import clock as linod_clock
from linod.history import Decision, Job
from linod.models import BackgroundTask
from linod.procedures import declare
from linod.testing import clock, run_all, run_due_jobs, simulate
from linod.testing.clock import destination
from tests.daemons import make_task, only_these_procedures

BRUSSELS = ZoneInfo("Europe/Brussels")
#: 19:59 in Brussels.
EVENING = datetime(2026, 11, 22, 18, 59, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _registry() -> Iterator[None]:
    with only_these_procedures():
        yield


INSIDE = pytest.param("inside", marks=pytest.mark.django_db)
OUTSIDE = pytest.param("outside", marks=pytest.mark.django_db(transaction=True))


@pytest.fixture(params=[INSIDE, OUTSIDE])
def rows() -> None:
    """The database, once inside a transaction that is rolled back, once outside of any."""
    BackgroundTask.objects.all().delete()


def noop() -> None:
    """Do nothing."""


def states(jobs: list[Job]) -> list[str]:
    return [job.state for job in jobs]


# The clock


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        ("1 week", datetime(2026, 11, 29, 18, 59, tzinfo=UTC)),
        ("90m", datetime(2026, 11, 22, 20, 29, tzinfo=UTC)),
        ("3 days 2 hours", datetime(2026, 11, 25, 20, 59, tzinfo=UTC)),
        ("1 year, 1 month", datetime(2027, 12, 22, 18, 59, tzinfo=UTC)),
        ("-1 day", datetime(2026, 11, 21, 18, 59, tzinfo=UTC)),
        ("45 seconds", datetime(2026, 11, 22, 18, 59, 45, tzinfo=UTC)),
        (timedelta(minutes=1), datetime(2026, 11, 22, 19, 0, tzinfo=UTC)),
        ("20 weeks", datetime(2027, 4, 11, 17, 59, tzinfo=UTC)),  # 19:59 of the summer
    ],
)
def test_lengths_of_time(by: clock.Length, expected: datetime) -> None:
    assert destination(EVENING, by, None) == expected


@pytest.mark.parametrize("words", ["", "week", "1 fortnight", "1 week or so", "3", "1.5 hours"])
def test_words_that_are_no_length_are_refused(words: str) -> None:
    with pytest.raises(ValueError, match="is no length of time"):
        destination(EVENING, words, None)


def test_moments_without_an_offset_are_the_sites() -> None:
    for to in ("2026-12-24 20:00", datetime(2026, 12, 24, 20), "2026-12-24T19:00Z"):  # noqa: DTZ001
        assert destination(EVENING, None, to) == datetime(2026, 12, 24, 19, tzinfo=UTC)


@pytest.mark.usefixtures("rows")
def test_time_stands_still_and_comes_back() -> None:
    with clock.freeze(EVENING) as held:
        first, second = linod_clock.db_now(), linod_clock.db_now()
        assert EVENING < first < second < EVENING + timedelta(milliseconds=1)
        with clock.travel("1 week") as there:
            assert there.now - EVENING < timedelta(weeks=1, milliseconds=1)
            assert there.now >= EVENING + timedelta(weeks=1)
            with clock.travel(to="2027-01-01 00:00"):
                assert timezone.localdate().year == 2027
        assert held.now - EVENING < timedelta(milliseconds=1)
        clock.move("1 hour")
        assert linod_clock.db_now() >= EVENING + timedelta(hours=1)
    assert clock.active() is None
    assert abs(linod_clock.db_now() - timezone.now()) < timedelta(minutes=1)
    with pytest.raises(RuntimeError, match="it inside"):
        clock.move("1 hour")


def test_django_s_clock_goes_along() -> None:
    with clock.freeze(EVENING):
        assert timezone.now() == kept_before() == EVENING
        assert isinstance(real_now(), timezone.datetime)  # type: ignore[attr-defined]
        assert timezone.localtime().hour == 19
        assert not timezone.is_naive(timezone.now())
    assert timezone.now() != EVENING


def real_now() -> datetime:
    return datetime.now(UTC)


@clock.freeze("2026-11-22 19:59")
def test_it_decorates() -> None:
    assert timezone.now() == EVENING


def test_travel_needs_to_know_where() -> None:
    for wrong in ({}, {"by": "1 week", "to": EVENING}):
        with pytest.raises(TypeError, match="takes a length of time"):
            clock.travel(**wrong)  # type: ignore[arg-type]


# What is due


@pytest.mark.usefixtures("rows")
def test_what_is_due_runs_once() -> None:
    said = []

    def speak(ar: Any) -> dict[str, str]:
        ar.info("It is %s", timezone.localtime().strftime("%H:%M"))
        said.append(ar.due_at)
        return {"task": str(ar.task), "state": ar.job.state}

    with clock.freeze(EVENING):
        task = make_task(speak, every_unit="daily")
        assert run_due_jobs() == []
        with clock.travel("1 minute"):
            (job,) = run_due_jobs()
            assert run_due_jobs() == []
    assert said == [job.due_at] == [datetime(2026, 11, 22, 19, tzinfo=UTC)]
    assert (job.state, job.trigger, job.host) == ("succeeded", "schedule", "test")
    assert job.result == {"task": str(task), "state": "running"}
    assert "INFO It is 20:00" in job.message
    task.refresh_from_db()
    assert task.next_run_at == datetime(2026, 11, 23, 19, tzinfo=UTC)
    assert task.message == job.message


@pytest.mark.usefixtures("rows")
def test_a_daemon_that_comes_back_makes_up_as_the_task_says() -> None:
    with clock.freeze(EVENING):
        for missed in ("once", "skip", "all"):
            make_task(noop, missed, every_unit="daily", missed=missed)
        with clock.travel("1 week"):
            jobs = run_due_jobs()
    days = [(job.procedure.name, job.due_at.day, job.missed) for job in jobs]
    assert sorted(days) == [*(("all", day, 0) for day in range(22, 29)), ("once", 28, 6)]
    assert Decision.objects.get(kind="skipped").task_id is not None


@pytest.mark.usefixtures("rows")
def test_many_tasks_that_skip_do_not_hide_one_that_runs() -> None:
    with clock.freeze(EVENING):
        for number in range(12):
            make_task(noop, f"skip{number}", every_unit="daily", missed="skip")
        make_task(noop, "last", every_unit="daily")
        with clock.travel("1 week"):
            assert [job.procedure.name for job in run_due_jobs()] == ["last"]


@pytest.mark.usefixtures("rows")
def test_requests_run_and_may_come_again_at_the_same_moment() -> None:
    with clock.freeze(EVENING):
        task = make_task(noop, disabled=True)
        robin = get_user_model().objects.create_user("robin")
        for _time in range(3):
            task.request_run(robin)
            (job,) = run_due_jobs()
            assert (job.trigger, job.requested_by) == ("request", robin)


@pytest.mark.usefixtures("rows")
def test_without_a_clock_of_its_own_the_time_is_the_database_s() -> None:
    task = make_task(noop)
    task.request_run()
    assert states(run_due_jobs()) == ["succeeded"]
    (job,) = run_due_jobs(now="2030-01-01 12:00") or [None]
    assert job is None


@pytest.mark.usefixtures("rows")
def test_at_a_moment_that_is_given() -> None:
    with clock.freeze(EVENING):
        make_task(noop, every_unit="daily", start_time=time(6))
        (job,) = run_due_jobs(now="2026-11-23 06:00")
        assert job.lateness is not None
        assert job.lateness < timedelta(seconds=1)
        assert timezone.now() < EVENING + timedelta(seconds=1)


@pytest.mark.usefixtures("rows")
def test_run_all_runs_what_is_enabled_and_known() -> None:
    make_task(noop, "one", every_unit="never")
    make_task(noop, "two", every_unit="daily")
    make_task(noop, "three", disabled=True)
    unknown = make_task(noop, "four")
    BackgroundTask.objects.filter(pk=unknown.pk).update(procedure="of_a_newer_release")
    assert [job.procedure.name for job in run_all()] == ["one", "two"]


@pytest.mark.usefixtures("rows")
def test_run_after_is_kept() -> None:
    seen: list[str] = []
    declare(lambda: seen.append("second"), "second", run_after="first")
    declare(lambda: seen.append("first"), "first")
    for name in ("second", "first"):
        BackgroundTask.objects.create(procedure=name)
    run_all()
    assert seen == ["first", "second"]


# What comes of it


@pytest.mark.usefixtures("rows")
def test_failures_are_recorded_and_disable() -> None:
    def fail() -> None:
        raise ValueError("no such account")

    with clock.freeze(EVENING):
        task = make_task(fail, every_unit="hourly")
        (job,) = run_due_jobs()
    assert job.state == "failed"
    assert job.error.endswith("ValueError: no such account\n")
    task.refresh_from_db()
    assert (task.disabled, task.disabled_reason) == (True, "ValueError: no such account")


@pytest.mark.usefixtures("rows")
def test_attempts_wait_for_their_time() -> None:
    attempts: list[int] = []

    def fail_twice(ar: Any) -> None:
        attempts.append(ar.job.attempt)
        if len(attempts) < 3:
            raise ValueError("not yet")

    with clock.freeze(EVENING):
        task = make_task(fail_twice, every_unit="daily", max_attempts=3, retry_delay=600.0)
        jobs = simulate("2 hours")
    assert attempts == [1, 2, 3]
    assert states(jobs) == ["failed", "failed", "succeeded"]
    assert {job.due_at for job in jobs} == {datetime(2026, 11, 22, 19, tzinfo=UTC)}
    pauses = [
        (later.start_time - earlier.end_time).total_seconds()
        for earlier, later in pairwise(jobs)
        if later.start_time and earlier.end_time
    ]
    assert 450 <= pauses[0] <= 750
    assert 900 <= pauses[1] <= 1500
    task.refresh_from_db()
    assert not task.disabled


@pytest.mark.usefixtures("rows")
def test_a_body_that_breaks_its_transaction_loses_nothing_else() -> None:
    get_user_model().objects.create_user("robin")

    def twice() -> None:
        get_user_model().objects.create_user("robin")

    def refused() -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT nothing FROM nowhere")

    for body in (twice, refused):
        make_task(body)
    make_task(noop)
    assert states(run_all()) == ["failed", "failed", "succeeded"]
    assert get_user_model().objects.count() == 1


@pytest.mark.usefixtures("rows")
def test_an_async_body_sees_the_test_s_rows() -> None:
    async def count(ar: Any) -> int:
        await ar.ainfo("counting")
        return await BackgroundTask.objects.acount()

    make_task(count)
    (job,) = run_all()
    assert (job.state, job.result) == ("succeeded", 1)


@pytest.mark.usefixtures("rows")
def test_a_timeout_is_the_body_s_real_time() -> None:
    def endless(ar: Any) -> None:
        while True:
            ar.check_cancelled()

    make_task(endless, timeout=0.05)
    (job,) = run_all()
    assert job.state == "timed_out"


@pytest.mark.django_db(transaction=True)
async def test_from_async_code() -> None:
    await BackgroundTask.objects.all().adelete()
    await sync_to_async(make_task)(noop)
    assert states(await sync_to_async(run_all)()) == ["succeeded"]
    # That thread outlives the test, and would hold its database.
    await sync_to_async(connections.close_all)()


# Living through a time


@pytest.mark.usefixtures("rows")
def test_it_lives_through_clock_changes() -> None:
    with clock.freeze("2026-03-27 12:00") as held:
        make_task(noop, every_unit="daily", start_time=time(2, 30))
        jobs = simulate("3 days")
        assert held.now >= datetime(2026, 3, 30, 10, tzinfo=UTC)
    shown = [job.due_at.astimezone(BRUSSELS).strftime("%d %H:%M") for job in jobs]
    assert shown == ["28 02:30", "29 03:30", "30 02:30"]
    assert all(job.lateness is not None and job.lateness < timedelta(seconds=1) for job in jobs)


@pytest.mark.usefixtures("rows")
def test_a_body_may_take_its_time() -> None:
    def slow() -> None:
        clock.move("150 minutes")

    with clock.freeze("2026-11-22 12:00"):
        make_task(slow, every_unit="hourly")
        jobs = simulate(until="2026-11-22 18:00")
    hours = [(timezone.localtime(job.due_at).hour, job.missed) for job in jobs]
    assert hours == [(12, 0), (14, 1), (17, 2)]
    assert jobs[0].duration is not None
    assert jobs[0].duration >= timedelta(minutes=150)


@pytest.mark.usefixtures("rows")
def test_a_pause_ends_and_a_dead_daemon_s_job_is_lost() -> None:
    with clock.freeze(EVENING):
        paused = make_task(noop, "paused", every_unit="daily")
        paused.disable("on holiday", until=EVENING + timedelta(days=2))
        held = make_task(noop, "held", every_unit="daily")
        Job.objects.create(
            task=held, procedure=Procedures.held, due_at=EVENING, trigger="schedule",
            state="running", active_task=held.pk, start_time=EVENING, claimed_at=EVENING,
            owner="0" * 32, fence=1, lease_until=EVENING + timedelta(seconds=30),
        )  # fmt: skip
        jobs = simulate("3 days")
    assert [(job.procedure.name, job.due_at.day) for job in jobs] == [
        ("held", 22), ("held", 23), ("paused", 24), ("held", 24),
    ]  # fmt: skip
    assert Job.objects.get(owner="0" * 32).state == "lost"


@pytest.mark.usefixtures("rows")
def test_it_asks_for_a_clock_that_it_may_move() -> None:
    with pytest.raises(RuntimeError, match="it inside"):
        simulate("1 day")
    with clock.freeze(), pytest.raises(TypeError, match="a length of time"):
        simulate()


@pytest.mark.django_db(transaction=True)
def test_a_year_of_twenty_tasks_takes_less_than_a_minute() -> None:
    BackgroundTask.objects.all().delete()
    units = ["daily"] * 15 + ["weekly", "monthly", "yearly", "once", "never"]
    with clock.freeze("2026-01-01 00:00"):
        for number, unit in enumerate(units):
            make_task(
                noop,
                f"task{number}",
                every_unit=unit,
                start_time=time(20),
                log_level="ERROR",
            )
        began = real_time.process_time()  # not what other processes take
        jobs = simulate("1 year")
        took = real_time.process_time() - began
    assert set(states(jobs)) == {"succeeded"}
    assert len(jobs) == 15 * 365 + 53 + 12 + 1 + 1
    assert took < 60


# In the test cases of Django


class InTestCase(TestCase):
    """Inside the transaction that Django rolls back."""

    def setUp(self) -> None:
        BackgroundTask.objects.all().delete()
        self.enterContext(only_these_procedures())
        self.enterContext(clock.freeze(EVENING))
        self.task = make_task(noop, every_unit="daily")

    def test_it_runs(self) -> None:
        assert run_due_jobs() == []
        with clock.travel("1 minute"):
            (job,) = run_due_jobs()
        assert job.state == "succeeded"

    async def test_it_runs_in_async_tests(self) -> None:
        clock.move("1 minute")
        (job,) = await sync_to_async(run_due_jobs)()
        assert job.state == "succeeded"


class InTransactionTestCase(TransactionTestCase):
    """Outside of transactions, as in production."""

    def test_it_runs(self) -> None:
        with only_these_procedures(), clock.freeze(EVENING):
            BackgroundTask.objects.all().delete()
            make_task(noop, every_unit="daily")
            assert states(simulate("2 days")) == ["succeeded"] * 2


def test_its_names() -> None:
    assert sorted(testing.__all__) == ["clock", "run_all", "run_due_jobs", "simulate"]


def test_a_broken_unique_key_is_an_error_of_the_body(rows: None) -> None:
    def twice() -> None:
        raise IntegrityError("the same key twice")

    make_task(twice)
    assert states(run_all()) == ["failed"]
