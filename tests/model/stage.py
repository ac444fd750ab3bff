"""Linod's own code on the stage: what a process remembers, and one step of what it does.

Here, and nowhere else, the model knows how linod's functions are called.
"""

from __future__ import annotations

import asyncio
import math
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest import mock

from django.db import OperationalError

from linod import agenda, claims, clock, farewell, inline, leases, scheduler, seeking, wakeup
from linod.conf import Config
from linod.exceptions import LinodError
from linod.models import BackgroundTask
from linod.records import Candidate, Claimed, Finished, Hold, Terms
from tests.model.database import (
    ALIAS,
    ALONE,
    LOST_DONE,
    OK,
    WAITING,
    Blocked,
    Course,
    Database,
    Record,
    Tape,
)
from tests.model.numbers import Numbers

if TYPE_CHECKING:
    from tests.model.world import Scenario

BEGIN = datetime(2026, 1, 5, 12, tzinfo=UTC)
LEASE = 30.0
OWNERS = tuple(uuid.UUID(int=n + 1) for n in range(4))
#: Seconds that people's clocks are behind, each more than the last: what they ask for is due at
#: once, and at no instant at which anything else is.
APART = 0.001
CLAIMED_FIELDS = tuple(f.name for f in fields(Claimed))
CANDIDATE_FIELDS = tuple(f.name for f in fields(Candidate))


class Memory(NamedTuple):
    """What a loop remembers between two ticks; jobs and outcomes by their numbers."""

    backlog: tuple[int, ...] = ()
    taken_over: tuple[int, ...] = ()
    unrecorded: tuple[int, ...] = ()
    running: tuple[int, ...] = ()
    ended: tuple[int, ...] = ()
    is_unsettled: bool = False
    #: Where requests are told: what was heard, and whether it is listened to.
    hints: tuple[bytes, ...] = ()
    is_hinted: bool = False
    was_idle: bool = False
    took_shortcut: bool = False
    #: Where daemons look ahead: the instant, and what will be due then.
    foreseen: tuple[datetime, tuple[int, ...]] | None = None

    @property
    def is_busy(self) -> bool:
        """As ``Scheduler.is_busy``."""
        return any(self[:5])

    @property
    def may_hold(self) -> bool:
        """As ``Scheduler.may_hold``."""
        return self.is_busy or self.is_unsettled


class Thread(NamedTuple):
    """A piece of code that stands between two of its steps; these by their numbers."""

    kind: str
    seed: str = ""
    start: Memory = Memory()
    is_trusted: bool = True
    records: tuple[int, ...] = ()
    stands_before: str = ""
    #: The content that its COMMIT would bring about.
    pending: int | None = None
    #: Whether it is a turn of the loop that has looked for hints.
    has_looked: bool = False


class Ran(NamedTuple):
    """What came of a step: where the code stands then (None: it has ended) and what it said."""

    rest: int | None
    content: int
    #: What the code returned, or its error.
    value: Any
    memory: Memory
    #: The jobs whose bodies it began.
    begun: tuple[Claimed, ...]
    #: All hints that it has sent.
    told: tuple[bytes, ...]
    #: Whether it stands before the COMMIT of what it has just asked.
    is_to_commit: bool = False


class Slots:
    """The executor: bodies are in its memory only; the model says when they end."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.running: dict[Hold, Any] = {}
        self.ended: list[Finished] = []
        self.begun: list[Claimed] = []
        self.unbegun: list[Claimed] = []
        self.is_stuck = False
        self.broken = None

    @property
    def free(self) -> int:
        return self.slots - len(self.running)

    @property
    def has_ended(self) -> bool:
        return bool(self.ended)

    @property
    def is_ahead(self) -> bool:
        return False

    def withdraw(self) -> None:
        """No job has passed the gate without its slot."""

    def take_unbegun(self) -> list[Claimed]:
        return []

    def room(self, jobs: list[Claimed]) -> int:
        return min(self.free, len(jobs))

    def mean_duration(self) -> float:
        return 1.0

    async def settle(self, is_waited_for: bool) -> None:
        """Bodies end when the model says so."""

    def take_ended(self) -> list[Finished]:
        ended, self.ended = self.ended, []
        return ended

    def disown(self, keys: Iterable[Hold], reason: str) -> None:
        """Bodies end when the model says so, also those that are told to stop."""

    def cancel_all(self, reason: str) -> None:
        """As above."""

    def interrupt_all(self) -> None:
        """As above."""

    def give_up(self, reason: str) -> list[Finished]:
        jobs, self.running = [each.job for each in self.running.values()], {}
        return [
            Finished(job, "lost", job.start_time or BEGIN, job.start_time or BEGIN, error=reason)
            for job in jobs
        ]

    def start(self, jobs: list[Claimed]) -> None:
        for job in jobs:
            self.running[job.key] = SimpleNamespace(job=job)
            self.begun.append(job)

    def end(self, hold: Hold, state: str, now: datetime) -> None:
        job = self.running.pop(hold).job
        error = "boom" if state == "failed" else ""
        self.ended.append(Finished(job, state, job.start_time or now, now, error=error))


class Link:
    """The bridge: the same promises as the real one, without its thread."""

    def __init__(self, tape: Tape) -> None:
        self.tape = tape
        self.failures = 0
        self.is_alive = True
        self.link = SimpleNamespace(answers=True)

    async def call(self, action: Callable[..., Any], *args: Any) -> Any:
        try:
            return action(*args)
        except OperationalError:
            self.failures += 1
            raise

    async def insist(
        self,
        action: Callable[..., Any],
        *args: Any,
        give_up: Callable[[], bool] = lambda: False,
    ) -> Any:
        while True:
            try:
                return await self.call(action, *args)
            except OperationalError:
                if give_up():
                    raise
            self.tape.has_looked = False  # the turn begins anew
            self.tape.step("retry")


async def _attempt(seconds: float, work: Any) -> str:
    """As :func:`linod.farewell._attempt`: time passes only when the model says so."""
    try:
        await work
    except OperationalError as error:
        return str(error)
    return ""


class Stage:
    """Runs linod's code, each step of it once: the same again comes out the same."""

    def __init__(self, scenario: Scenario, database: Database, tasks: list[BackgroundTask]) -> None:
        self.scenario = scenario
        self.database = database
        self.tasks = tasks
        self.moments = scenario.moments
        self.jobs: Numbers[tuple[Any, ...]] = Numbers()
        self.ends: Numbers[tuple[Any, ...]] = Numbers()
        self.candidates: Numbers[tuple[Any, ...]] = Numbers()
        self.records: Numbers[Record] = Numbers()
        self.threads: Numbers[Thread] = Numbers()
        self.settings = Config(MAX_CONCURRENCY=scenario.slots, LEASE=LEASE)
        self._ran: dict[Any, Ran | None] = {}
        self._courses: defaultdict[Any, Course] = defaultdict(Course)
        self._told: list[bytes] = []
        self.tape: Tape

    def run(
        self, index: int, number: int, content: int, now: int, is_locked: bool, outcome: str = OK
    ) -> Ran | None:
        """Run a thread for one more step; None: it waits for a lock."""
        thread = self.threads[number]
        before = thread.stands_before
        if is_locked and before in WAITING:  # no need to replay it to find that out
            return None
        is_alone = before in ALONE
        key = (
            index, number, None if is_alone else content, now, is_locked and not before, outcome,
        )  # fmt: skip
        if key not in self._ran:
            course = None if is_alone else self._courses[index, number, now]
            if course is not None and is_locked and course.kind in WAITING:
                return None
            self._ran[key] = (course and self._follow(course, content)) or self._run(
                index, thread, content, now, is_locked, outcome, course
            )
        ran = self._ran[key]
        if ran is None or not is_alone:
            return ran
        if before == "commit" and outcome in (OK, LOST_DONE):
            assert thread.pending is not None
            return ran._replace(content=thread.pending)
        return ran._replace(content=content)

    def _follow(self, course: Course, content: int) -> Ran | None:
        """What comes of a step whose code need not be run; None where it is to be."""
        found = self.database.follow(course, content) if course.kind else None
        if found is None:
            return None
        ran, after, pending = found
        if pending is not None:
            rest = self.threads[ran.rest]._replace(pending=pending)
            ran = ran._replace(rest=self.threads.of(rest))
        known: Ran = ran._replace(content=after)
        return known

    def _run(
        self, index: int, thread: Thread, content: int, now: int, is_locked: bool, outcome: str,
        course: Course | None,
    ) -> Ran | None:  # fmt: skip
        slots = Slots(self.scenario.slots)
        self._told = []
        tape = self.tape = Tape(
            tuple(self.records[number] for number in thread.records), self.moments[now],
            is_locked=is_locked, outcome=outcome, seed=thread.seed,
            on_event=lambda *event: self._hear(loop, *event),
        )  # fmt: skip
        loop = self._scheduler(index, thread, tape, slots)
        value: Any
        try:
            value, kind, after = self.database.run(tape, content, self._code(thread, loop))
        except Blocked:
            return None
        except (OperationalError, LinodError) as error:
            tape.close()
            value, kind, after = error, "", self.database.after
        rest = None
        if kind:
            records = self.records.of_all(tape.records)
            rest = self.threads.of(
                thread._replace(
                    records=records,
                    stands_before=kind,
                    pending=tape.pending,
                    has_looked=tape.has_looked,
                )
            )
        memory = self._memory(loop, slots)
        is_to_commit = kind == "commit" and tape.pending is not None
        begun, told = tuple(slots.begun), tuple(self._told)
        ran = Ran(rest, after, value, memory, begun, told, is_to_commit)
        made = tape.records[len(thread.records) :]
        if course is not None and made and made[-1].kind not in ALONE:
            course.learn(made[-1], self.database.asked, ran)
        return ran

    def _code(self, thread: Thread, loop: Any) -> Callable[[], Any]:
        terms, (task, *_others) = loop.terms, self.tasks
        codes: dict[str, Callable[[], Any]] = {
            "tick": lambda: _finish_coroutine(loop.tick()),
            "stalled tick": lambda: _finish_coroutine(loop.tick()),
            "settling tick": lambda: _finish_coroutine(loop.tick()),
            "reclaim": lambda: claims.reclaim(terms, clock.db_now(ALIAS)),
            "heartbeat": lambda: leases.heartbeat(terms),
            "stop": lambda: _finish_coroutine(_stopping(loop).leave_nothing()),
            # What people do; they give up when they hear of a failure.
            "request": lambda: deepcopy(task).request_run(),
            "disable": lambda: deepcopy(task).disable("somebody wants it"),
            "cancel": lambda: claims.cancel(ALIAS, uuid.UUID(thread.seed)),
            "run": lambda: inline._insist(ALIAS, lambda: claims.claim_now(terms, task, None)),
            "record": lambda: inline._insist(
                ALIAS, lambda: inline._record(terms, loop.executor.ended[0])
            ),
        }
        return codes[thread.kind]

    def _scheduler(self, index: int, thread: Thread, tape: Tape, slots: Slots) -> Any:
        terms = Terms(ALIAS, OWNERS[index], LEASE, host=f"host {index}")
        daemons = self.scenario.daemons
        skew = self.scenario.skew[index] if index < daemons else (daemons - 1 - index) * APART
        tape.skew = timedelta(seconds=skew)
        offset: Any = SimpleNamespace(
            moment=lambda: tape.now + tape.skew,
            jump=lambda now, at: 0.0,
            measure=lambda now, at: None,
        )
        link: Any = Link(tape)
        loop: Any = scheduler.Scheduler(
            terms, self.settings, link, offset, is_trusted=lambda: thread.is_trusted
        )
        loop.executor = loop.seeker.executor = slots
        self._remind(loop, thread.start)
        loop._prefetch = lambda: self.scenario.ahead
        loop._gated_at = tape.now.timestamp()
        loop._settle_at = math.inf
        if thread.kind == "settling tick":
            loop._settle_at = 0.0
        if thread.kind == "stalled tick":
            loop._gated_at = 0.0
        return loop

    # Memories

    def _remind(self, loop: Any, memory: Memory) -> None:
        slots = loop.executor
        loop.backlog = [self.job(number) for number in memory.backlog]
        loop.taken_over = [self.job(number) for number in memory.taken_over]
        loop.unrecorded = [self._end(number) for number in memory.unrecorded]
        jobs = [self.job(number) for number in memory.running]
        slots.running = {job.key: SimpleNamespace(job=job) for job in jobs}
        slots.ended = [self._end(number) for number in memory.ended]
        loop.bridge.failures = int(memory.is_unsettled)
        loop.seeker._hints, loop.seeker._is_hinted = list(memory.hints), memory.is_hinted
        loop.seeker.was_idle, loop.seeker._took_shortcut = memory.was_idle, memory.took_shortcut
        if memory.foreseen is not None:
            at, numbers = memory.foreseen
            candidates = [self._candidate(number) for number in numbers]
            loop.seeker._foreseen = seeking.Foreseen(at, candidates)

    def _memory(self, loop: Any, slots: Slots) -> Memory:
        memory = Memory(
            self.jobs.of_all(map(_packed, loop.backlog)),
            self.jobs.of_all(map(_packed, loop.taken_over)),
            self.ends.of_all(map(self._packed_end, loop.unrecorded)),
            self.jobs.of_all(_packed(each.job) for each in slots.running.values()),
            self.ends.of_all(map(self._packed_end, slots.ended)),
            loop.bridge.failures != loop._failures_settled,
        )
        if self.scenario.is_told:
            memory = memory._replace(
                hints=tuple(loop.seeker._hints), is_hinted=loop.seeker._is_hinted,
                was_idle=loop.seeker.was_idle, took_shortcut=loop.seeker._took_shortcut,
            )  # fmt: skip
        if loop.seeker._foreseen is not None:
            candidates = map(self._packed_candidate, loop.seeker._foreseen.candidates)
            seen = loop.seeker._foreseen.at, self.candidates.of_all(candidates)
            memory = memory._replace(foreseen=seen)
        return memory

    def job(self, number: int) -> Claimed:
        """A job of that number, as new."""
        job = Claimed(*self.jobs[number])
        job.arguments = {}
        return job

    def hold(self, number: int) -> tuple[str, int]:
        """Which hold of which job has that number."""
        job = self.job(number)
        return job.id.hex, job.fence

    def number_of(self, job: Claimed) -> int:
        """The number of a job."""
        return self.jobs.of(_packed(job))

    def _end(self, number: int) -> Finished:
        job, *rest = self.ends[number]
        return Finished(self.job(job), *rest)

    def job_of(self, end: int) -> int:
        """The number of the job that an outcome is of."""
        number: int = self.ends[end][0]
        return number

    def _packed_end(self, end: Finished) -> tuple[Any, ...]:
        return self.number_of(end.job), end.state, end.start_time, end.end_time

    def _candidate(self, number: int) -> Candidate:
        job, *rest = self.candidates[number]
        return Candidate(None if job is None else self.job(job), *rest)

    def _packed_candidate(self, candidate: Candidate) -> tuple[Any, ...]:
        job = None if candidate.job is None else self.number_of(candidate.job)
        return job, *(getattr(candidate, name) for name in CANDIDATE_FIELDS[1:])

    def ended(self, memory: Memory, number: int, state: str, now: datetime) -> Memory:
        """The memory when the body of that job has ended so."""
        job = self.job(number)
        end = self._packed_end(Finished(job, state, job.start_time or now, now))
        running = tuple(each for each in memory.running if each != number)
        return memory._replace(running=running, ended=(*memory.ended, self.ends.of(end)))

    def hinted(self, memory: Memory, hint: bytes) -> Memory:
        """The memory when a hint has come."""
        slots = Slots(self.scenario.slots)
        tape = self.tape = Tape((), BEGIN)
        loop = self._scheduler(0, Thread("tick", start=memory), tape, slots)
        loop.look_now([hint])
        return memory._replace(hints=tuple(loop.seeker._hints), is_hinted=loop.seeker._is_hinted)

    def _hear(self, loop: Any, what: str, *args: Any) -> None:
        """Something happened beside the code."""
        if what == "ended":
            loop.executor.end(*args)
        elif what == "taken over":
            loop.taken_over += [self.job(number) for number in args[0]]
        elif what == "failed":
            loop.bridge.failures += 1
        elif what == "trusted":
            loop.is_trusted = lambda: args[0]
        elif what == "hinted":
            loop.look_now(args)
        elif what == "told to stop":
            loop.stop()

    # The surroundings

    @contextmanager
    def set_up(self) -> Iterator[None]:
        """Linod's clocks, keys, hints and pauses are the model's for as long as the block lasts."""
        database = self.database

        def now_of(connection: object) -> datetime:
            tape = database.tape
            return BEGIN if tape is None else tape.now + tape.skew

        def monotonic() -> float:
            return self.tape.now.timestamp()

        look = seeking.Seeker.look

        def looking(seeker: Any, turn: Any, ahead: int) -> None:
            self.tape.has_looked = True
            look(seeker, turn, ahead)

        def sleep(seconds: float) -> None:
            self.tape.step("retry")

        def tell(hint: bytes = wakeup.LOOK) -> None:
            self._told.append(hint)

        async def asleep(seconds: float) -> None:
            self.tape.step("sleep")

        virtual = SimpleNamespace(monotonic=monotonic, sleep=sleep)
        replaced: list[tuple[Any, str, Any]] = [
            (clock, "source", now_of),
            (agenda, "time", virtual),
            (scheduler, "time", virtual),
            (seeking, "time", virtual),
            (inline, "time", virtual),
            (farewell, "time", virtual),
            (farewell, "asyncio", SimpleNamespace(sleep=asleep, Event=asyncio.Event)),
            (farewell, "_attempt", _attempt),
            # The daemon's row is for display only.
            (farewell.Farewell, "_sign", lambda self, state: None),
            (seeking.Seeker, "look", looking),
            (scheduler.Scheduler, "executor_class", lambda *args: SimpleNamespace()),
            (agenda, "time_ordered_uuid", database.ids),
            (claims, "time_ordered_uuid", database.ids),
            (claims, "retry_delay", lambda base, attempt: 0.0),
            (claims.logger, "disabled", True),
            (wakeup, "send", tell),
            (wakeup, "send_ahead", tell),
        ]
        with ExitStack() as stack:
            for where, name, what in replaced:
                stack.enter_context(mock.patch.object(where, name, what))
            yield


def _packed(job: Claimed) -> tuple[Any, ...]:
    return tuple(None if name == "arguments" else getattr(job, name) for name in CLAIMED_FIELDS)


def _stopping(loop: Any) -> farewell.Farewell:
    """The stop of a daemon whose loop has ended since it was told to; its bodies' time is over."""
    loop.stop()
    return farewell.Farewell(loop, grace_ends=0.0)


def _finish_coroutine(coroutine: Any) -> Any:
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("the code waits for something")
