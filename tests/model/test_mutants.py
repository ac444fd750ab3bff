"""What linod would be without each of its precautions, and which check notices.

Each mutant takes one precaution away and must be caught by the check that stands beside it; the
same check passes when nothing is taken away.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from unittest import mock

import pytest
from django.db import Error, OperationalError, connection, connections
from pytest_django.plugin import DjangoDbBlocker

from linod import agenda, asking, claims, clock, transactions
from linod.bulk import Batch
from linod.farewell import Farewell
from linod.history import Job
from linod.models import BackgroundTask
from tests.daemons import make_due, make_task, only_these_procedures, wait_until
from tests.model.rules import Violation
from tests.model.world import Scenario, World, world_of
from tests.test_claims import claim_all, noop, secondly, terms

NEVER, TWO_TASKS = ((),), ((0,), (0,))
AGAIN = {"max_attempts": 2, "rerun_lost": True}

# In the model


def without_key(world: World) -> AbstractContextManager[Any]:
    """The unique key on task, due instant and attempt is gone."""
    (constraint,) = Job._meta.constraints
    with (
        mock.patch.object(Job._meta, "constraints", []),
        world.database.schema_editor() as editor,
    ):
        editor.remove_constraint(Job, constraint)
    return nullcontext()


def without_owner_and_fence(world: World) -> AbstractContextManager[Any]:
    """What a job must still be says neither its owner nor its fence."""
    return _unconditional("owner", "fence")


def without_fence(world: World) -> AbstractContextManager[Any]:
    """It says whose, but not which of its holds."""
    return _unconditional("fence")


def _unconditional(*names: str) -> AbstractContextManager[Any]:
    original = Batch._update

    def update(self: Batch, model: Any, new: Any, where: Any, rows: Any, *rest: Any) -> None:
        kept = [n for n, name in enumerate(where) if name not in names]
        count = len(new)
        original(
            self, model, new, tuple(where[n] for n in kept),
            [(*row[:count], *(row[count + n] for n in kept)) for row in rows], *rest,
        )  # fmt: skip

    return mock.patch.object(Batch, "_update", update)


def queued_as_running(world: World) -> AbstractContextManager[Any]:
    """Jobs that wait for a slot are inserted as if their bodies had begun."""
    stack = ExitStack()
    insert, change = Batch.insert, Batch.change

    def insert_running(self: Batch, model: Any, names: Any, rows: Any) -> None:
        insert(self, model, names, [tuple(_as_running(v) for v in row) for row in rows])

    def change_running(
        self: Batch, model: Any, new: Any, where: Any, rows: Any, null: Any = ()
    ) -> None:
        rows = [tuple(_as_running(v) for v in row) for row in rows]
        change(self, model, new, where, rows, null)

    stack.enter_context(mock.patch.object(Batch, "insert", insert_running))
    stack.enter_context(mock.patch.object(Batch, "change", change_running))
    return stack


def asked_twice(world: World) -> AbstractContextManager[Any]:
    """A request takes the place of the one that stands."""
    return mock.patch.object(asking, "ASK", asking.ASK.replace(" AND requested_at IS NULL", ""))


def told_unasked(world: World) -> AbstractContextManager[Any]:
    """A request that a hint tells of is answered whether it was committed or not."""
    return _unconditional("requested_at")


def disabled_in_vain(world: World) -> AbstractContextManager[Any]:
    """A task is claimed as it was foreseen, whatever became of it."""
    return _unconditional("version", "next_run_at")


def claimed_by_another(world: World) -> AbstractContextManager[Any]:
    """Who runs a task and asks again, since no answer came, does so by another name."""
    original = claims.claim_now

    def claim_now(terms: Any, *args: Any) -> Any:
        return original(replace(terms, owner=world.database.ids()), *args)

    return mock.patch.object(claims, "claim_now", claim_now)


def cancelled_in_vain(world: World) -> AbstractContextManager[Any]:
    """The gate asks neither for the fence nor whether the job still waits there."""
    return _unconditional("fence", "state")


def stopped_without_a_look(world: World) -> AbstractContextManager[Any]:
    """Who stops gives back what it knows of, and does not ask what else it holds."""
    return mock.patch.object(Farewell, "_give_back")


def _as_running(value: Any) -> Any:
    return Job.State.RUNNING if value == Job.State.CLAIMED else value


#: Mutant: the world that shows it, and the rule that it breaks.
IN_THE_MODEL: dict[Callable[[World], AbstractContextManager[Any]], tuple[Scenario, str]] = {
    without_key: (Scenario(daemons=1, leases=0, setbacks=1), "one row per task, instant"),
    without_owner_and_fence: (
        Scenario(instants=TWO_TASKS, ahead=1, pauses=1, leases=1), "only the owner changes a job",
    ),
    without_fence: (
        Scenario(slots=2, pauses=1, leases=1, values=AGAIN), "an outcome is that of the body",
    ),
    queued_as_running: (
        Scenario(instants=TWO_TASKS, ahead=1, crashes=1, leases=1), "a fault loses no more than",
    ),
    asked_twice: (
        Scenario(instants=NEVER, daemons=1, people=("request", "request"), leases=0),
        "a request stands until it has its job",
    ),
    told_unasked: (
        Scenario(instants=NEVER, daemons=1, people=("request",), losses=1, leases=0),
        "a request's job has its request",
    ),
    disabled_in_vain: (
        Scenario(early=0.01, people=("disable",), leases=0),
        "nothing begins anew for a disabled task",
    ),
    claimed_by_another: (
        Scenario(instants=NEVER, people=("run",), losses=1, leases=1),
        "nothing is lost without a fault",
    ),
    cancelled_in_vain: (
        Scenario(instants=TWO_TASKS, ahead=1, people=("cancel",), leases=0),
        "a final state never changes",
    ),
    stopped_without_a_look: (
        Scenario(stops=1, losses=1, leases=0), "who has ended holds nothing",
    ),
}  # fmt: skip


@pytest.fixture
def _model(django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    with django_db_blocker.unblock():
        yield


@pytest.mark.usefixtures("_model")
@pytest.mark.parametrize("mutant", IN_THE_MODEL, ids=lambda mutant: mutant.__name__)
def test_the_model_catches(mutant: Callable[[World], AbstractContextManager[Any]]) -> None:
    scenario, rule = IN_THE_MODEL[mutant]
    with world_of(scenario) as world:
        world.search()
    with world_of(scenario) as world, mutant(world), pytest.raises(Violation, match=rule):
        world.search()


@pytest.mark.usefixtures("_model")
def test_the_model_catches_a_host_clock() -> None:
    with (
        world_of(Scenario(instants=((0, 10),), skew=(0, 3600), leases=1)) as world,
        pytest.raises(Violation, match="nothing runs before its instant"),
    ):
        world.search()


# On real databases


@pytest.fixture
def _registry(transactional_db: None) -> Iterator[None]:
    with only_these_procedures():
        BackgroundTask.objects.all().delete()
        yield


def in_a_thread(code: Callable[[], None]) -> threading.Thread:
    def whole() -> None:
        try:
            code()
        finally:
            connections["default"].close()

    thread = threading.Thread(target=whole, daemon=True)
    thread.start()
    return thread


if connection.vendor != "sqlite":

    class HostClock(datetime):
        """A host whose clock is an hour ahead."""

        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.now(tz) + timedelta(hours=1)

    def starts_early() -> bool:
        """Whether a host whose clock is an hour ahead runs what is due in half an hour."""
        make_due(make_task(noop, every_unit="secondly", every=7200), ago=-1800)
        mine = terms()
        with mock.patch.object(clock, "datetime", HostClock):
            seen = agenda.agenda("default", mine.owner)
            return seen.is_due(seen.now) or bool(claim_all(mine))

    @pytest.mark.usefixtures("_registry")
    @pytest.mark.parametrize("sql", [None, {}], ids=["as it is", "host clock"])
    def test_only_the_database_s_clock_counts(sql: dict[str, str] | None) -> None:
        agenda._agenda_sql.cache_clear()
        with mock.patch.object(clock, "NOW_SQL", clock.NOW_SQL if sql is None else sql):
            is_mutant = sql is not None
            assert starts_early() == is_mutant
        agenda._agenda_sql.cache_clear()

    def hides_rows(seconds: float) -> bool:
        """Whether a daemon that freezes inside its claim keeps a task from others so long."""
        make_due(secondly(), ago=1)
        is_inside, may_go = threading.Event(), threading.Event()

        def freeze() -> None:
            with suppress(Error):
                transactions.bound_session("default")
                with transactions.write("default"):
                    list(BackgroundTask.objects.select_for_update().values_list("pk"))
                    is_inside.set()
                    may_go.wait(30)

        thread = in_a_thread(freeze)
        assert is_inside.wait(30)
        try:
            wait_until(can_claim, "somebody else claims", seconds)
        except AssertionError:
            return True
        finally:
            may_go.set()
            thread.join(30)
        return False

    #: Without the bound on idle transactions; a statement still does not wait for ever.
    UNBOUND = {
        "POSTGRESQL_BOUNDS": ("SET LOCAL lock_timeout = 1000",),
        "MARIADB_BOUNDS": "SET SESSION innodb_lock_wait_timeout = 1",
    }

    def can_claim() -> bool:
        transactions.bound_session("default")
        try:
            return bool(claim_all(terms()))
        except OperationalError:
            connection.close()
            return False

    @pytest.mark.usefixtures("_registry")
    @pytest.mark.parametrize("is_bound", [True, False], ids=["as it is", "no session timeout"])
    def test_a_frozen_claim_hides_nothing_for_long(is_bound: bool) -> None:
        connection.close()
        with ExitStack() as stack:
            if not is_bound:
                for name, bounds in UNBOUND.items():
                    stack.enter_context(mock.patch.object(transactions, name, bounds))
            assert hides_rows(5.0) == (not is_bound)
        connection.close()

else:

    def fails_at_once() -> bool:
        """Whether a transaction that reads first fails because another one has written."""
        make_due(secondly("a"), ago=1)
        has_written = threading.Event()

        def write() -> None:
            def tell(execute: Any, sql: str, *rest: Any) -> Any:
                if sql.startswith("BEGIN IMMEDIATE"):
                    has_written.set()  # it will wait there
                return execute(sql, *rest)

            with connection.execute_wrapper(tell), transactions.write("default"):
                BackgroundTask.objects.update(message="changed")
                has_written.set()

        with transactions.write("default"):
            assert BackgroundTask.objects.count() == 1
            thread = in_a_thread(write)
            assert has_written.wait(30)
            try:
                BackgroundTask.objects.update(message="mine")
            except OperationalError as error:
                return "locked" in str(error)
            finally:
                connection.set_rollback(True)
        thread.join(30)
        return False

    @pytest.mark.usefixtures("_registry")
    @pytest.mark.parametrize("is_deferred", [False, True], ids=["as it is", "deferred"])
    def test_who_reads_first_is_not_refused(is_deferred: bool) -> None:
        begin = "BEGIN" if is_deferred else transactions.SQLITE_BEGIN
        with mock.patch.object(transactions, "SQLITE_BEGIN", begin):
            assert fails_at_once() == is_deferred
