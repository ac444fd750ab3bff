"""Running a task here and now: what is recorded, what is refused, and who may interfere."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.contrib.auth import get_user_model
from django.db import OperationalError, connections, transaction
from django.db.models import F
from django.db.utils import ConnectionHandler
from django.test import override_settings

from linod import Procedures, alerts, claims, clock, inline, leases, login, pieces
from linod.capture import HEAD, TAIL
from linod.exceptions import AlreadyRunning, InsideTransaction, NotMine, UnknownProcedure
from linod.execution import MESSAGE
from linod.history import Decision, Job, JobLog
from linod.models import BackgroundTask
from linod.procedures import Procedure, declare
from linod.requests import BaseRequest
from tests.daemons import only_these_procedures, wait_until

pytestmark = pytest.mark.django_db(transaction=True)

DEADLINE = 20.0


@pytest.fixture(autouse=True)
def _registry(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(inline, "WRITE_EVERY", 0.05)
    with only_these_procedures():
        BackgroundTask.objects.all().delete()
        yield
        alerts.flush(DEADLINE)


def make(func: Callable[..., Any], **values: Any) -> BackgroundTask:
    declare(func, "body")
    return BackgroundTask.objects.create(procedure=Procedures.body, **values)


def run(task: BackgroundTask, how: str = "run") -> Job:
    ar = BaseRequest()
    return task.run(ar) if how == "run" else async_to_sync(task.arun)(ar)


def stored(task: BackgroundTask) -> BackgroundTask:
    return BackgroundTask.objects.get(pk=task.pk)


def lines(job: Job) -> list[str]:
    """The lines of a job's log without their times."""
    return [line.split(" ", 2)[-1] for line in job.message.splitlines()]


BOTH = pytest.mark.parametrize("how", ["run", "arun"])


def speak(ar: Any) -> dict[str, int]:
    ar.info("72 pages have been updated.")
    return {"pages": 72}


async def aspeak(ar: Any) -> dict[str, int]:
    await ar.ainfo("72 pages have been updated.")
    return {"pages": 72}


# What is recorded


@BOTH
@pytest.mark.parametrize("body", [speak, aspeak])
def test_a_run_is_recorded_and_shown_on_the_task(how: str, body: Callable[..., Any]) -> None:
    task = make(body, every_unit="daily", arguments={"days": 7})
    before = stored(task)
    job = run(task, how)
    label = f"Start Background task #{task.pk} body..."
    assert (job.state, job.trigger, job.attempt) == ("succeeded", "request", 1)
    assert (job.result, job.error, job.arguments) == ({"pages": 72}, "", {"days": 7})
    assert (job.task, job.procedure, job.log_level) == (task, Procedures.body, "INFO")
    assert (job.active_task, job.lease_until) == (None, None)
    assert lines(job) == [f"INFO {label}", "INFO 72 pages have been updated."]
    assert job.start_time is not None
    assert job.end_time is not None
    assert before.last_start_time is None
    assert clock.db_now() >= job.end_time >= job.start_time >= job.due_at
    for each in (task, stored(task)):  # updated in place
        assert (each.last_start_time, each.last_end_time) == (job.start_time, job.end_time)
        assert each.message == job.message
        assert (each.next_run_at, each.version) == (before.next_run_at, 0)
        assert each.status.startswith("Scheduled to run at ")
    assert Job.objects.count() == 1


def test_the_plugin_s_session(capsys: pytest.CaptureFixture[str]) -> None:
    get_user_model().objects.create_user("robin")

    def update_publisher_pages(ar: Any) -> None:
        ar.info("Update published pages...")
        ar.info("%d pages have been updated.", 72)

    declare(update_publisher_pages, every_unit="daily")
    BackgroundTask.objects.create(procedure="update_publisher_pages", every_unit="daily")
    bt = BackgroundTask.objects.get(procedure=Procedures.update_publisher_pages)
    assert bt.status == "Not started"
    ar = login("robin")
    assert async_to_sync(bt.start_task)(ar) is None
    assert capsys.readouterr().out == (
        f"Start Background task #{bt.pk} update_publisher_pages...\n"
        "Update published pages...\n"
        "72 pages have been updated.\n"
    )
    assert Job.objects.get().requested_by == ar.user
    assert bt.status.startswith("Scheduled to run at ")
    assert bt.status.endswith(" from now)")
    bt.last_start_time = None
    bt.save()
    assert stored(bt).status == "Not started"


def test_what_the_procedure_receives() -> None:
    seen: dict[str, Any] = {}

    def body(ar: Any) -> None:
        seen.update(
            user=ar.user, arguments=ar.arguments, task=ar.task, due_at=ar.due_at,
            state=ar.job.state, job=ar.job.pk,
        )  # fmt: skip

    robin = get_user_model().objects.create_user("robin")
    task = make(body, arguments={"days": 7})
    job = task.run(BaseRequest(robin))
    assert seen == {
        "user": robin, "arguments": {"days": 7}, "task": task, "due_at": job.due_at,
        "state": "running", "job": job.pk,
    }  # fmt: skip


def test_another_logger_may_hear_the_lines(caplog: pytest.LogCaptureFixture) -> None:
    task = make(speak)
    task.run(BaseRequest(), logging.getLogger("shop.pages"))
    assert {record.name for record in caplog.records} == {"shop.pages"}
    assert len(caplog.records) == 2


def test_the_task_s_level_decides_and_other_loggers_are_heard() -> None:
    def body(ar: Any) -> None:
        ar.info("quiet")
        logging.getLogger("shop").info("quiet")
        logging.getLogger("shop").warning("loud")

    assert lines(make(body, log_level="WARNING").run(BaseRequest())) == ["WARNING loud"]


def test_a_detail_is_heard_when_the_task_wants_it() -> None:
    task = make(lambda ar: logging.getLogger("shop.deep").debug("detail"), log_level="DEBUG")
    assert "DEBUG detail" in lines(task.run(BaseRequest()))


def test_a_disabled_task_runs_and_stays_disabled() -> None:
    task = make(speak, every_unit="daily", disabled=True, disabled_reason="for good")
    assert task.run(BaseRequest()).state == "succeeded"
    assert (task.disabled, task.disabled_reason, task.next_run_at) == (True, "for good", None)
    assert task.status == "Disabled"


def test_edits_that_are_not_saved_survive_a_run() -> None:
    task = make(speak)
    task.timeout = 99
    task.run(BaseRequest())
    assert task.timeout == 99
    task.save()
    assert stored(task).timeout == 99


def test_a_request_outlives_a_run() -> None:
    task = make(speak)
    task.request_run()
    task.run(BaseRequest())
    assert stored(task).requested_at is not None


def leave_a_transaction_open(ar: Any) -> None:
    transaction.atomic().__enter__()
    BackgroundTask.objects.update(name="changed")


@BOTH
def test_a_transaction_that_is_left_open_is_undone_and_the_outcome_stands(how: str) -> None:
    task = make(leave_a_transaction_open, name="before")
    job = run(task, how)
    assert not connections["default"].in_atomic_block
    assert lines(job)[-1] == (
        f"WARNING Background task #{task.pk} body left a transaction open (database 'default'):"
        " what it wrote there is rolled back"
    )
    connections["default"].close()  # what is not committed would go with it
    assert Job.objects.get().state == job.state == "succeeded"
    assert stored(task).name == "before"


def test_a_transaction_of_its_caller_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """On a database that has nothing to do with the job."""
    described = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(tmp_path / "other.sqlite3")}
    handler = ConnectionHandler({"default": {}, "other": described})
    monkeypatch.setitem(connections.settings, "other", handler.settings["other"])
    other = connections["other"]
    with closing(other):
        other.connect()
        with transaction.atomic(using="other"):
            assert lines(run(make(speak)))[-1] == "INFO 72 pages have been updated."
            assert connections["other"] is other
            assert other.in_atomic_block
    del connections["other"]


# What is refused


@BOTH
def test_inside_a_transaction_it_is_refused(how: str) -> None:
    task = make(speak)
    with transaction.atomic(), pytest.raises(InsideTransaction, match="outside of atomic"):
        run(task, how)
    assert not Job.objects.exists()
    assert run(task, how).state == "succeeded"


@BOTH
def test_while_a_job_is_active_it_is_refused(how: str) -> None:
    def again(ar: Any) -> str:
        with pytest.raises(AlreadyRunning, match=r"Background task #\d+ body is already running"):
            run(stored(task), how)
        return "refused"

    task = make(again)
    assert run(task, how).result == "refused"
    assert Job.objects.count() == 1


@BOTH
def test_a_body_that_is_refused_a_run_has_failed(how: str) -> None:
    """A Warning, which means success with a remark, would hide that nothing ran."""
    job = run(make(lambda ar: run(stored(ar.task), how)), how)
    assert job.state == "failed"
    assert "AlreadyRunning: " in job.error


def test_two_at_once_run_it_once() -> None:
    began, go_on = [], threading.Event()

    def body(ar: Any) -> None:
        began.append(1)
        assert go_on.wait(DEADLINE)

    task = make(body)
    refused: list[Exception] = []
    meeting = threading.Barrier(3)

    def start() -> None:
        mine = stored(task)
        meeting.wait(DEADLINE)
        try:
            mine.run(BaseRequest())
        except AlreadyRunning as error:
            refused.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=start) for _ in range(3)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(refused) == 2, "two are refused", DEADLINE)
    go_on.set()
    for thread in threads:
        thread.join(DEADLINE)
    assert began == [1]
    assert [job.state for job in Job.objects.all()] == ["succeeded"]


@BOTH
def test_an_unknown_procedure_is_refused_and_its_row_left_alone(how: str) -> None:
    declare(speak, "bodies")
    task = BackgroundTask.objects.create(procedure=Procedure(None, "body"), every_unit="daily")
    with pytest.raises(UnknownProcedure, match="no procedure 'body', did you mean bodies"):
        run(task, how)
    assert not Job.objects.exists()
    assert not stored(task).disabled


def test_a_task_that_is_gone_is_told() -> None:
    task = make(speak)
    BackgroundTask.objects.all().delete()
    with pytest.raises(BackgroundTask.DoesNotExist):
        task.run(BaseRequest())


# Failures


def boom(ar: Any) -> None:
    ar.info("half done")
    raise ValueError("boom <b>&</b>")


async def aboom(ar: Any) -> None:
    boom(ar)


@BOTH
@pytest.mark.parametrize("body", [boom, aboom])
def test_a_failure_disables_as_in_the_daemon(how: str, body: Callable[..., Any]) -> None:
    task = make(body, every_unit="daily")
    job = run(task, how)
    assert job.state == "failed"
    assert job.error.endswith("ValueError: boom <b>&</b>\n")
    for each in (task, stored(task)):
        assert each.disabled
        assert each.disabled_reason == "ValueError: boom <b>&</b>"
        assert (each.next_run_at, each.failures, each.status) == (None, 1, "Disabled")
        assert each.last_end_time == job.end_time
        assert each.message.endswith(job.error)
        assert "INFO half done\n" in each.message
    (decision,) = Decision.objects.filter(task=task)
    assert (decision.kind, decision.job) == ("disabled", job.pk)
    assert "boom" in decision.reason


@BOTH
@pytest.mark.parametrize("is_async", [False, True])
def test_what_kills_the_original_is_a_failed_job(how: str, is_async: bool) -> None:
    errors = [
        SystemExit(3), KeyboardInterrupt(), GeneratorExit(), StopIteration(),
        asyncio.CancelledError(),
    ]  # fmt: skip

    def body(ar: Any) -> None:
        raise error

    async def abody(ar: Any) -> None:
        raise error

    task = make(abody if is_async else body)
    for error in errors:
        job = run(task, how)
        assert job.state == "failed"
        assert type(error).__name__ in job.error
        assert task.disabled
    assert not Job.objects.active().exists()


def press_ctrl_c() -> None:
    here = threading.get_ident()
    threading.Timer(0.05, signal.pthread_kill, (here, signal.SIGINT)).start()


def wait_in_c() -> None:
    press_ctrl_c()
    threading.Event().wait(DEADLINE)


async def wait_in_the_loop() -> None:
    press_ctrl_c()
    await asyncio.sleep(DEADLINE)


@pytest.fixture
def _shell() -> Iterator[None]:
    """What Python does about Ctrl-C, whoever started these tests in whatever way."""
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, former)


@pytest.mark.usefixtures("_shell")
@pytest.mark.parametrize("body", [wait_in_c, wait_in_the_loop])
def test_ctrl_c_in_a_shell_cancels_the_job_and_goes_on(body: Callable[..., Any]) -> None:
    task = make(body, every_unit="daily")
    with pytest.raises(KeyboardInterrupt):
        run(task)
    job = Job.objects.get()
    assert (job.state, job.error, job.active_task) == ("cancelled", "from the terminal", None)
    assert not stored(task).disabled
    assert stored(task).failures == 0
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_warning_is_no_failure() -> None:
    def body(ar: Any) -> None:
        raise UserWarning("2 pages were skipped")

    task = make(body)
    job = task.run(BaseRequest())
    assert (job.state, task.disabled) == ("succeeded", False)
    assert lines(job)[-1] == "WARNING UserWarning: 2 pages were skipped"


def test_it_is_tried_again_while_attempts_remain() -> None:
    task = make(boom, max_attempts=2, retry_delay=100)
    first = task.run(BaseRequest())
    assert not task.disabled
    second = Job.objects.waiting().get()
    assert (second.attempt, second.trigger, second.due_at) == (2, "retry", first.due_at)
    assert first.end_time is not None
    assert second.available_at is not None
    assert 70 < (second.available_at - first.end_time).total_seconds() < 130


def test_a_task_may_allow_several_failures_in_a_row() -> None:
    fails = [True]

    def sometimes(ar: Any) -> None:
        if fails[0]:
            raise ValueError("boom")

    task = make(sometimes, disable_after=2)
    task.run(BaseRequest())
    assert (task.disabled, task.failures) == (False, 1)
    fails[0] = False
    task.run(BaseRequest())
    assert (task.disabled, task.failures) == (False, 0)
    fails[0] = True
    for disabled in (False, True):
        task.run(BaseRequest())
        assert task.disabled is disabled


def test_a_task_may_never_be_disabled() -> None:
    task = make(boom, disable_after=0)
    for _ in range(3):
        task.run(BaseRequest())
    assert (task.disabled, task.failures) == (False, 3)


def test_an_edit_during_the_run_stands() -> None:
    def edit(ar: Any) -> None:
        mine = stored(task)
        mine.log_level, mine.every = "ERROR", 5
        mine.save()
        raise ValueError("boom")

    task = make(edit, every_unit="hourly")
    job = task.run(BaseRequest())
    assert job.state == "failed"
    for each in (task, stored(task)):
        assert (each.log_level, each.every, each.disabled) == ("ERROR", 5, False)
    assert task.next_run_at is not None


def test_a_delete_during_the_run_stands() -> None:
    def body(ar: Any) -> None:
        BackgroundTask.objects.all().delete()
        ar.info("deleted")

    job = make(body).run(BaseRequest())
    assert (job.state, job.task, job.active_task) == ("succeeded", None, None)
    assert lines(job)[-1] == "INFO deleted"
    assert not BackgroundTask.objects.exists()


def test_a_delete_during_a_run_that_fails() -> None:
    def body(ar: Any) -> None:
        BackgroundTask.objects.all().delete()
        raise ValueError("boom")

    job = make(body).run(BaseRequest())
    assert (job.state, job.task) == ("failed", None)
    assert not BackgroundTask.objects.exists()


# What is said


def test_texts_and_results_that_databases_refuse() -> None:
    def body(ar: Any) -> dict[str, str]:
        ar.info("nul \0 lone \ud800 smile \U0001f600")
        ar.progress(1, 2, "nul \0 lone \ud800")
        return {"nul \0": "lone \udfff"}

    job = make(body).run(BaseRequest())
    assert job.state == "succeeded"
    assert lines(job)[-1] == "INFO nul \\x00 lone \\ud800 smile \U0001f600"
    assert job.result == {"nul \\x00": "lone \\udfff"}
    assert job.progress == {"done": 1, "total": 2, "text": "nul \\x00 lone \\ud800"}


def test_an_error_that_databases_refuse() -> None:
    def body(ar: Any) -> None:
        raise ValueError("nul \0 lone \ud800")

    task = make(body)
    job = task.run(BaseRequest())
    assert job.error.endswith("ValueError: nul \\x00 lone \\ud800\n")
    assert task.disabled_reason == "ValueError: nul \\x00 lone \\ud800"


@pytest.mark.parametrize("value", [float("nan"), object(), "x" * 70_000], ids=["nan", "o", "long"])
def test_a_result_that_cannot_be_kept(value: Any) -> None:
    job = make(lambda: value).run(BaseRequest())
    assert (job.state, job.result) == ("succeeded", None)
    assert lines(job)[-1].startswith("WARNING The result is not kept: ")


def test_ten_megabytes_in_one_line() -> None:
    task = make(lambda ar: ar.info("<%s>", "x" * (10 * 1024 * 1024)))
    job = task.run(BaseRequest())
    text = job.message
    assert HEAD + TAIL < len(text) < HEAD + TAIL + 100
    assert text.endswith("x>\n")
    assert "characters left out" in text
    assert task.message == text[-MESSAGE:]


def test_many_lines_keep_their_head_and_tail() -> None:
    def body(ar: Any) -> None:
        for n in range(30_000):
            ar.info("line %d", n)

    text = make(body).run(BaseRequest()).message
    assert "INFO line 0\n" in text
    assert text.endswith("INFO line 29999\n")
    assert "characters left out" in text
    assert len(text) < HEAD + TAIL + 100


def test_the_log_and_the_progress_are_stored_while_it_runs() -> None:
    def body(ar: Any) -> None:
        ar.info("begun")
        ar.progress(3, 10, "pages")
        rows = Job.objects.filter(pk=ar.job.pk)
        wait_until(lambda: "begun" in rows.get().message, "the log is stored", DEADLINE)
        wait_until(lambda: rows.get().progress, "the progress is stored", DEADLINE)
        assert rows.get().progress == {"done": 3, "total": 10, "text": "pages"}
        ar.info("ended")

    job = make(body).run(BaseRequest())
    assert job.error == ""
    assert [line.split()[1] for line in lines(job)] == ["Start", "begun", "ended"]
    assert JobLog.objects.filter(job=job).count() >= 2


def more_than(count: int, rows: list[Any]) -> bool:
    return len(rows) > count


def test_no_line_is_lost_while_the_database_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    real = pieces.tend
    absences: list[Any] = []

    def tend(terms: Any, pieces: Any) -> Any:
        if len(absences) < 3:
            absences.append(pieces)
            raise OperationalError("the database is away")
        return real(terms, pieces)

    monkeypatch.setattr(pieces, "tend", tend)

    def body(ar: Any) -> None:
        for n in range(4):
            ar.info("line %d", n)
            ar.progress(n)
            wait_until(partial(more_than, min(n, 2), absences), "another absence", DEADLINE)
        wait_until(lambda: ar.job.message, "the log is stored", DEADLINE)

    task = make(body)
    job = task.run(BaseRequest())
    assert (job.state, job.error) == ("succeeded", "")
    assert lines(job)[1:] == [f"INFO line {n}" for n in range(4)]
    assert task.message == job.message


def test_lines_that_could_never_be_stored_while_it_ran_come_with_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    absences: list[Any] = []

    def tend(terms: Any, pieces: Any) -> Any:
        absences.append(pieces)
        raise OperationalError("the database is away")

    monkeypatch.setattr(pieces, "tend", tend)

    def body(ar: Any) -> None:
        for n in range(3):
            ar.info("line %d", n)
            wait_until(partial(more_than, n, absences), "another absence", DEADLINE)

    task = make(body)
    job = task.run(BaseRequest())
    assert lines(job)[1:] == ["INFO line 0", "INFO line 1", "INFO line 2"]
    assert task.message == job.message


def test_an_end_behind_a_piece_whose_commit_was_not_answered_keeps_all_it_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real, stored = pieces.tend, threading.Event()

    def tend(terms: Any, pieces: Any) -> Any:
        real(terms, pieces)
        if pieces:
            stored.set()
            raise OperationalError("the connection is gone")

    monkeypatch.setattr(pieces, "tend", tend)

    def body(ar: Any) -> str:
        ar.info("begun")
        assert stored.wait(DEADLINE)
        ar.info("ended")
        return "kept"

    task = make(body)
    job = task.run(BaseRequest())
    assert (job.state, job.error, job.result) == ("succeeded", "", "kept")
    assert lines(job)[1:] == ["INFO begun", "INFO ended"]
    assert task.message == job.message


@pytest.mark.parametrize("arguments", [[1, 2], "{days: 7"])
def test_broken_arguments_fail_the_procedure_that_reads_them(arguments: Any) -> None:
    task = make(lambda ar: ar.arguments["days"])
    BackgroundTask.objects.update(arguments=arguments)
    job = task.run(BaseRequest())
    assert job.state == "failed"
    assert "TypeError: arguments: must be a JSON object, not " in job.error
    assert stored(task).disabled


# Time, leases, cancellation


@pytest.fixture
async def _no_open_connection() -> AsyncIterator[None]:
    """Async tests use the database in a thread that outlives them."""
    yield
    await sync_to_async(connections.close_all)()


def loop(ar: Any) -> None:
    pause = threading.Event()
    for _ in range(int(DEADLINE * 100)):
        pause.wait(0.01)


async def asleep(ar: Any) -> None:
    await asyncio.sleep(DEADLINE)


@BOTH
@pytest.mark.parametrize("body", [loop, asleep])
def test_a_timeout_ends_the_body(how: str, body: Callable[..., Any]) -> None:
    task = make(body, timeout=0.1)
    job = run(task, how)
    assert job.state == "timed_out"
    assert job.error.endswith("JobTimedOut: it ran longer than 0.1 s\n")
    assert body.__name__ in job.error
    assert task.disabled  # it counts as a failure
    assert "it ran longer than 0.1 s" in task.disabled_reason
    assert job.duration is not None
    assert job.duration < timedelta(seconds=DEADLINE / 2)


def test_a_body_that_is_in_time_is_left_alone() -> None:
    assert make(speak, timeout=30).run(BaseRequest()).state == "succeeded"


@BOTH
@pytest.mark.parametrize("body", [loop, asleep])
def test_somebody_cancels_it(how: str, body: Callable[..., Any]) -> None:
    def cancel() -> None:
        job = wait_until(Job.objects.running().first, "it runs", DEADLINE)
        claims.cancel("default", job.pk, "robin")
        connections.close_all()

    task = make(body, every_unit="daily")
    other = threading.Thread(target=cancel)
    other.start()
    job = run(task, how)
    other.join(DEADLINE)
    assert (job.state, job.error) == ("cancelled", "somebody cancelled it")
    assert (task.disabled, task.failures) == (False, 0)
    assert lines(job)[-1] == "WARNING Cancelled: somebody cancelled it"


@pytest.mark.parametrize("body", [loop, asleep])
@pytest.mark.usefixtures("_no_open_connection")
async def test_a_cancelled_caller_cancels_the_job(body: Callable[..., Any]) -> None:
    task = await sync_to_async(make)(body)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(task.arun(BaseRequest()), 0.3)
    job = await Job.objects.aget()
    assert (job.state, job.error) == ("cancelled", "its caller was cancelled")
    assert not (await BackgroundTask.objects.aget()).disabled


@pytest.mark.usefixtures("_no_open_connection")
async def test_many_tasks_at_once_from_async_code() -> None:
    meeting = threading.Barrier(3)

    def meet(ar: Any) -> int:
        return meeting.wait(DEADLINE)

    def make_three() -> list[BackgroundTask]:
        declare(meet)
        return [BackgroundTask.objects.create(procedure="meet") for _ in range(3)]

    tasks = await sync_to_async(make_three)()
    jobs = await asyncio.gather(*(task.arun(BaseRequest()) for task in tasks))
    assert {job.result for job in jobs} == {0, 1, 2}


def test_its_lease_is_renewed_while_it_runs() -> None:
    def body(ar: Any) -> None:
        rows = Job.objects.filter(pk=ar.job.pk)
        first = rows.get().lease_until
        assert first is not None
        wait_until(lambda: (rows.get().lease_until or first) > first, "renewed", DEADLINE)

    with override_settings(LINOD={"LEASE": 0.6}):
        job = make(body).run(BaseRequest())
    assert (job.state, job.error) == ("succeeded", "")


def test_a_lease_that_cannot_be_renewed_asks_the_body_to_stop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def away(terms: Any) -> int:
        raise OperationalError("the database is away")

    monkeypatch.setattr(leases, "heartbeat", away)

    def body(ar: Any) -> None:
        wait_until(ar.check_cancelled, "it is told", DEADLINE)

    with override_settings(LINOD={"LEASE": 0.6}):
        job = make(body).run(BaseRequest())
    assert (job.state, job.error) == ("lost", "its lease could not be renewed")


def test_a_broken_heartbeat_is_told_and_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real, beats = pieces.tend, []

    def tend(terms: Any, pieces: Any) -> Any:
        beats.append(1)
        if len(beats) == 1:
            raise ZeroDivisionError
        return real(terms, pieces)

    monkeypatch.setattr(pieces, "tend", tend)
    task = make(lambda ar: wait_until(lambda: ar.job.message, "it beats again", DEADLINE) and None)
    assert task.run(BaseRequest()).state == "succeeded"
    assert [r.levelname for r in caplog.records if r.msg.startswith("No heartbeat")] == ["ERROR"]


# The guard


def test_guard_passes_while_the_job_is_mine() -> None:
    def body(ar: Any) -> str:
        ar.guard()
        with transaction.atomic():
            Decision.objects.record("edited", reason="by the body")
            ar.guard()
        return "kept"

    assert make(body).run(BaseRequest()).result == "kept"
    assert Decision.objects.filter(reason="by the body").exists()


def take_over(job_id: Any) -> None:
    """As another daemon does when the lease has run out."""
    Job.objects.filter(pk=job_id).update(
        state="lost", fence=F("fence") + 1, active_task=None, lease_until=None
    )


def test_guard_undoes_what_a_taken_over_job_wrote(caplog: pytest.LogCaptureFixture) -> None:
    def body(ar: Any) -> None:
        take_over(ar.job.pk)
        with pytest.raises(NotMine, match="nothing of it may count"):
            ar.guard()
        with transaction.atomic():
            Decision.objects.record("edited", reason="by the body")
            ar.guard()

    task = make(body)
    job = task.run(BaseRequest())
    assert (job.state, job.result, job.end_time) == ("lost", None, None)
    assert not Decision.objects.filter(reason="by the body").exists()
    assert not task.disabled
    assert any("was taken over; its outcome was dropped" in r.message for r in caplog.records)


def test_the_outcome_of_a_taken_over_job_is_dropped() -> None:
    def body(ar: Any) -> str:
        take_over(ar.job.pk)
        return "too late"

    job = make(body).run(BaseRequest())
    assert (job.state, job.result) == ("lost", None)
