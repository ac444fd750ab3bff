"""The scheduler without its loop: turn after turn in the caller's thread and transaction."""

from __future__ import annotations

import logging
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime

from asgiref.sync import async_to_sync
from django.db import DatabaseError, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from linod import capture, claims, clock, leftovers
from linod.agenda import Agenda
from linod.bridge import Bridge
from linod.conf import config
from linod.execution import Execution
from linod.executor import Executor
from linod.history import Job
from linod.inline import bounded
from linod.offset import Offset
from linod.records import Claimed, Finished, Terms
from linod.requests import daemon_user
from linod.scheduler import Scheduler
from linod.testing.clock import active

#: The host that jobs of tests ran on.
HOST = "test"


class DirectBridge(Bridge):
    """Nothing is elsewhere: whoever calls uses the database in its own thread."""

    def __init__(self, using: str) -> None:
        self.using = using
        self.failures = 0


class DirectOffset(Offset):
    """The clock that a test put in place of the database's, where it did."""

    def moment(self) -> datetime:
        """The database's time now; without a query, as an async body may stand here."""
        held = active()
        return super().moment() if held is None else held.read()

    def jump(self, now: datetime, at: float) -> float:
        """None: it is measured when a test says "run", and bodies may take as long as they like."""
        return 0.0


class DirectExecutor(Executor):
    """Runs each body at once, in the caller's thread."""

    def __init__(
        self, using: str, slots: int, moment: Callable[[], datetime], wake: Callable[[], None]
    ) -> None:
        self.using = using
        self.slots = slots
        self.moment = moment
        self.user = daemon_user()
        self.running = {}
        self._arrived = deque()
        self.ended: list[Finished] = []
        self.unbegun: list[Claimed] = []

    def room(self, jobs: Sequence[Claimed]) -> int:
        """None needs to wait for a slot, nor to be ahead of one."""
        return min(self.free, len(jobs))

    def start(self, jobs: Sequence[Claimed]) -> None:
        """Run the bodies of jobs that have passed the gate, one after another."""
        for job in jobs:
            held = leftovers.open_transactions()
            execution = Execution(job, self.using, self.moment, user=self.user, held=held)
            capture.install(min(execution.log.level, logging.INFO))
            with _own_savepoints(), bounded(execution):
                outcome = (
                    async_to_sync(execution.acall)() if job.procedure.is_async else execution.call()
                )
            finished = execution.finished(outcome)
            finished.end_time = self.moment()
            self.ended.append(finished)


@contextmanager
def _own_savepoints() -> Iterator[None]:
    """Inside a test's transaction a body that breaks it must not take the test's rows along."""
    inside = [each for each in connections.all(initialized_only=True) if each.in_atomic_block]
    points = [(each, each.savepoint()) for each in inside]
    yield
    for connection, point in points:
        if point is not None:  # None: this kind of database has no savepoints
            _leave(connection, point)


def _leave(connection: BaseDatabaseWrapper, point: str) -> None:
    if not connection.needs_rollback:
        try:
            connection.savepoint_commit(point)
        except DatabaseError:  # PostgreSQL: a statement failed, the transaction takes no other
            pass
        else:
            return
    connection.needs_rollback = False
    connection.savepoint_rollback(point)


class Engine(Scheduler):
    """A daemon's scheduler for tests; all that it claims, it has run when a call returns."""

    executor_class = DirectExecutor

    def __init__(self) -> None:
        settings = config()
        using = settings.DATABASE
        super().__init__(
            Terms(using, uuid.uuid4(), settings.LEASE, HOST),
            settings,
            DirectBridge(using),
            DirectOffset(clock.db_now(using)),
        )

    def run_due(self) -> Agenda:
        """Run what is due at this moment, until nothing is left; returns what is to come."""
        self.offset.measure(clock.db_now(self.terms.using), time.monotonic())
        now = self.seeker.only_before = self.offset.moment()
        ended: list[Finished] = []
        seen: Agenda | None = None
        while True:
            turn, before = self._turn(ended, {each.job.key for each in ended}), seen
            self._report(turn, ended)
            self.executor.start(turn.started)
            self.backlog, ended, seen = turn.backlog, self.executor.take_ended(), turn.agenda
            if ended or self.backlog or seen is None:
                continue
            # Instants that are left out make no job, and the next ones may still be due.
            has_moved = before is None or not _same(seen, before)
            if not (has_moved and (seen.is_due(now) or self._take_over(seen))):
                return seen

    def _take_over(self, seen: Agenda) -> bool:
        """As the daemon's upkeep does: take what a silent daemon held; False: nobody is silent."""
        if seen.lease_until is None or seen.lease_until >= seen.now:
            return False
        self.backlog = claims.reclaim(self.terms, seen.now)
        return True

    def jobs(self) -> list[Job]:
        """What it ran, in the order of time."""
        jobs = Job.objects.using(self.terms.using).filter(owner=self.terms.owner)
        return list(jobs.order_by("start_time", "due_at", "id"))


def _same(one: Agenda, other: Agenda) -> bool:
    """Whether nothing has moved from one look to the next."""
    return replace(one, now=other.now, read_at=other.read_at) == other
