"""The engine as a whole: a real daemon, in a thread, on a real database."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from django.db import OperationalError, ProgrammingError, connection, transaction
from django.db.models import F
from django.test import override_settings

from linod import (
    bridge,
    claims,
    clock,
    execution,
    executor,
    loopwatch,
    retention,
    scheduler,
    signals,
    upkeep,
    wakeup,
)
from linod import daemon as process
from linod.bridge import Bridge
from linod.conf import config
from linod.exceptions import JobCancelled
from linod.history import Daemon, Decision, Job
from linod.loopwatch import LoopWatch
from linod.models import BackgroundTask
from linod.offset import Offset
from linod.procedures import declare
from linod.records import Terms
from linod.scheduler import Scheduler
from linod.seeking import Turn
from tests.daemons import (
    DaemonThread,
    empty_site,
    ended_jobs,
    make_due,
    make_task,
    running_daemon,
)
from tests.waiting import DEADLINE, wait_until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _site() -> Iterator[None]:
    with empty_site():
        yield


def test_a_due_task_runs_once_and_leaves_its_history() -> None:
    def greet(ar: Any) -> dict[str, int]:
        """Say hello."""
        ar.info("Hello %s", "world")
        logging.getLogger("elsewhere").info("heard as well")
        ar.debug("too quiet")
        ar.progress(1, 2, "half")
        return {"greeted": 1}

    task = make_task(greet, every_unit="secondly", every=3600)
    due_at = make_due(task, ago=2)
    with running_daemon():
        (job,) = ended_jobs()
    assert (job.state, job.due_at, job.trigger, job.result) == (
        "succeeded", due_at, "schedule", {"greeted": 1},
    )  # fmt: skip
    lines = [line[20:] for line in job.message.splitlines()]
    assert lines == [
        f"INFO Start Background task #{task.pk} greet...",
        "INFO Hello world",
        "INFO heard as well",
    ]
    assert job.progress == {"done": 1, "total": 2, "text": "half"}
    task.refresh_from_db()
    assert task.message == job.message
    assert (task.last_start_time, task.last_end_time) == (job.start_time, job.end_time)
    assert task.next_run_at == due_at + timedelta(hours=1)
    row = Daemon.objects.get()
    assert row.state == "stopped"


def test_a_request_wakes_the_daemon() -> None:
    task = make_task(lambda ar: None, "asked")
    task.request_run()
    with override_settings(LINOD=_with(BACKGROUND_SLEEP_TIME=300)), running_daemon():
        ended_jobs(1)
        task.request_run()
        ended_jobs(2)


def _with(**values: Any) -> dict[str, Any]:
    from django.conf import settings

    return {**settings.LINOD, **values}


def test_a_request_during_a_run_starts_another_run_after_it() -> None:
    begun, go_on = threading.Event(), threading.Event()
    runs: list[int] = []

    def slow(ar: Any) -> None:
        """Take its time."""
        runs.append(1)
        begun.set()
        go_on.wait(DEADLINE)

    task = make_task(slow)
    task.request_run()
    with running_daemon():
        assert begun.wait(DEADLINE)
        task.request_run()
        assert task.status.startswith("Running since")
        go_on.set()
        ended_jobs(2)
    assert len(runs) == 2


def test_a_slow_procedure_delays_no_other() -> None:
    go_on = threading.Event()
    slow = make_task(lambda ar: go_on.wait(DEADLINE), "slow")
    quick = make_task(lambda ar: None, "quick", every_unit="secondly", every=1, disabled=True)
    slow.request_run()
    with running_daemon():
        wait_until(slow.is_running, "the slow one runs")
        quick.enable()  # not before: what comes due while the daemon comes up may be missed
        jobs = ended_jobs(3, task=quick)
        assert slow.is_running()  # all the time, so it held nothing up
        go_on.set()
        ended_jobs(1, task=slow)
    assert {job.state for job in Job.objects.ended()} == {"succeeded"}
    assert all(job.missed == 0 for job in jobs)
    assert all(job.lateness < timedelta(seconds=1) for job in jobs if job.lateness)


def test_async_procedures_run_side_by_side_in_the_loop() -> None:
    together: list[int] = []
    all_there = asyncio.Event()

    async def meet(ar: Any) -> None:
        """Wait for the others."""
        together.append(1)
        if len(together) == 5:
            all_there.set()
        await asyncio.wait_for(all_there.wait(), DEADLINE)
        logging.getLogger("elsewhere").warning("met")

    for n in range(5):
        make_task(meet, f"meet{n}").request_run()
    with running_daemon():
        jobs = ended_jobs(5)
    assert {job.state for job in jobs} == {"succeeded"}
    assert all(job.message.endswith("WARNING met\n") for job in jobs)


class Strange(BaseException):
    """Something that is no Exception."""


@pytest.mark.parametrize(
    "error",
    [SystemExit(3), KeyboardInterrupt(), StopIteration(), GeneratorExit(), Strange("x"),
     asyncio.CancelledError(), ValueError("boom \ud800 <b>")],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_whatever_a_body_raises_the_daemon_goes_on(error: BaseException, is_async: bool) -> None:
    def fail(ar: Any) -> None:
        """Raise."""
        raise error

    async def afail(ar: Any) -> None:
        """Raise, asynchronously."""
        raise error

    task = make_task(afail if is_async else fail, "fail")
    other = make_task(lambda ar: None, "other")
    task.request_run()
    with running_daemon():
        (job,) = ended_jobs()
        other.request_run()
        (after,) = ended_jobs(1, task=other)
    assert job.state == "failed"
    expected = RuntimeError if is_async and isinstance(error, StopIteration) else type(error)
    assert expected.__name__ in job.error
    assert "Traceback" in job.message
    assert after.state == "succeeded"
    task.refresh_from_db()
    assert task.disabled
    assert task.status == "Disabled"


def test_a_task_of_an_async_body_cannot_end_the_daemon() -> None:
    async def leave() -> None:
        raise SystemExit(3)

    async def careless(ar: Any) -> None:
        """Start a task that leaves."""
        await asyncio.create_task(leave())

    task, other = make_task(careless), make_task(lambda ar: None, "other")
    task.request_run()
    with running_daemon():
        (job,) = ended_jobs()
        other.request_run()
        ended_jobs(1, task=other, state="succeeded")
    assert job.state == "failed"
    assert "SystemExit in a task of a procedure" in job.error


def test_a_body_that_catches_exceptions_is_stopped_all_the_same() -> None:
    def stubborn(ar: Any) -> None:
        """Go on whatever happens to one item."""
        while True:
            try:
                threading.Event().wait(0.01)
                ar.check_cancelled()
            except Exception:  # noqa: BLE001 - as bodies do
                logging.getLogger("elsewhere").debug("go on")

    make_task(stubborn, timeout=0.2).request_run()
    with running_daemon():
        (job,) = ended_jobs()
    assert job.state == "timed_out"


def test_a_warning_is_a_success_whose_text_is_kept() -> None:
    def warn(ar: Any) -> None:
        """Raise a warning."""
        raise UserWarning("careful")

    task = make_task(warn)
    task.request_run()
    with running_daemon():
        (job,) = ended_jobs()
    assert job.state == "succeeded"
    assert "careful" in job.message
    task.refresh_from_db()
    assert not task.disabled


def test_edits_and_deletes_during_a_run_stand() -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow(ar: Any) -> None:
        """Take its time."""
        begun.set()
        go_on.wait(DEADLINE)

    task = make_task(slow, every_unit="secondly", every=3600)
    task.request_run()
    with running_daemon():
        assert begun.wait(DEADLINE)
        mine = BackgroundTask.objects.get()
        mine.every, mine.log_level = 7200, "DEBUG"
        mine.save()
        go_on.set()
        ended_jobs()
        task.refresh_from_db()
        assert (task.every, task.log_level) == (7200, "DEBUG")
        begun.clear()
        go_on.clear()
        task.request_run()
        assert begun.wait(DEADLINE)
        BackgroundTask.objects.all().delete()
        go_on.set()
        ended_jobs(2)
    assert BackgroundTask.objects.count() == 0 or BackgroundTask.objects.get().pk != task.pk


def test_a_timeout_stops_a_thread_and_a_coroutine() -> None:
    def spin(ar: Any) -> None:
        """Never look up."""
        while True:
            pass

    async def hang(ar: Any) -> None:
        """Wait for nothing."""
        await asyncio.Event().wait()

    make_task(spin, timeout=0.3).request_run()
    make_task(hang, timeout=0.3).request_run()
    with running_daemon():
        jobs = ended_jobs(2)
    assert [job.state for job in jobs] == ["timed_out", "timed_out"]
    assert all(task.disabled for task in BackgroundTask.objects.all())


@pytest.mark.skipif(connection.vendor != "postgresql", reason="where a statement may be under way")
def test_whoever_comes_behind_an_interrupted_body_has_a_connection_that_works(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A site keeps connections; the body before was stopped in the midst of a statement."""
    monkeypatch.setitem(connection.settings_dict, "CONN_MAX_AGE", 600)
    monkeypatch.setattr(executor, "PATIENCE", 0.1)

    def stuck(ar: Any) -> None:
        connection.ensure_connection()
        connection.connection.pgconn.send_query(b"SELECT 1")  # and nobody takes the answer
        while True:
            time.sleep(0.01)

    def count(ar: Any) -> int:
        try:
            return BackgroundTask.objects.count()
        finally:
            connection.close()

    first = make_task(stuck, timeout=0.1)
    second = make_task(count)
    with override_settings(LINOD=_with(MAX_CONCURRENCY=1)), running_daemon():
        first.request_run()
        ended_jobs(1, task=first)
        second.request_run()
        (job,) = ended_jobs(1, task=second)
    assert (job.state, job.result) == ("succeeded", 2), job.error


def change() -> None:
    BackgroundTask.objects.update(name="changed")


def leave_two_blocks() -> None:
    transaction.atomic().__enter__()
    transaction.atomic().__enter__()
    change()


def leave_it_closed() -> None:
    transaction.atomic().__enter__()
    change()
    connection.close()


def leave_it_broken() -> None:
    transaction.atomic().__enter__()
    change()
    connection.connection.close()


def leave_autocommit_off() -> None:
    connection.set_autocommit(False)
    change()


@pytest.mark.parametrize(
    "leave", [leave_two_blocks, leave_it_closed, leave_it_broken, leave_autocommit_off]
)
def test_a_transaction_that_is_left_open_is_undone_and_spoils_no_other_job(
    leave: Callable[[], None],
) -> None:
    first = make_task(lambda ar: leave(), "careless", log_level="WARNING")
    second = make_task(lambda ar: BackgroundTask.objects.count(), "count")
    with override_settings(LINOD=_with(MAX_CONCURRENCY=1)), running_daemon():
        first.request_run()
        (careless,) = ended_jobs(1, task=first)
        second.request_run()
        (job,) = ended_jobs(1, task=second)
    assert (job.state, job.result) == ("succeeded", 2), job.error
    assert (careless.state, careless.message[20:]) == (
        "succeeded",
        f"WARNING Background task #{first.pk} careless left a transaction open"
        " (database 'default'): what it wrote there is rolled back\n",
    )
    assert not BackgroundTask.objects.filter(name="changed").exists()


def test_a_running_job_is_cancelled_cooperatively() -> None:

    begun = threading.Event()

    def patient(ar: Any) -> None:
        """Look up now and then."""
        begun.set()
        while True:
            ar.check_cancelled()
            threading.Event().wait(0.01)

    task = make_task(patient)
    task.request_run()
    with running_daemon():
        assert begun.wait(DEADLINE)
        claims.cancel("default", Job.objects.get().pk, "anna")
        (job,) = ended_jobs()
    assert job.state == "cancelled"
    task.refresh_from_db()
    assert not task.disabled


def test_a_running_coroutine_is_cancelled_by_somebody() -> None:
    begun = threading.Event()

    async def endless(ar: Any) -> None:
        """Wait for ever."""
        begun.set()
        await asyncio.sleep(DEADLINE)

    task = make_task(endless, disable_after=1)
    with running_daemon():
        task.request_run()
        assert begun.wait(DEADLINE)
        assert Job.objects.get().cancel("anna")
        (job,) = ended_jobs(1)
    assert (job.state, job.error) == ("cancelled", "somebody cancelled it")
    assert not BackgroundTask.objects.get().disabled
    line = Decision.objects.get(kind="cancelled")
    assert (line.task, line.job, line.who) == (task, job.pk, "anna")
    assert not job.cancel("ben")


def test_the_daemon_cleans_up_in_small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "BATCH", 5)
    monkeypatch.setattr(upkeep, "UPKEEP", 0.02)
    task = make_task(lambda: None, "noop")
    long_ago = clock.db_now() - timedelta(days=40)
    Job.objects.bulk_create(
        Job(task=task, procedure=task.procedure, due_at=long_ago + timedelta(minutes=n),
            end_time=long_ago + timedelta(hours=1), trigger="schedule", state="succeeded")
        for n in range(60)
    )  # fmt: skip
    with running_daemon() as (daemon,):
        assert daemon.daemon is not None
        daemon.daemon.scheduler.upkeep._next_retention = 0.0
        daemon.daemon.loop.call_soon_threadsafe(daemon.daemon.scheduler.upkeep.look_now)
        wait_until(lambda: Job.objects.count() == 20, "all but the last twenty go")
        wait_until(
            lambda: daemon.daemon.scheduler.upkeep._next_retention > 0, "it waits an hour again"
        )


def test_a_failure_stands_in_the_site_s_log_with_its_traceback_below_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def stumble(ar: Any) -> None:
        raise ValueError("over its own feet")

    task = make_task(stumble)
    task.request_run()
    with running_daemon():
        ended_jobs()
        wait_until(lambda: "failed" in caplog.text, "the failure is told")
    [told] = [record for record in caplog.records if record.getMessage().endswith(" failed")]
    assert told.getMessage() == f"{task} failed"
    assert told.exc_text is not None
    assert told.exc_text.startswith("Traceback (most recent call last):\n")
    assert told.exc_text.endswith("ValueError: over its own feet")


def test_failed_attempts_are_repeated_until_one_succeeds() -> None:
    tries: list[int] = []

    def flaky(ar: Any) -> None:
        """Succeed at the third try."""
        tries.append(1)
        if len(tries) < 3:
            raise OSError("not yet")

    task = make_task(flaky, max_attempts=3, retry_delay=0.01)
    task.request_run()
    with running_daemon():
        jobs = ended_jobs(3)
    assert [(job.attempt, job.state) for job in jobs] == [
        (1, "failed"), (2, "failed"), (3, "succeeded"),
    ]  # fmt: skip
    task.refresh_from_db()
    assert not task.disabled


def test_a_disabled_task_comes_back_by_itself() -> None:
    task = make_task(lambda ar: None, "back", every_unit="secondly", every=1)
    task.disable("a short pause", until=clock.db_now() + timedelta(seconds=1))
    with running_daemon():
        ended_jobs()
    task.refresh_from_db()
    assert not task.disabled
    assert list(Decision.objects.order_by("id").values_list("kind", flat=True)[:2]) == [
        "disabled", "enabled",
    ]  # fmt: skip


def test_two_daemons_do_each_instant_once() -> None:
    owners: set[uuid.UUID] = set()
    both = threading.Event()

    def work(ar: Any) -> None:
        """Wait until both daemons have work: neither can take all of it."""
        owners.add(ar.job.owner)
        if len(owners) == 2:
            both.set()
        both.wait(DEADLINE)

    for n in range(20):
        make_due(make_task(work, f"each{n}", every_unit="secondly", every=1), ago=0)
    with running_daemon(2):
        jobs = ended_jobs(60)
    assert {job.owner for job in jobs} == owners == {row.owner for row in Daemon.objects.all()}
    keys = [(job.task_id, job.due_at) for job in jobs]
    assert len(keys) == len(set(keys))
    # What was claimed and had not begun at the stop was given back.
    others = Job.objects.exclude(state="succeeded").values_list("state", "start_time")
    assert set(others) <= {("waiting", None)}
    for task in BackgroundTask.objects.all():
        mine = list(Job.objects.filter(task=task).order_by("due_at"))
        instants = sum(1 + job.missed for job in mine)
        first, last = mine[0].due_at, mine[-1].due_at
        assert instants - mine[0].missed == 1 + (last - first).total_seconds()


def test_a_stop_waits_for_what_runs() -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow(ar: Any) -> None:
        """Take its time."""
        begun.set()
        go_on.wait(DEADLINE)

    make_task(slow).request_run()
    daemon = DaemonThread().start()
    assert begun.wait(DEADLINE)
    daemon.loop.call_soon_threadsafe(daemon.daemon.stop)
    wait_until(lambda: daemon.daemon.scheduler.stopping, "it stops claiming")
    go_on.set()
    assert daemon.join() == 0
    assert Job.objects.get().state == "succeeded"


def test_a_stop_drops_the_outcome_of_what_was_taken_over(
    caplog: pytest.LogCaptureFixture,
) -> None:
    begun, go_on = threading.Event(), threading.Event()
    told: list[object] = []

    def slow(ar: Any) -> None:
        """Take its time."""
        begun.set()
        go_on.wait(DEADLINE)

    def tell(outcomes: list[object], **kwargs: object) -> None:
        told.extend(outcomes)

    make_task(slow).request_run()
    signals.jobs_finished.connect(tell)
    try:
        daemon = DaemonThread().start()
        assert begun.wait(DEADLINE)
        daemon.loop.call_soon_threadsafe(daemon.daemon.stop)
        wait_until(lambda: daemon.daemon.scheduler.stopping, "it stops claiming")
        lost = {"state": "lost", "active_task": None, "lease_until": None, "owner": None}
        assert Job.objects.update(fence=F("fence") + 1, **lost) == 1
        go_on.set()
        assert daemon.join() == 0
    finally:
        signals.jobs_finished.disconnect(tell)
    assert Job.objects.get().state == "lost"
    assert any("was taken over; its outcome was dropped" in r.message for r in caplog.records)
    assert told == []


@pytest.mark.parametrize("is_async", [False, True])
def test_a_job_whose_thread_ends_outside_of_its_body_ends_the_daemon(
    is_async: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    finished = execution.Execution.finished
    failures = [MemoryError("no room for an outcome")]

    def fail_once(self: Any, outcome: Any) -> Any:
        if failures:
            raise failures.pop()
        return finished(self, outcome)

    async def anothing() -> None:
        """Do nothing."""

    monkeypatch.setattr(execution.Execution, "finished", fail_once)
    make_task(anothing if is_async else lambda: None, "nothing").request_run()
    with override_settings(LINOD=_with(GRACE=0.1)):
        assert DaemonThread().start().join() == process.BROKEN
    assert Job.objects.get().state == "lost"
    (told,) = [r for r in caplog.records if "linod failed and ends" in r.message]
    assert told.exc_info is not None
    assert str(told.exc_info[1]) == "a job's thread ended outside of its procedure"


def test_a_loop_is_left_to_the_watchdog_of_a_service_manager() -> None:
    asked = list[Any]()
    daemon = process.Daemon()
    loop: Any = SimpleNamespace(call_soon_threadsafe=asked.append)
    daemon.loop_watch = LoopWatch(loop, process.BROKEN)
    daemon.notifier.watchdog = 600.0
    daemon._ask_loop()
    assert asked == []
    daemon.notifier.watchdog = None
    daemon._ask_loop()
    assert asked == [daemon.loop_watch._answer]


def test_a_loop_that_hangs_ends_the_process(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ends, go_on = list[int](), threading.Event()

    async def blocker() -> None:
        """Wait as no coroutine may."""
        go_on.wait(DEADLINE)

    make_task(blocker).request_run()
    monkeypatch.setattr(process.os, "_exit", ends.append)
    with override_settings(LINOD=_with(LEASE=0.6)):
        daemon = DaemonThread().start()
        wait_until(lambda: Job.objects.running().exists(), "the loop is blocked")
        assert ends == []  # two minutes have not passed
        monkeypatch.setattr(loopwatch, "HUNG", 0.1)
        wait_until(lambda: ends, "the heart notices")
        monkeypatch.setattr(loopwatch, "HUNG", 120.0)
        go_on.set()
        assert daemon.stop() == 0
    assert set(ends) == {process.BROKEN}
    said = next(r.message for r in caplog.records if "has not answered for 0.1" in r.message)
    assert "in blocker\n    go_on.wait(DEADLINE)" in said


@pytest.mark.filterwarnings(
    "ignore:Exception in thread linod-database:pytest.PytestUnhandledThreadExceptionWarning"
)
def test_a_daemon_without_its_database_thread_ends(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow(ar: Any) -> None:
        """Take its time."""
        begun.set()
        go_on.wait(DEADLINE)

    make_task(slow).request_run()
    with override_settings(LINOD=_with(LEASE=2, GRACE=0.1)):
        daemon = DaemonThread().start()
        assert begun.wait(DEADLINE)

        def fail(*args: object) -> None:
            raise MemoryError

        monkeypatch.setattr(process, "LAST_TURN", 0.1)
        monkeypatch.setattr(bridge, "_deliver", fail)
        assert daemon.join() == process.BROKEN
        monkeypatch.undo()
        go_on.set()
        assert any("its thread for the database has ended" in r.message for r in caplog.records)
        # What it held is somebody else's after a lease.
        with running_daemon(1):
            ended_jobs(1, state="lost")


@override_settings()
def test_what_does_not_end_in_time_is_lost_and_says_so() -> None:
    begun, never = threading.Event(), threading.Event()

    def deaf(ar: Any) -> None:
        """Ignore every sign."""
        begun.set()
        while not never.is_set():
            try:
                never.wait(DEADLINE)
            except BaseException:  # noqa: BLE001 - that is what this test is about
                continue

    make_task(deaf).request_run()
    with override_settings(LINOD=_with(GRACE=0.2)):
        daemon = DaemonThread().start()
        assert begun.wait(DEADLINE)
        began = time.monotonic()
        assert daemon.stop() == 0
        assert time.monotonic() - began < 5
    job = Job.objects.get()
    assert (job.state, job.error) == ("lost", "stopped with the daemon")
    assert Decision.objects.get(kind="lost", job=job.pk).reason == "stopped with the daemon"
    assert not BackgroundTask.objects.get().disabled
    never.set()


def test_a_cancellation_at_the_end_of_grace_is_heard() -> None:
    begun = threading.Event()
    heard: list[str] = []

    def polite(ar: Any) -> None:
        """Clean up when told to stop."""
        begun.set()
        try:
            while True:
                ar.check_cancelled()
                threading.Event().wait(0.01)
        except JobCancelled as error:
            heard.append(str(error))
            raise

    make_task(polite).request_run()
    with override_settings(LINOD=_with(GRACE=0.1)):
        daemon = DaemonThread().start()
        assert begun.wait(DEADLINE)
        assert daemon.stop() == 0
    assert heard == ["linod stops"]
    job = Job.objects.get()
    assert (job.state, job.error) == ("lost", "linod stops")  # nobody cancelled it
    assert not BackgroundTask.objects.get().disabled


def test_who_heeds_the_end_of_grace_runs_again_like_who_ignores_it() -> None:
    begun = threading.Event()

    def polite(ar: Any) -> int:
        """End well at the second attempt."""
        begun.set()
        while ar.job.attempt == 1:
            ar.check_cancelled()
            threading.Event().wait(0.01)
        return ar.job.attempt

    task = make_task(polite, rerun_lost=True, max_attempts=2)
    task.request_run()
    with override_settings(LINOD=_with(GRACE=0.1)):
        daemon = DaemonThread().start()
        assert begun.wait(DEADLINE)
        assert daemon.stop() == 0
    assert Job.objects.get().state == "waiting"
    with running_daemon():
        (job,) = ended_jobs()
    assert (job.state, job.attempt, job.result) == ("succeeded", 2, 2)
    assert "Stopped: linod stops" in job.message
    assert Decision.objects.get(kind="lost").reason.startswith("linod stops; attempt 1 of 2")


def test_what_somebody_cancelled_before_the_stop_stays_cancelled() -> None:
    cancelled = threading.Event()

    def slow_to_heed(ar: Any) -> None:
        """Hear that somebody cancelled it, and take until the daemon stops."""
        try:
            wait_until(ar.check_cancelled, "it is told")
        except JobCancelled:
            cancelled.set()
            wait_until(stopping.is_set, "the daemon stops")
            raise

    stopping = threading.Event()
    make_task(slow_to_heed, rerun_lost=True, max_attempts=2).request_run()
    with override_settings(LINOD=_with(GRACE=0.1)):
        daemon = DaemonThread().start()
        wait_until(Job.objects.running().exists, "it runs")
        Job.objects.get().cancel("anna")
        assert cancelled.wait(DEADLINE)
        cancel_all = daemon.daemon.scheduler.executor.cancel_all

        def cancel_all_and_tell(reason: str) -> None:
            cancel_all(reason)
            stopping.set()

        daemon.daemon.scheduler.executor.cancel_all = cancel_all_and_tell
        assert daemon.stop() == 0
    job = Job.objects.get()
    assert (job.state, job.error) == ("cancelled", "somebody cancelled it")


def test_once_runs_what_is_due_and_ends() -> None:
    due = make_task(lambda ar: None, "due", every_unit="secondly", every=3600)
    make_due(due, ago=10)
    make_task(lambda ar: None, "asked").request_run()
    make_task(lambda ar: None, "later", every_unit="daily")

    def fail(ar: Any) -> None:
        """Fail."""
        raise ValueError

    make_task(fail).request_run()
    daemon = DaemonThread(once=True).start()
    assert daemon.join() == 0
    assert daemon.daemon is not None
    assert daemon.daemon.failures == 1
    ran = Job.objects.values_list("procedure", "state")
    assert sorted((str(name), state) for name, state in ran) == [
        ("asked", "succeeded"), ("due", "succeeded"), ("fail", "failed"),
    ]  # fmt: skip


def test_a_job_log_is_stored_while_it_runs() -> None:
    go_on = threading.Event()

    def talk(ar: Any) -> None:
        """Talk, then wait."""
        ar.info("so far so good")
        ar.progress(3)
        go_on.wait(DEADLINE)
        ar.info("done")

    task = make_task(talk)
    task.request_run()
    with running_daemon():
        wait_until(lambda: Job.objects.filter(progress__isnull=False).exists(), "progress shows")
        job = Job.objects.get()
        assert "so far so good" in job.message
        assert job.progress == {"done": 3, "total": None, "text": ""}
        go_on.set()
        (job,) = ended_jobs()
    assert [line.split(" ", 3)[3] for line in job.message.splitlines()] == [
        f"Start Background task #{task.pk} talk...", "so far so good", "done",
    ]  # fmt: skip
    task.refresh_from_db()
    assert task.message == job.message


def test_a_missing_daemon_user_is_said_and_nobody() -> None:
    seen: list[Any] = []
    make_task(lambda ar: seen.append(ar.user), "who").request_run()
    with override_settings(LINOD=_with(DAEMON_USER="nobody")), running_daemon():
        ended_jobs()
    assert seen == [None]


def test_the_request_knows_its_task_and_job() -> None:
    seen: list[Any] = []

    def look(ar: Any) -> None:
        """Look around."""
        seen.append((ar.task.pk, ar.job.state, ar.arguments, ar.due_at))

    task = make_task(look, arguments={"days": 7})
    task.request_run()
    with running_daemon():
        (job,) = ended_jobs()
    assert seen == [(task.pk, "running", {"days": 7}, job.due_at)]


def test_a_requested_task_waits_for_the_one_it_runs_after() -> None:
    order: list[str] = []
    waker = make_task(lambda ar: None, "waker")
    earlier = make_task(lambda ar: order.append("earlier"), "earlier", every_unit="daily")
    procedure = declare(lambda ar: order.append("later"), "later", run_after="earlier")
    later = BackgroundTask.objects.create(procedure=procedure)
    with override_settings(LINOD=_with(BACKGROUND_SLEEP_TIME=300)), running_daemon():
        waker.request_run()
        ended_jobs(1, task=waker)
        make_due(earlier)
        later.request_run()
        ended_jobs(1, task=later)
    assert order == ["earlier", "later"]


def test_requests_without_end_do_not_starve_what_is_due() -> None:
    """A hint is answered without the agenda, but never twice in a row."""
    tasks = [make_task(lambda ar: None, f"asked{n}") for n in range(2)]
    terms = Terms("default", uuid.uuid4(), lease=30.0)
    turns = [Turn(), Turn()]

    async def look_twice() -> None:
        bridge = Bridge("default")
        scheduler = Scheduler(terms, config(), bridge, Offset(await bridge.call(clock.db_now)))
        for task, turn in zip(tasks, turns, strict=True):
            await bridge.call(task.request_run)
            scheduler.look_now()
            await bridge.call(scheduler.seeker.look, turn, 0)
        bridge.close()

    asyncio.run(look_twice())
    assert [turn.claimed for turn in turns] == [1, 1]
    assert [turn.agenda is None for turn in turns] == [True, False]


def test_jobs_of_a_dead_daemon_are_given_up() -> None:
    task = make_task(lambda ar: None, "orphan", every_unit="secondly", every=3600)
    make_due(task, ago=5)
    from linod import agenda, claims

    dead = Terms("default", uuid.uuid4(), lease=0.5)
    now = clock.db_now()
    claims.claim(dead, agenda.peek("default", dead.owner, now, 1), 1, now)
    with running_daemon():
        (job,) = ended_jobs()
    assert job.state == "lost"
    task.refresh_from_db()
    assert task.status.startswith("Scheduled to run at")


@pytest.mark.skipif(connection.vendor != "sqlite", reason="SQLite only")
def test_a_long_lock_on_sqlite_is_sat_out() -> None:
    task = make_task(lambda ar: None, "patient")
    with running_daemon():
        other = connection.copy("other")
        with other.cursor() as cursor:
            cursor.execute("BEGIN EXCLUSIVE")
            wakeup.send()
            threading.Event().wait(8)
            cursor.execute("COMMIT")
        other.close()
        task.request_run()
        (job,) = ended_jobs()
    assert job.state == "succeeded"


@pytest.mark.skipif(connection.vendor == "sqlite", reason="needs a server")
def test_lost_connections_are_made_again() -> None:
    task = make_task(lambda ar: None, "again", every_unit="secondly", every=1)
    make_due(task)
    with running_daemon():
        ended_jobs(1)
        _kill_all_other_connections()
        ended_jobs(4)
    assert {job.state for job in Job.objects.all()} == {"succeeded"}


@pytest.mark.skipif(connection.vendor != "postgresql", reason="PostgreSQL only")
def test_a_failover_to_a_server_that_takes_no_writes_yet_is_sat_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It answers, and says of each write that it takes none (25006)."""
    caplog.set_level(logging.DEBUG, "linod")
    task = make_task(lambda ar: None, "patient")
    name = connection.ops.quote_name(connection.settings_dict["NAME"])
    with running_daemon() as (thread,), connection.cursor() as cursor:
        cursor.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        try:
            _kill_all_other_connections()
            task.request_run()  # in a session from before
            wait_until(
                lambda: "trying again: cannot execute" in caplog.text or thread.has_ended,
                "it is refused a write",
            )
        finally:
            cursor.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
        (job,) = ended_jobs()
    assert job.state == "succeeded"


def _kill_all_other_connections() -> None:
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            return
        cursor.execute(
            "SELECT id FROM information_schema.processlist"
            " WHERE db = DATABASE() AND id <> CONNECTION_ID()"
        )
        for (number,) in cursor.fetchall():
            cursor.execute(f"KILL {int(number)}")


@pytest.mark.parametrize("where", ["claim", "gate"])
def test_a_commit_whose_answer_was_lost_loses_nothing(
    where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The claim, or the gate, is committed and then the connection is gone."""
    ran: list[Any] = []
    for n in range(3):
        make_task(lambda ar: ran.append(ar.task.pk), f"each{n}").request_run()
    cut = threading.Event()
    original = getattr(claims, "claim" if where == "claim" else "finish_and_gate")

    def claim_nothing_running(terms: Any, candidates: Any, slots: int, now: Any) -> Any:
        return original_claim(terms, candidates, 0, now)

    def commit_then_fail(*args: Any) -> Any:
        result = original(*args)
        if not cut.is_set() and (where == "claim" or args[2]):
            cut.set()
            raise OperationalError("the connection is gone")
        return result

    original_claim = claims.claim
    if where == "gate":
        monkeypatch.setattr(claims, "claim", claim_nothing_running)
    monkeypatch.setattr(claims, original.__name__, commit_then_fail)
    with running_daemon():
        ended_jobs(3)
    assert cut.is_set()
    assert len(ran) == 3
    assert set(Job.objects.values_list("state", flat=True)) == {"succeeded"}


def test_claimed_jobs_behind_slow_ones_are_given_to_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    go_on = threading.Event()
    make_task(lambda ar: go_on.wait(DEADLINE), "slow").request_run()
    quick = make_task(lambda ar: None, "quick")
    quick.request_run()
    monkeypatch.setattr(Scheduler, "_prefetch", lambda self: 5)
    with override_settings(LINOD=_with(MAX_CONCURRENCY=1)), running_daemon(1):
        wait_until(lambda: Job.objects.filter(state="claimed").exists(), "one is claimed ahead")
        with running_daemon(1):
            ended_jobs(1, task=quick)
            go_on.set()


def _thirty_of_which_two_block(go_on: threading.Event) -> tuple[list[int], threading.Event]:
    """Thirty requested tasks: the 13th and the 14th body wait; all count as brief."""
    begun: list[int] = []
    are_blocked = threading.Event()
    counting = threading.Lock()

    def body(ar: Any) -> None:
        """Count, and wait when it is its turn."""
        with counting:
            begun.append(ar.task.pk)
            number = len(begun)
        if number == 14:
            are_blocked.set()
        if number in (13, 14):
            go_on.wait(60)

    procedure = make_task(body).procedure
    BackgroundTask.objects.bulk_create(
        BackgroundTask(procedure=procedure, seqno=n) for n in range(2, 31)
    )
    BackgroundTask.objects.update(requested_at=clock.db_now())
    return begun, are_blocked


@pytest.fixture
def _brief(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executor, "BRIEF", 60.0)
    monkeypatch.setattr(scheduler, "STALLED", 0.1)
    monkeypatch.setattr(Scheduler, "_prefetch", lambda self: 28)


@pytest.mark.usefixtures("_brief")
def test_jobs_ahead_of_slots_that_stall_are_given_to_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    withdrawn: list[Any] = []
    take_unbegun = executor.Executor.take_unbegun

    def noted(self: Any) -> Any:
        withdrawn.extend(jobs := take_unbegun(self))
        return jobs

    monkeypatch.setattr(executor.Executor, "take_unbegun", noted)
    go_on = threading.Event()
    begun, are_blocked = _thirty_of_which_two_block(go_on)
    with override_settings(LINOD=_with(MAX_CONCURRENCY=2)), running_daemon(1):
        assert are_blocked.wait(30)
        with running_daemon(1):
            ended_jobs(28, state="succeeded")
        go_on.set()
        ended_jobs(30, state="succeeded")
    assert withdrawn
    assert len(begun) == len(set(begun)) == 30


@pytest.mark.usefixtures("_brief")
def test_a_stop_gives_back_what_is_ahead_of_the_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler, "STALLED", 60.0)
    go_on = threading.Event()
    begun, are_blocked = _thirty_of_which_two_block(go_on)
    with override_settings(LINOD=_with(MAX_CONCURRENCY=2)):
        daemon = DaemonThread().start()
        assert are_blocked.wait(30)
        wait_until(
            lambda: Job.objects.running().count() > 2, "some have passed the gate without a slot"
        )
        assert daemon.daemon is not None
        daemon.loop.call_soon_threadsafe(daemon.daemon.stop)
        wait_until(lambda: Job.objects.running().count() == 2, "they are given back")
        go_on.set()
        assert daemon.join() == 0
    assert set(Job.objects.values_list("state", flat=True)) == {"succeeded", "waiting"}
    assert Job.objects.filter(state="succeeded").count() == len(begun) == 14


def test_all_slots_stuck_ends_the_daemon_with_70(monkeypatch: pytest.MonkeyPatch) -> None:
    never = threading.Event()

    def deaf(ar: Any) -> None:
        """Ignore every sign."""
        while not never.is_set():
            try:
                never.wait(DEADLINE)
            except BaseException:  # noqa: BLE001 - that is what this test is about
                continue

    monkeypatch.setattr(executor, "STUCK_AFTER", 0.1)
    make_task(deaf, timeout=0.1).request_run()
    with override_settings(LINOD=_with(MAX_CONCURRENCY=1, GRACE=0.1, BACKGROUND_SLEEP_TIME=0.2)):
        daemon = DaemonThread().start()
        assert daemon.join() == 70
    assert Job.objects.get().state == "lost"
    never.set()


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("claims.finish", "1 outcomes could not be recorded: permission denied"),
        ("farewell.Farewell._give_back", "Other daemons wait for a lease: permission denied"),
        ("farewell.Farewell._sign", "Other daemons wait for a lease: permission denied"),
    ],
)
def test_what_the_database_refuses_at_the_stop_is_a_line_and_keeps_the_exit_code(
    what: str, told: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def body(ar: Any) -> None:
        """Wait."""
        begun.set()
        go_on.wait(DEADLINE)

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise ProgrammingError("permission denied\nLINE 1: UPDATE")

    async def fail(self: Scheduler) -> None:
        raise RuntimeError("a defect")

    make_task(body).request_run()
    daemon = DaemonThread().start()
    assert begun.wait(DEADLINE)
    monkeypatch.setattr(f"linod.{what}", refuse)
    monkeypatch.setattr(Scheduler, "tick", fail)
    go_on.set()  # its end wakes the loop
    assert daemon.join() == 70
    said = [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]
    assert said == ["linod failed and ends", told]


@pytest.mark.parametrize("once", [False, True])
def test_who_waits_for_an_absent_database_can_be_stopped(
    once: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = threading.Event()

    def absent(self: process.Daemon) -> datetime:
        asked.set()
        raise OperationalError("the server does not answer")

    monkeypatch.setattr(process.Daemon, "_come_up", absent)
    daemon = DaemonThread(once=once)
    daemon._thread.start()
    assert asked.wait(DEADLINE)
    assert daemon.stop() == 0
    assert daemon.daemon.failures == 0
