"""Jobs that have passed the gate before a slot is free for them, on their worst days."""

from __future__ import annotations

import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.conf import settings
from django.db import OperationalError
from django.test import override_settings

from linod import claims, clock, executor, scheduler
from linod import daemon as process
from linod.executor import Executor
from linod.history import Job
from linod.models import BackgroundTask
from linod.records import Terms
from linod.scheduler import Scheduler
from tests.daemons import (
    DaemonThread,
    ended_jobs,
    make_task,
    only_these_procedures,
    running_daemon,
    wait_until,
)

pytestmark = pytest.mark.django_db(transaction=True)

QUICK = 4


@pytest.fixture(autouse=True)
def _site(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One slot; bodies seem short, and nothing is given back for a long time."""
    monkeypatch.setattr(Executor, "mean_duration", lambda self: 0.0)
    monkeypatch.setattr(Scheduler, "_prefetch", lambda self: QUICK)
    monkeypatch.setattr(scheduler, "STALLED", 60.0)
    # Not pytest's tmp_path: a socket's path must be short.
    with tempfile.TemporaryDirectory(prefix="linod") as folder:
        options = {
            "RUN_DIR": folder, "SITE": "tests", "GRACE": 20.0, "MAX_CONCURRENCY": 1, "LEASE": 6,
            "BACKGROUND_SLEEP_TIME": 0.5,
        }  # fmt: skip
        with only_these_procedures(), override_settings(LINOD=options):
            BackgroundTask.objects.all().delete()
            yield


class Site:
    """One body that holds the slot, and some short ones behind it."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.begun, self.go_on = threading.Event(), threading.Event()
        self.slow = make_task(lambda ar: self._hold(), "slow")
        self.slow.request_run()
        for n in range(QUICK):
            make_task(lambda ar: self.ran.append(ar.task.name), f"quick{n}").request_run()

    def _hold(self) -> None:
        self.ran.append("slow")
        self.begun.set()
        self.go_on.wait(30)

    @contextmanager
    def ahead(self) -> Iterator[tuple[Any, Job]]:
        """A daemon whose slot is held; yields it and the job that is ahead."""
        with running_daemon() as (thread,):
            executor = thread.daemon.scheduler.executor  # type: ignore[union-attr]
            try:
                wait_until(lambda: self.begun.is_set() and executor.is_ahead, "a job is ahead")
                (job,) = Job.objects.running().exclude(task=self.slow)
                yield thread, job
            finally:
                self.go_on.set()

    def check(self) -> None:
        """Each body began once, and its job says so."""
        ended_jobs(QUICK + 1)
        assert sorted(self.ran) == sorted(["slow", *(f"quick{n}" for n in range(QUICK))])
        assert set(Job.objects.values_list("state", flat=True)) == {"succeeded"}


def on_loop(thread: Any, action: Any, *args: Any) -> None:
    """Call it in the daemon's event loop, and wait until that is done."""
    done = threading.Event()
    thread.loop.call_soon_threadsafe(lambda: (action(*args), done.set()))
    assert done.wait(20)


def test_they_begin_one_after_another() -> None:
    site = Site()
    with site.ahead():
        site.go_on.set()
        site.check()


@pytest.mark.parametrize("fault", ["", "before", "after"])
def test_behind_a_slow_one_they_are_given_to_others(
    fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when giving back fails, before its COMMIT or in the answer to it."""
    real, faults = claims.give_back, [fault] if fault else []

    def give_back(terms: Any, jobs: Any) -> None:
        if "before" in faults:
            faults.clear()
            raise OperationalError("the connection is gone")
        real(terms, jobs)
        if faults:
            faults.clear()
            raise OperationalError("the connection is gone")

    monkeypatch.setattr(claims, "give_back", give_back)
    site = Site()
    with site.ahead() as (_thread, job):
        monkeypatch.setattr(scheduler, "STALLED", 0.2)
        with running_daemon():
            ended_jobs(QUICK)
            assert Job.objects.get(pk=job.pk).state == "succeeded"
            site.go_on.set()
            site.check()
    assert faults == []


def test_a_stop_gives_them_back() -> None:
    site = Site()
    with site.ahead() as (thread, job):
        on_loop(thread, thread.daemon.stop)
        wait_until(lambda: not thread.daemon.scheduler.executor.is_ahead, "it is withdrawn")
        site.go_on.set()
        assert thread.join() == 0
        assert Job.objects.get(pk=job.pk).state == "waiting"
        assert site.ran == ["slow"]
    assert Job.objects.filter(state="waiting").count() == QUICK
    with running_daemon():
        site.check()


def test_who_is_cancelled_never_begins() -> None:
    site = Site()
    with site.ahead() as (thread, job):
        assert job.cancel("anna")
        executor = thread.daemon.scheduler.executor
        wait_until(
            lambda: any(
                each.job.id == job.pk and each.cancellation.is_set()
                for each in list(executor.running.values())
            ),
            "the daemon hears of it",
        )
        site.go_on.set()
        ended_jobs(QUICK + 1)
    assert Job.objects.get(pk=job.pk).state == "cancelled"
    assert len(site.ran) == QUICK


def test_who_is_cancelled_and_then_given_back_never_begins() -> None:
    site = Site()
    with site.ahead() as (thread, job):
        assert job.cancel("anna")
        on_loop(thread, thread.daemon.stop)
        wait_until(lambda: not thread.daemon.scheduler.executor.is_ahead, "it is withdrawn")
        site.go_on.set()
        assert thread.join() == 0
    assert Job.objects.get(pk=job.pk).state == "cancelled"
    assert site.ran == ["slow"]


def test_an_interruption_of_what_has_not_begun_does_not_count_as_stuck() -> None:
    site = Site()
    with site.ahead() as (thread, job):
        executor = thread.daemon.scheduler.executor
        execution = next(e for e in executor.running.values() if e.job.id == job.pk)
        on_loop(thread, executor._interrupt, execution)
        on_loop(thread, executor.withdraw)
        assert executor._interrupted == {}
        site.go_on.set()
        ended_jobs(QUICK + 1)


def take_from(owner: uuid.UUID) -> None:
    """As another daemon does when that one's leases are over."""
    past = clock.db_now() - timedelta(seconds=1)
    Job.objects.filter(owner=owner, lease_until__isnull=False).update(lease_until=past)
    claims.reclaim(Terms("default", uuid.uuid4(), lease=-1.0), clock.db_now())


def test_when_the_leases_are_not_trusted_none_begins() -> None:
    site = Site()
    with site.ahead() as (thread, job):
        on_loop(thread, thread.daemon.scheduler.distrust, "its lease could not be renewed")
        site.go_on.set()
        ended_jobs(QUICK + 1)
    assert site.ran[0] == "slow"
    assert len(site.ran) == QUICK + 1  # given back, and claimed anew
    assert Job.objects.get(pk=job.pk).fence > 1


def test_who_was_frozen_for_a_lease_begins_none_that_others_have_lost() -> None:
    """The worker's thread goes on before anything else of the process does."""
    site = Site()
    with site.ahead() as (thread, job):
        heart = thread.daemon.heart
        heart._last -= heart.patience
        take_from(thread.daemon.owner)
        site.go_on.set()
        wait_until(lambda: heart.is_trusted, "the heart beats again")
        ended_jobs(QUICK + 1)
    assert Job.objects.get(pk=job.pk).state == "lost"
    assert job.procedure.name not in site.ran
    assert len(site.ran) == QUICK


def test_a_turn_that_comes_back_after_the_stop_begins_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The database was slow; what the turn has claimed is given back, and not run as well."""
    site = Site()
    claimed, go_on, given_up = threading.Event(), threading.Event(), threading.Event()
    real_claim, real_give_up = claims.claim, Executor.give_up

    def claim(*args: Any) -> Any:
        got = real_claim(*args)
        claimed.set()
        assert go_on.wait(30)
        return got

    def give_up(self: Executor, reason: str) -> Any:
        given_up.set()
        return real_give_up(self, reason)

    monkeypatch.setattr(claims, "claim", claim)
    monkeypatch.setattr(Executor, "give_up", give_up)
    monkeypatch.setattr(process, "LAST_TURN", 0.1)
    thread = DaemonThread().start()
    assert claimed.wait(30)
    on_loop(thread, thread.daemon.stop)  # type: ignore[union-attr]
    assert given_up.wait(30)
    go_on.set()
    assert thread.join() == 0
    assert site.ran == []
    assert set(Job.objects.values_list("state", flat=True)) == {"waiting"}


def test_while_many_wait_all_that_may_begin_are_recorded_by_one_commit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recorded: list[int] = []

    def finish_and_gate(terms: Terms, ended: Any, jobs: Any, now: datetime) -> Any:
        recorded.append(len(ended))
        return original(terms, ended, jobs, now)

    original = claims.finish_and_gate
    monkeypatch.setattr(claims, "finish_and_gate", finish_and_gate)
    monkeypatch.setattr(executor, "TOGETHER", 30.0)
    monkeypatch.setattr(executor, "BRIEF", 30.0)
    monkeypatch.setattr(Scheduler, "_prefetch", lambda self: 13)
    for n in range(15):
        make_task(lambda ar: time.sleep(0.01), f"brief{n}").request_run()
    with override_settings(LINOD=settings.LINOD | {"MAX_CONCURRENCY": 2}), running_daemon():
        ended_jobs(15)
    # Two slots, and as many jobs ahead of them: from the claim on.
    assert [number for number in recorded if number] == [4, 4, 4, 2, 1]


def test_behind_a_body_that_is_not_short_the_next_thread_goes_on() -> None:
    """They were given to one thread, which was to tell of all of them at the end."""
    begun, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        begun.set()
        go_on.wait(30)

    for name, body in (("first", str), ("slow", hold), ("next", str)):
        make_task(lambda ar, body=body: body(), name).request_run()
    with override_settings(LINOD=settings.LINOD | {"MAX_CONCURRENCY": 3}), running_daemon():
        try:
            assert begun.wait(20)
            ended = Job.objects.filter(state="succeeded")
            wait_until(lambda: ended.count() == 2, "what is before it and behind it is recorded")
            assert Job.objects.get(task__name="slow").state == "running"
        finally:
            go_on.set()
        ended_jobs(3)
