"""What a daemon does after a fault: each test is a defect that tests/faults found once."""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.db import OperationalError
from django.test import override_settings

from linod import agenda, claims, clock, leases
from linod.bridge import Bridge
from linod.conf import config
from linod.daemon import Daemon
from linod.exceptions import JobStopped
from linod.history import Decision, Job
from linod.models import BackgroundTask
from linod.offset import Offset
from linod.records import Terms
from linod.scheduler import Scheduler
from linod.seeking import Turn
from tests.daemons import (
    empty_site,
    ended_jobs,
    make_task,
    running_daemon,
)
from tests.waiting import DEADLINE, wait_until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _site() -> Iterator[None]:
    with empty_site():
        yield


def test_a_body_that_ends_while_a_turn_fails_does_not_begin_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its row still says that it runs, and it is not among the running bodies any more."""
    began: list[int] = []
    may_end, cut = threading.Event(), threading.Event()

    def body(ar: Any) -> None:
        began.append(1)
        may_end.wait(DEADLINE)

    make_task(body, "interrupted").request_run()
    original = agenda.agenda

    with running_daemon() as (daemon,):
        wait_until(lambda: began, "the body begins")
        scheduler = daemon.daemon.scheduler

        def fail_once(*args: Any) -> Any:
            if not cut.is_set():
                may_end.set()
                wait_until(lambda: scheduler.executor.has_ended, "the body ends")
                cut.set()
                raise OperationalError("the connection is gone")
            return original(*args)

        monkeypatch.setattr(agenda, "agenda", fail_once)
        daemon.loop.call_soon_threadsafe(scheduler.look_now)
        (job,) = ended_jobs()
    assert cut.is_set()
    assert job.state == "succeeded"
    assert began == [1]


def test_the_next_attempt_may_run_beside_the_former_one_s_body() -> None:
    """A job that was taken over comes back to the daemon whose body still runs."""
    may_end = [threading.Event(), threading.Event()]
    began: list[int] = []

    def body(ar: Any) -> None:
        number = len(began)
        began.append(number)
        may_end[number].wait(DEADLINE)

    task = make_task(body, "repeatable", rerun_lost=True, max_attempts=2)
    task.request_run()
    with running_daemon():
        wait_until(lambda: len(began) == 1, "the first attempt begins")
        running = Job.objects.get()
        Job.objects.filter(pk=running.pk).update(lease_until=clock.db_now() - timedelta(seconds=1))
        claims.reclaim(Terms("default", uuid.uuid4(), lease=30.0), clock.db_now())
        wait_until(lambda: len(began) == 2, "the second attempt begins")
        may_end[0].set()
        wait_until(lambda: Job.objects.running().exists(), "the second attempt still runs")
        may_end[1].set()
        (job,) = ended_jobs()
    assert (job.state, job.attempt) == ("succeeded", 2)


def test_a_body_that_heeds_that_its_lease_was_not_renewed_runs_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The database was away for a lease, and nobody took the job over."""
    beat, is_away = leases.heartbeat, threading.Event()
    is_away.set()

    def beat_unless_away(terms: Terms) -> int:
        if is_away.is_set():
            raise OperationalError("the database is away")
        return beat(terms)

    def polite(ar: Any) -> None:
        if ar.job.attempt == 1:
            try:
                wait_until(ar.check_cancelled, "it is told")
            finally:
                is_away.clear()

    monkeypatch.setattr(leases, "heartbeat", beat_unless_away)
    make_task(polite, "polite", rerun_lost=True, max_attempts=2).request_run()
    with override_settings(LINOD={**settings.LINOD, "LEASE": 1.5}), running_daemon():
        (job,) = ended_jobs()
    assert (job.state, job.attempt) == ("succeeded", 2)
    assert "its lease could not be renewed" in Decision.objects.get(kind="lost").reason


@pytest.mark.parametrize("sign", ["a lapse", "a failure"])
def test_a_body_whose_job_was_taken_over_is_told(sign: str) -> None:
    """A daemon that was frozen wakes, and its first heartbeat succeeds; or an answer is lost."""
    began: list[str] = []
    told: list[BaseException] = []

    def polite(ar: Any) -> None:
        began.append("polite")
        if began.count("polite") == 1:
            try:
                wait_until(ar.check_cancelled, "it is told")
            except JobStopped as error:
                told.append(error)
                raise

    def keeps_its_job(ar: Any) -> None:
        began.append("kept")
        wait_until(lambda: told, "the other is told")
        ar.check_cancelled()

    def take_over() -> bool:
        job = Job.objects.filter(task=task, attempt=1, state="running")
        job.update(lease_until=clock.db_now() - timedelta(seconds=1))
        claims.reclaim(Terms("default", uuid.uuid4(), lease=30.0), clock.db_now())
        return not job.exists()  # else a heartbeat was faster

    task = make_task(polite, "polite", rerun_lost=True, max_attempts=2)
    kept = make_task(keeps_its_job, "kept")
    for each in (task, kept):
        each.request_run()
    with running_daemon() as (thread,):
        wait_until(lambda: len(began) == 2, "both run")
        engine = thread.daemon.scheduler
        wait_until(take_over, "it is taken over")
        if sign == "a failure":
            engine.bridge.failures += 1
        tell = engine.regain if sign == "a lapse" else engine.look_now
        thread.loop.call_soon_threadsafe(tell)
        jobs = ended_jobs(2)
    assert [str(error) for error in told] == ["its job was taken over"]
    outcomes = {job.task_id: (job.state, job.attempt) for job in jobs}
    assert outcomes == {task.pk: ("succeeded", 2), kept.pk: ("succeeded", 1)}


def test_when_the_leases_hold_again_what_waits_begins_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A beat had to wait for a lock, as everybody had."""
    task = make_task(lambda ar: None, "waiting")
    waits, go_on = threading.Event(), threading.Event()
    monkeypatch.setattr("linod.scheduler.STALLED", 3600.0)
    values = {"LEASE": 0.9, "BACKGROUND_SLEEP_TIME": 3600.0}
    with override_settings(LINOD={**settings.LINOD, **values}), running_daemon() as (thread,):
        heart, engine = thread.daemon.heart, thread.daemon.scheduler
        beat, delay = heart.beat, engine._delay
        delays: list[float] = []

        def beat_late() -> None:
            waits.set()
            go_on.wait(DEADLINE)
            beat()

        def note_delay(turn: Turn) -> float:
            delays.append(delay(turn))
            return delays[-1]

        heart.beat = beat_late
        wait_until(lambda: waits.is_set() and not heart.is_trusted, "the leases run out")
        wait_until(engine.has_looked.is_set, "the first turn is over")
        engine._delay = note_delay
        task.request_run()
        wait_until(lambda: delays, "it finds that it may not claim")
        assert delays[0] > DEADLINE
        go_on.set()
        (job,) = ended_jobs()
    assert job.state == "succeeded"


def test_what_was_claimed_in_a_turn_longer_than_the_lease_begins_only_if_it_is_still_mine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever was frozen between the claim's COMMIT and the begin of the bodies looks again."""
    ran: list[int] = []
    taken = make_task(lambda ar: ran.append(ar.task.pk), "taken")
    kept = make_task(lambda ar: ran.append(ar.task.pk), "kept")
    frozen = threading.Event()
    original = claims.claim

    def claim_and_freeze(*args: Any) -> Any:
        got = original(*args)
        if not frozen.is_set() and len(got) == 2:
            frozen.set()
            threading.Event().wait(1.8)
            past = clock.db_now() - timedelta(seconds=1)
            Job.objects.filter(task=taken).update(lease_until=past)
            claims.reclaim(Terms("default", uuid.uuid4(), lease=30.0), clock.db_now())
        return got

    for task in (taken, kept):
        BackgroundTask.objects.filter(pk=task.pk).update(requested_at=clock.db_now())
    monkeypatch.setattr(claims, "claim", claim_and_freeze)
    with override_settings(LINOD={**settings.LINOD, "LEASE": 2.0}), running_daemon():
        ended_jobs(2)
    assert frozen.is_set()
    assert ran == [kept.pk]
    assert Job.objects.get(task=taken).state == "lost"
    assert Job.objects.get(task=kept).state == "succeeded"


def test_what_was_claimed_in_a_long_turn_has_a_whole_lease_when_it_begins(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A beat just before the claim's COMMIT has missed the rows, and the next one is far."""
    leases: list[float] = []
    lease = 3.0

    def body(ar: Any) -> None:
        leases.append((ar.job.lease_until - clock.db_now()).total_seconds())

    make_task(body, "late").request_run()
    original = claims.claim

    def claim_slowly(*args: Any) -> Any:
        got = original(*args)
        if got:
            threading.Event().wait(lease / 2)
        return got

    monkeypatch.setattr(claims, "claim", claim_slowly)
    monkeypatch.setattr(Daemon, "_renew", lambda self: None)  # no beat finds them
    with override_settings(LINOD={**settings.LINOD, "LEASE": lease}), running_daemon():
        (job,) = ended_jobs()
    assert job.state == "succeeded"
    assert leases[0] > lease * 0.55  # more than the half that the turn has left of the first one


def test_an_answer_that_took_long_is_no_jump_of_the_clock() -> None:
    """Who was frozen while it asked for the time cannot tell to which moment the answer belongs."""
    terms = Terms("default", uuid.uuid4(), lease=3.0)

    async def look() -> tuple[float, float]:
        bridge = Bridge("default")
        scheduler = Scheduler(terms, config(), bridge, Offset(await bridge.call(clock.db_now)))
        seen = await bridge.call(agenda.agenda, "default", terms.owner)
        late = replace(seen, now=seen.now - timedelta(seconds=2), doubt=2.0)
        before = scheduler.offset.moment()
        await scheduler._set_clock(late)
        after = scheduler.offset.moment()
        await scheduler._set_clock(replace(late, doubt=0.0))
        bridge.close()
        return (after - before).total_seconds(), (scheduler.offset.moment() - after).total_seconds()

    doubtful, plain = asyncio.run(look())
    assert 0 <= doubtful < 1
    assert plain < -1
    assert Decision.objects.filter(kind="clock_jumped").count() == 1
