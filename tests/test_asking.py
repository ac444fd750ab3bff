"""Asking for a run: one message to the database, and a hint that saves the daemon to look."""

from __future__ import annotations

import asyncio
import os
import socket
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import DatabaseError, connection, connections, transaction
from django.test import override_settings

from linod import agenda, asking, claims, clock, scheduler, seeking, signals, transactions, wakeup
from linod.asking import SEPARATOR, TASK_COLUMNS, as_hint, from_hint
from linod.bridge import Bridge
from linod.bulk import Mismatch
from linod.conf import config
from linod.history import Decision, Job
from linod.models import BackgroundTask
from linod.offset import Offset
from linod.procedures import Procedures, declare
from linod.records import Candidate, Finished, Terms
from linod.scheduler import Scheduler
from linod.seeking import Turn
from tests.daemons import empty_site, make_task
from tests.waiting import DEADLINE, wait_until

pytestmark = pytest.mark.django_db(transaction=True)

#: Seconds after which a hint is old, in these tests.
OLD = 60.0


@pytest.fixture(autouse=True)
def _site(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    # However busy the machine is: a hint is old when the test says so.
    monkeypatch.setattr(seeking, "SOON", OLD)
    with empty_site():
        yield


def asked_by(task: BackgroundTask, user: Any = None) -> dict[str, Any]:
    """What the signal tells when that task is requested; empty when it tells nothing."""
    heard: list[dict[str, Any]] = []

    def hear(asked: dict[str, Any] | None = None, **kwargs: Any) -> None:
        heard.append(asked or {})

    signals.work_arrived.connect(hear)
    try:
        task.request_run(user)
    finally:
        signals.work_arrived.disconnect(hear)
    (asked,) = heard
    return asked


def test_a_hint_tells_the_row_as_django_reads_it() -> None:
    robin = User.objects.create_user("robin")
    task = make_task(
        lambda ar: None,
        "told",
        arguments={"text": "Grüße\x1f\n", "list": [1, None]},
        timeout=2.5,
        rerun_lost=True,
        max_attempts=3,
        log_level="DEBUG",
        every_unit="daily",
    )
    told = from_hint(as_hint(asked_by(task, robin)))
    row = BackgroundTask.objects.values(*TASK_COLUMNS).get(pk=task.pk)
    assert told == row | {"procedure": "told"}
    assert row["requested_by_id"] == robin.pk
    assert row["next_run_at"] is not None
    (line,) = Decision.objects.filter(kind="requested")
    assert (line.due_at, line.at) == (row["requested_at"], row["requested_at"])


def test_who_asks_again_writes_and_tells_nothing() -> None:
    task = make_task(lambda ar: None, "once")
    task.request_run()
    with pytest.raises(Mismatch):
        asking.ask("default", task.pk, None, "")
    assert Decision.objects.filter(kind="requested").count() == 1


def test_arguments_that_are_too_long_for_a_hint_are_not_told() -> None:
    task = make_task(lambda ar: None, "long", arguments={"text": "x" * asking.MOST})
    assert as_hint(asked_by(task)) == b""


MOMENT = "2026-11-23 10:00:00+00:00"
GOOD = ["1", "7", "0", "1", "name", "{}", "INFO", MOMENT, "", "", "", "1", "60", "0"]


def with_(position: int, text: str) -> bytes:
    values = [*GOOD[:position], text, *GOOD[position + 1 :]]
    return SEPARATOR.join(values).encode()


@pytest.mark.parametrize(
    "hint",
    [
        wakeup.LOOK, b"", b"\xff\xfe", SEPARATOR.join(GOOD[:-1]).encode(), with_(0, "2"),
        with_(1, ""), with_(1, "seven"), with_(1, str(2**63)), with_(2, "9" * 3000), with_(5, ""),
        with_(5, "[" * 3000), with_(6, "LOUD"), with_(7, ""), with_(7, "yesterday"),
        with_(7, "0001-01-01T00:00:00+23:59"), with_(8, "nobody"), with_(10, "long"),
    ],
)  # fmt: skip
def test_what_is_no_hint_tells_nothing(hint: bytes) -> None:
    assert from_hint(with_(1, "8")) is not None
    assert from_hint(hint) is None


# What the daemon does with it


def answered(
    hints: list[bytes], before: Callable[[Scheduler], object] = lambda scheduler: None
) -> Turn:
    """The turn of an idle daemon that hears these hints.

    :param before: is called with its scheduler first.
    """
    turn = Turn()

    async def look() -> None:
        bridge = Bridge("default")
        terms = Terms("default", uuid.uuid4(), lease=30.0)
        scheduler = Scheduler(terms, config(), bridge, Offset(await bridge.call(clock.db_now)))
        scheduler.seeker.was_idle = True
        before(scheduler)
        scheduler.look_now(hints)
        await bridge.call(scheduler.seeker.look, turn, 0)
        bridge.close()

    asyncio.run(look())
    return turn


def must_not_look(*args: Any) -> Any:
    raise AssertionError("it looks")


def test_what_a_hint_tells_is_claimed_without_a_look(monkeypatch: pytest.MonkeyPatch) -> None:
    robin = User.objects.create_user("robin")
    task = make_task(lambda ar: None, "told", arguments={"n": 1})
    hint = as_hint(asked_by(task, robin))
    monkeypatch.setattr(agenda, "peek_requested", must_not_look)
    turn = answered([hint])
    (job,) = Job.objects.all()
    assert [each.id for each in turn.started] == [job.pk]
    assert (job.state, job.arguments, job.requested_by, job.trigger) == (
        "running", {"n": 1}, robin, "request",
    )  # fmt: skip
    former = task.requested_at
    task.refresh_from_db()
    assert (job.due_at, task.requested_at) == (former, None)


def test_several_hints_are_claimed_together(monkeypatch: pytest.MonkeyPatch) -> None:
    hints = [as_hint(asked_by(make_task(lambda ar: None, f"t{n}"))) for n in range(3)]
    monkeypatch.setattr(agenda, "peek_requested", must_not_look)
    assert len(answered(hints).started) == 3


def test_what_was_edited_since_is_looked_up() -> None:
    task = make_task(lambda ar: None, "edited", arguments={"n": 1})
    hint = as_hint(asked_by(task))
    task.arguments = {"n": 2}
    task.save()
    answered([hint])
    (job,) = Job.objects.all()
    assert job.arguments == {"n": 2}


def test_a_request_that_was_taken_back_does_not_run() -> None:
    task = make_task(lambda ar: None, "taken back")
    hint = as_hint(asked_by(task))
    task.cancel_request()
    answered([hint])
    assert not Job.objects.exists()


def later(scheduler: Scheduler) -> None:
    now, at = scheduler.offset._reading
    scheduler.offset._reading = now + timedelta(seconds=OLD + 1), at


def busy(scheduler: Scheduler) -> None:
    scheduler.seeker.was_idle = False


def full(scheduler: Scheduler) -> None:
    scheduler.executor.slots = 1


@pytest.mark.parametrize("before", [later, busy, full])
def test_when_it_looks_all_the_same(
    before: Callable[[Scheduler], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An old hint; other work may wait; there are more hints than slots."""
    hints = [as_hint(asked_by(make_task(lambda ar: None, f"t{n}"))) for n in range(2)]
    looks: list[int] = []
    peek = agenda.peek_requested

    def look(using: str, owner: uuid.UUID, now: datetime, limit: int) -> list[Candidate]:
        looks.append(limit)
        return peek(using, owner, now, limit)

    monkeypatch.setattr(agenda, "peek_requested", look)
    turn = answered(hints, before)
    assert turn.claimed == (1 if before is full else 2)
    assert looks == [turn.claimed if before is full else config().MAX_CONCURRENCY]


def test_the_same_hint_twice_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    hint = as_hint(asked_by(make_task(lambda ar: None, "twice")))
    other = as_hint(asked_by(make_task(lambda ar: None, "other")))
    told: list[Any] = []
    monkeypatch.setattr(agenda, "told", lambda owner, hints, *times: told.extend(hints) or [])
    answered([hint, other, hint], lambda engine: engine.look_now([hint]))
    assert told == [hint, other]


def test_after_an_answer_the_loop_stands_back_whoever_calls() -> None:
    """The request's second hint has come meanwhile, and the body needs the interpreter's lock."""
    may_end = threading.Event()
    task = make_task(lambda ar: may_end.wait(DEADLINE), "asked for")

    async def answer() -> tuple[float | None, bool]:
        bridge = Bridge("default")
        terms = Terms("default", uuid.uuid4(), lease=30.0)
        engine = Scheduler(terms, config(), bridge, Offset(await bridge.call(clock.db_now)))
        await bridge.call(task.request_run)
        engine.look_now([])
        delay = await engine.tick()
        found = delay, engine._wake.is_set()
        may_end.set()
        await bridge.call(wait_until, lambda: engine.executor.has_ended, "the body ends")
        engine.executor.close()
        bridge.close()
        return found

    assert asyncio.run(answer()) == (scheduler.STAND_BACK, False)


def test_a_procedure_that_nobody_knows_here_stays_for_others() -> None:
    task = make_task(lambda ar: None, "theirs")
    hint = as_hint(asked_by(task))
    del Procedures.registry["theirs"]
    assert answered([hint]).claimed == 0
    assert BackgroundTask.objects.get(pk=task.pk).requested_at is not None


def test_what_runs_after_others_is_left_to_the_agenda() -> None:
    declare(lambda ar: None, "first")
    procedure = declare(lambda ar: None, "second", run_after="first")
    task = BackgroundTask.objects.create(procedure=procedure)
    turn = answered([as_hint(asked_by(task))])
    assert turn.agenda is not None
    assert turn.claimed == 1


def test_what_runs_is_not_told() -> None:
    """The unique key would refuse it, and the server's log would tell of an error."""
    task = make_task(lambda ar: None, "busy")
    terms = Terms("default", uuid.uuid4(), lease=30.0)
    task.request_run()
    moment = clock.db_now()
    (job,) = claims.claim(
        terms, agenda.peek_requested("default", terms.owner, moment, 1), 1, moment
    )
    assert not asked_by(task)
    claims.finish(terms, [Finished(job, "succeeded", moment, moment)])
    task.cancel_request()
    assert asked_by(task)


def test_what_cannot_be_stored_is_the_fault_of_a_standing_request_only() -> None:
    """Who forges a hint for a task that nobody asked for does not disable it."""
    task = make_task(lambda ar: None, "forged", arguments={"text": "x"})
    hint = as_hint(asked_by(task) | {"requested_by_id": str(2**62)})
    task.cancel_request()
    answered([hint])
    assert not BackgroundTask.objects.get(pk=task.pk).disabled


# The way there


@pytest.fixture
def folder() -> Iterator[Path]:
    # Not pytest's tmp_path: a socket's path must be short.
    with (
        tempfile.TemporaryDirectory(prefix="linod") as name,
        override_settings(LINOD={"RUN_DIR": name}),
    ):
        yield Path(name)


def hear_all(*ears: wakeup.Listener) -> None:
    for each in ears:
        each._hear()


async def tell(*hints: bytes, when: Callable[[], object] = lambda: None) -> list[list[bytes]]:
    """What two daemons hear, of which the second comes up behind the first hint.

    :param when: is called before the last hint.
    """
    heard: list[list[bytes]] = [[], []]
    first, second = (wakeup.Listener(uuid.uuid4(), each.extend) for each in heard)
    first.open()
    *others, last = hints
    for hint in others:
        wakeup.send(hint)
    second.open()
    when()
    wakeup.send(last)
    hear_all(first, second)
    first.close()
    second.close()
    return heard


def test_a_hint_reaches_all_daemons_once_also_those_that_came_since(folder: Path) -> None:
    assert asyncio.run(tell(b"1", b"2", b"3")) == [[b"1", b"2", b"3"], [b"3"]]
    assert not list(folder.iterdir())


# Ahead of the COMMIT


def foretold_by(action: Callable[[], object]) -> list[tuple[str, bool, dict[str, Any]]]:
    """What the two signals tell, in their order, and whether a transaction is open then."""
    heard: list[tuple[str, bool, dict[str, Any]]] = []

    def hear_ahead(asked: dict[str, Any], **kwargs: Any) -> None:
        heard.append(("arriving", connection.in_atomic_block, asked))

    def hear_after(asked: dict[str, Any] | None = None, **kwargs: Any) -> None:
        heard.append(("arrived", connection.in_atomic_block, asked or {}))

    signals.work_arriving.connect(hear_ahead)
    signals.work_arrived.connect(hear_after)
    try:
        action()
    finally:
        signals.work_arriving.disconnect(hear_ahead)
        signals.work_arrived.disconnect(hear_after)
    return heard


def test_a_request_is_foretold_in_its_transaction_and_told_after_it() -> None:
    task = make_task(lambda ar: None, "foretold")
    (ahead, was_open, asked), (after, is_open, told) = foretold_by(task.request_run)
    assert (ahead, was_open, after, is_open) == ("arriving", True, "arrived", False)
    assert asked == told
    assert from_hint(as_hint(asked)) is not None


@pytest.mark.skipif(connection.vendor != "sqlite", reason="SQLite's write-ahead log")
def test_where_a_commit_is_quick_nothing_is_foretold(monkeypatch: pytest.MonkeyPatch) -> None:
    has_log = SimpleNamespace(exists=lambda path: path.endswith("-wal"))
    monkeypatch.setattr(asking, "os", SimpleNamespace(path=has_log))
    task = make_task(lambda ar: None, "quick")
    assert [name for name, _open, _asked in foretold_by(task.request_run)] == ["arrived"]


def test_in_somebody_s_transaction_nothing_is_foretold() -> None:
    task = make_task(lambda ar: None, "within")

    def ask_within() -> None:
        with transaction.atomic():
            task.request_run()

    assert foretold_by(ask_within) == [("arrived", False, {})]


def test_what_was_foretold_and_not_committed_changes_nothing() -> None:
    task = make_task(lambda ar: None, "taken back")
    heard: list[dict[str, Any]] = []

    def fail(asked: dict[str, Any]) -> None:
        heard.append(asked)
        raise DatabaseError("the disk is full")

    with pytest.raises(DatabaseError):
        asking.ask("default", task.pk, None, "", fail)
    assert answered([as_hint(asked) for asked in heard]).claimed == 0
    assert not Decision.objects.exists()
    task.refresh_from_db()
    assert (task.requested_at, task.disabled) == (None, False)


def test_who_is_told_ahead_cannot_spoil_the_request() -> None:
    task = make_task(lambda ar: None, "spoilt")

    def fail(**kwargs: Any) -> None:
        raise ValueError("nobody asked me")

    signals.work_arriving.connect(fail)
    try:
        task.request_run()
    finally:
        signals.work_arriving.disconnect(fail)
    assert BackgroundTask.objects.get(pk=task.pk).requested_at is not None


#: Whether somebody waits for a lock of this database, by vendor.
WAITS = {
    "postgresql": """SELECT count(*) > 0 FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock'""",
    "mysql": """SELECT count(*) > 0 FROM information_schema.processlist
        WHERE db = DATABASE() AND state IN ('Updating', 'Searching rows for update')""",
}


@contextmanager
def noticed_waiting() -> Iterator[Callable[[], bool]]:
    """Asks whether a daemon waits for what the current transaction holds."""
    if connection.vendor != "sqlite":
        # In a transaction PostgreSQL tells who waited when it was first asked.
        other = connection.copy("other")

        def is_waiting() -> bool:
            with other.cursor() as cursor:
                cursor.execute(WAITS[other.vendor])
                return bool(cursor.fetchone()[0])

        yield is_waiting
        other.close()
        return
    locked = threading.Event()

    def note_lock(seconds: float) -> None:
        locked.set()
        time.sleep(seconds)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(
            transactions, "time", SimpleNamespace(monotonic=time.monotonic, sleep=note_lock)
        )
        yield locked.is_set


def test_a_daemon_that_heard_it_ahead_claims_it_once_it_is_committed() -> None:
    task = make_task(lambda ar: None, "ahead")
    turns: list[Turn] = []
    threads: list[threading.Thread] = []

    def answer_beside(asked: dict[str, Any], **kwargs: Any) -> None:
        def answer() -> None:
            turns.append(answered([as_hint(asked)]))
            connections.close_all()

        threads.append(threading.Thread(target=answer))
        threads[0].start()
        wait_until(is_waiting, "the daemon waits for the request")

    signals.work_arriving.connect(answer_beside)
    with noticed_waiting() as is_waiting:
        try:
            task.request_run()
        finally:
            signals.work_arriving.disconnect(answer_beside)
            for thread in threads:
                thread.join(DEADLINE)
    (turn,) = turns
    assert (turn.claimed, turn.agenda) == (1, None)


def test_ahead_it_goes_to_those_that_heard_the_last_hint(folder: Path) -> None:
    heard: list[list[bytes]] = []

    async def listen() -> None:
        ear = wakeup.Listener(uuid.uuid4(), heard.append)
        ear.open()
        wakeup.send_ahead(b"nobody is known yet")
        wakeup.send(b"1")
        wakeup.send_ahead(b"2")
        ear._hear()
        ear.close()

    wakeup._known.clear()
    asyncio.run(listen())
    assert heard == [[b"1", b"2"]]
    wakeup.send_ahead(b"nobody listens any more")


def test_sockets_that_nobody_listens_on_are_removed(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as dead:
        dead.bind(str(folder / "dead.sock"))
    wakeup.send(b"1")
    assert not list(folder.iterdir())


def test_a_socket_that_others_may_write_to_is_not_believed(folder: Path) -> None:
    heard: list[list[bytes]] = []

    async def listen() -> None:
        former = os.umask(0)
        ear = wakeup.Listener(uuid.uuid4(), heard.append)
        try:
            ear.open()
        finally:
            os.umask(former)
        wakeup.send(b"run this")
        ear._hear()
        ear.close()

    asyncio.run(listen())
    assert heard == [[]]
    assert not list(folder.iterdir())


@pytest.mark.parametrize(("mode", "said"), [(0o700, b"what"), (0o770, wakeup.LOOK)])
def test_where_others_may_write_a_hint_says_look_and_no_more(
    folder: Path, mode: int, said: bytes
) -> None:
    folder.chmod(mode)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as ear:
        ear.bind(str(folder / "ear.sock"))
        wakeup.send(b"what")
        assert ear.recv(100) == said


def test_where_others_may_write_no_hint_is_believed(folder: Path) -> None:
    folder.chmod(0o770)
    heard: list[list[bytes]] = []

    async def listen() -> None:
        ear = wakeup.Listener(uuid.uuid4(), heard.append)
        ear.open()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as mouth:
            mouth.sendto(b"run this", str(ear.path))
        ear._hear()
        ear.close()

    asyncio.run(listen())
    assert heard == [[]]


# The transaction


def test_in_another_transaction_it_ends_with_that() -> None:
    task = make_task(lambda ar: None, "inside")
    with pytest.raises(KeyError), transaction.atomic():  # noqa: PT012
        task.request_run()
        raise KeyError
    assert not Decision.objects.filter(kind="requested").exists()
    assert BackgroundTask.objects.get(pk=task.pk).requested_at is None


def test_what_is_asked_in_another_transaction_is_not_told() -> None:
    """Another statement of it may change the row unseen: the daemon looks."""
    task = make_task(lambda ar: None, "inside")
    heard: list[Any] = []

    def hear(**kwargs: Any) -> None:
        heard.append(kwargs.get("asked"))

    signals.work_arrived.connect(hear)
    try:
        with transaction.atomic():
            task.request_run()
    finally:
        signals.work_arrived.disconnect(hear)
    assert heard == [None]


def test_its_failure_leaves_another_transaction_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    task = make_task(lambda ar: None, "fails")
    monkeypatch.setattr(asking, "TASKS", "nowhere")
    monkeypatch.setattr(asking, "READ", "SELECT nothing FROM nowhere WHERE 1 = %s")
    with transaction.atomic():
        Decision.objects.record("edited", task, reason="before")
        with pytest.raises(DatabaseError):
            task.request_run()
    assert Decision.objects.filter(reason="before").exists()


@pytest.mark.skipif(
    connection.vendor == "sqlite", reason="there, Django's savepoints commit without autocommit"
)
def test_it_works_under_manual_transaction_management() -> None:
    task = make_task(lambda ar: None, "manual")
    transaction.set_autocommit(False)
    try:
        task.request_run()
        transaction.rollback()
        assert BackgroundTask.objects.get(pk=task.pk).requested_at is None
        task.reread()
        task.request_run()
        transaction.commit()
    finally:
        transaction.rollback()
        transaction.set_autocommit(True)
    assert BackgroundTask.objects.get(pk=task.pk).requested_at is not None
