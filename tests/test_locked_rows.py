"""Rows that somebody else has locked hold up themselves, and nothing else."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.db import OperationalError, connection, connections, transaction
from django.test import override_settings

from linod import BaseRequest, agenda, claims, clock, leases, pieces, transactions
from linod.conf import config
from linod.history import Job
from linod.models import BackgroundTask
from linod.procedures import Procedures
from linod.records import Claimed, Finished, Terms
from tests.daemons import DaemonThread, empty_site, make_due, make_task, running_daemon
from tests.test_claims import claim_all, end_of, expire, noop, secondly, terms
from tests.waiting import DEADLINE, wait_until

pytestmark = pytest.mark.django_db(transaction=True)
on_servers = pytest.mark.skipif(
    connection.vendor == "sqlite", reason="there, one transaction writes at a time"
)


@pytest.fixture(autouse=True)
def _site() -> Iterator[None]:
    with empty_site(LEASE=2.0, GRACE=1.0):
        yield


@contextmanager
def locked(lock: Callable[[], object]) -> Iterator[None]:
    """Somebody's transaction that has done this stays open as long as the block lasts."""
    held, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        try:
            with transaction.atomic():
                lock()
                held.set()
                go_on.wait(DEADLINE)
        finally:
            connections.close_all()

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        assert held.wait(DEADLINE)
        yield
    finally:
        go_on.set()
        thread.join(DEADLINE)


def edited(task: BackgroundTask) -> Callable[[], object]:
    return lambda: BackgroundTask.objects.filter(pk=task.pk).update(name="edited")


def two_running() -> tuple[Terms, list[Claimed]]:
    for name in "ab":
        make_due(secondly(name), ago=1)
    return (mine := terms()), claim_all(mine)


@on_servers
def test_an_outcome_whose_task_is_locked_is_held_up_and_no_other() -> None:
    transactions.bound_session("default")
    mine, (one, two) = two_running()
    ends = [end_of(one), end_of(two)]
    with locked(edited(BackgroundTask.objects.get(pk=one.task_id))):
        assert claims.finish(mine, ends) == []
        assert [each.is_held_up for each in ends] == [True, False]
        began = time.monotonic()
        assert claims.finish(mine, ends[:1]) == []  # not waited for again
        assert time.monotonic() - began < 0.9
        assert ends[0].is_held_up
    assert [job.state for job in Job.objects.order_by("task_id")] == ["running", "succeeded"]
    assert claims.finish(mine, ends[:1]) == []
    assert not ends[0].is_held_up
    assert {job.state for job in Job.objects.all()} == {"succeeded"}


@on_servers
def test_a_locked_row_at_the_gate_stays_mine() -> None:
    transactions.bound_session("default")
    for name in "abc":
        make_due(secondly(name), ago=1)
    mine = terms()
    ended, one, two = claim_all(mine, slots=1)
    with locked(lambda: Job.objects.filter(pk=one.id).update(priority=1)):
        _refused, passed = claims.finish_and_gate(mine, [end_of(ended)], [one, two], clock.db_now())
        assert passed == [two]
        assert one.is_held_up
    assert claims.gate(mine, [one], clock.db_now()) == [one]
    assert not one.is_held_up


@on_servers
def test_a_locked_task_that_is_due_is_passed_by_at_once() -> None:
    task = secondly()
    make_due(task, ago=1)
    with locked(edited(task)):
        began = time.monotonic()
        assert claim_all(terms()) == []
        assert time.monotonic() - began < 0.9
    assert len(claim_all(terms())) == 1


@on_servers
def test_a_locked_waiting_job_s_task_is_passed_by() -> None:
    for name in "ab":
        make_due(secondly(name, max_attempts=2, retry_delay=0.0), ago=1)
    mine = terms()
    claims.finish(mine, [end_of(job, "failed") for job in claim_all(mine)])
    found = agenda.peek_waiting("default", mine.owner, clock.db_now() + timedelta(seconds=1), 9)
    with locked(edited(BackgroundTask.objects.get(pk=found[0].task_id))):
        (got,) = claims.claim_waiting(mine, found, 9)
    assert got.task_id == found[1].task_id


@on_servers
def test_what_is_locked_is_taken_over_later_and_the_rest_now() -> None:
    _mine, (one, two) = two_running()
    expire()
    with locked(lambda: leases.guard("default", one)):
        claims.reclaim(terms(), clock.db_now())
        states = dict(Job.objects.values_list("pk", "state"))
        assert states == {one.id: "running", two.id: "lost"}
    claims.reclaim(terms(), clock.db_now())
    assert Job.objects.get(pk=one.id).state == "lost"


def test_a_dead_daemon_s_claim_that_nobody_knows_here_waits_for_who_does() -> None:
    make_due(make_task(noop, "newer", every_unit="secondly", every=10), ago=1)
    (job,) = claim_all(dead := terms(), slots=0)
    expire()
    known = Procedures.registry.pop("newer")
    assert claims.reclaim(terms(), clock.db_now()) == []
    row = Job.objects.get()
    assert (row.state, row.owner, row.active_task, row.fence) == ("waiting", None, None, 2)
    assert claims.gate(dead, [job], clock.db_now()) == []
    Procedures.registry["newer"] = known
    found = agenda.peek_waiting("default", uuid.uuid4(), clock.db_now(), 9)
    assert [each.id for each in claims.claim_waiting(terms(), found, 9)] == [job.id]


def test_a_guard_s_transaction_that_outlasts_the_lease_renews_it() -> None:
    """The heartbeat passes by the locked row: whoever looks behind the COMMIT finds it alive."""
    seen: list[Any] = []

    def body(ar: Any) -> None:
        with transaction.atomic():
            ar.guard()
            past = clock.db_now() - timedelta(seconds=60)
            Job.objects.filter(pk=ar.job.pk).update(lease_until=past)
        seen.append(Job.objects.get(pk=ar.job.pk).lease_until)

    task = make_task(body, "guards")
    with override_settings(LINOD={**settings.LINOD, "LEASE": 3600.0}):  # no heart beats meanwhile
        task.run(BaseRequest())
    (until,) = seen
    assert until > clock.db_now()


# In the daemon


@on_servers
def test_a_locked_task_stops_no_other() -> None:
    may_end, ran = threading.Event(), list[int]()
    slow = make_task(lambda ar: may_end.wait(DEADLINE), "slow")
    other = make_task(lambda ar: ran.append(1), "other", every_unit="secondly", every=1)
    make_due(other)
    with running_daemon():
        slow.request_run()
        wait_until(lambda: Job.objects.running().filter(task=slow).exists(), "the slow one runs")
        with locked(edited(slow)):
            may_end.set()
            before = len(ran)
            wait_until(lambda: len(ran) >= before + 4, "the other one goes on", 8.0)
            assert Job.objects.get(task=slow).state == "running"
        wait_until(lambda: Job.objects.get(task=slow).state == "succeeded", "it is recorded")


def hear_nothing(begun: threading.Event, never: threading.Event) -> None:
    """What a body does that ignores every interruption."""
    begun.set()
    while not never.is_set():
        try:
            never.wait(0.1)
        except BaseException:  # noqa: BLE001 - deaf
            continue


@on_servers
def test_a_stop_does_not_wait_for_what_a_deaf_body_has_locked() -> None:
    begun, never, gone = threading.Event(), threading.Event(), threading.Event()

    def hold(ar: Any) -> None:
        with transaction.atomic():
            ar.guard()
            hear_nothing(begun, never)

    def deaf(ar: Any) -> None:
        try:
            hold(ar)
        finally:
            connections.close_all()
            gone.set()

    make_task(deaf, "deaf").request_run()
    daemon = DaemonThread().start()
    assert begun.wait(DEADLINE)
    began = time.monotonic()
    daemon.stop(DEADLINE)
    took = time.monotonic() - began
    never.set()
    assert gone.wait(DEADLINE)
    assert took < config().GRACE + 2
    assert Job.objects.get().owner == daemon.daemon.owner  # until its lease is over


def test_a_stop_tries_once_more_what_was_locked_at_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun, never, tries = threading.Event(), threading.Event(), []

    def finish(owner: Terms, ended: list[Finished], **options: Any) -> list[Finished]:
        tries.append(ended)
        if len(tries) > 1:
            return original(owner, ended, **options)
        for each in ended:
            each.is_held_up = True
        return []

    original = claims.finish
    make_task(lambda ar: hear_nothing(begun, never), "deaf").request_run()
    daemon = DaemonThread().start()
    assert begun.wait(DEADLINE)
    monkeypatch.setattr(claims, "finish", finish)
    daemon.stop(DEADLINE)
    never.set()
    assert Job.objects.get().state == "lost"


# Outcomes that cannot be recorded as they are


def test_the_next_attempt_does_not_need_the_user_who_asked() -> None:
    user = User.objects.create_user("luc")
    task = make_task(noop, "asked", max_attempts=3)
    task.request_run(user)
    mine, now = terms(), clock.db_now() + timedelta(seconds=1)
    (job,) = claims.claim(mine, agenda.peek_requested("default", mine.owner, now, 1), 1, now)
    user.delete()
    assert claims.finish(mine, [end_of(job, "failed")]) == []
    states = list(Job.objects.order_by("attempt").values_list("state", "requested_by"))
    assert states == [("failed", None), ("waiting", None)]


def test_what_follows_from_an_outcome_may_fail_the_outcome_may_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make_due(secondly(max_attempts=3), ago=1)
    (job,) = claim_all(mine := terms())

    def fail(*args: Any) -> None:
        connection.cursor().execute("INSERT INTO linod_joblog (n) VALUES (NULL)")

    monkeypatch.setattr(claims, "_retry", fail)
    assert claims.finish(mine, [end_of(job, "failed")]) == []
    assert Job.objects.get().state == "failed"


def test_a_body_whose_outcome_cannot_be_recorded_does_not_begin_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its row says that it runs, as that of a job does whose gate nobody heard of."""
    ran: list[int] = []
    task = make_task(lambda ar: ran.append(1), "unwritable")
    finish, gate = claims.finish, claims.finish_and_gate
    outages: list[int] = []

    def refuse(mine: Terms, ended: list[Finished], *args: Any) -> Any:
        if ended:
            for each in ended:
                each.fault = "the disk says no"
            return list(ended), []
        if ran and not outages:
            outages.append(1)
            raise OperationalError("the connection is gone")
        return gate(mine, ended, *args)

    monkeypatch.setattr(claims, "finish_and_gate", refuse)
    other = make_task(noop, "other")
    with running_daemon() as (thread,):
        task.request_run()
        wait_until(lambda: ran, "the body runs")
        wait_until(lambda: thread.daemon.scheduler._unwritable, "it cannot be recorded")
        monkeypatch.setattr(claims, "finish", finish)
        thread.loop.call_soon_threadsafe(thread.daemon.scheduler.look_now)
        wait_until(lambda: outages, "the connection is gone")
        settled = thread.daemon.scheduler
        wait_until(
            lambda: settled._failures_settled == thread.daemon.bridge.failures, "it has settled"
        )
        other.request_run()
        wait_until(lambda: Job.objects.filter(task=other).exists(), "it goes on")
    assert ran == [1]


def test_logs_that_are_too_long_for_one_message_go_in_several(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mine, (one, two) = two_running()
    monkeypatch.setattr(pieces, "MOST_TEXT", 10)
    groups: list[int] = []
    record = claims._record

    def note(batch: Any, mine: Terms, ended: list[Finished]) -> Any:
        groups.append(len(ended))
        return record(batch, mine, ended)

    monkeypatch.setattr(claims, "_record", note)
    ends = [end_of(one, log="123456"), end_of(two, log="1234567890123")]
    assert claims.finish_and_gate(mine, ends, [], clock.db_now()) == ([], [])
    assert groups == [1, 1]
    assert {job.message for job in Job.objects.all()} == {"123456", "1234567890123"}


@on_servers
def test_who_does_not_wait_waits_again_behind_it() -> None:
    transactions.bound_session("default")
    task = secondly()

    def seconds_until_refused() -> float:
        began = time.monotonic()
        with pytest.raises(OperationalError) as refused, transactions.write("default"):
            edited(task)()
        assert transactions.is_locked_out(refused.value)
        return time.monotonic() - began

    with locked(edited(task)):
        with transactions.impatient():
            assert seconds_until_refused() < 0.9
        assert seconds_until_refused() > 0.9
