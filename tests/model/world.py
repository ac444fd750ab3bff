"""What can happen: two daemons, the clock, and the faults; every order of it is tried."""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest import mock

from django.db import OperationalError

from linod import agenda, claims, clock, leases, scheduler, seeking
from linod.conf import Config
from linod.models import BackgroundTask
from linod.procedures import Procedure
from linod.records import Claimed, Finished, Hold, Terms
from tests.daemons import only_these_procedures
from tests.model.database import (
    ALIAS,
    LOST_DONE,
    LOST_PENDING,
    LOST_UNDONE,
    OK,
    WAITING,
    Blocked,
    Database,
    Record,
    Tape,
    model_database,
)
from tests.model.rules import Rules, view

BEGIN = datetime(2026, 1, 5, 12, tzinfo=UTC)
LEASE = 30.0
OWNERS = tuple(uuid.UUID(int=n + 1) for n in range(2))
CLAIMED_FIELDS = tuple(f.name for f in fields(Claimed))


class Violation(AssertionError):
    """A rule does not hold; says which, and what led there."""


# What a daemon remembers


class Memory(NamedTuple):
    """What a daemon's loop remembers between two ticks; jobs as tuples."""

    backlog: tuple[Any, ...] = ()
    taken_over: tuple[Any, ...] = ()
    unrecorded: tuple[Any, ...] = ()
    running: tuple[Any, ...] = ()
    ended: tuple[Any, ...] = ()
    is_unsettled: bool = False

    @property
    def is_busy(self) -> bool:
        """As ``Scheduler.is_busy``."""
        return any(self[:5])

    @property
    def may_hold(self) -> bool:
        """As ``Scheduler.may_hold``."""
        return self.is_busy or self.is_unsettled


class Thread(NamedTuple):
    """A piece of code that stands between two of its steps."""

    kind: str
    seed: str = ""
    start: Memory = Memory()
    is_trusted: bool = True
    records: tuple[Record, ...] = ()
    stands_before: str = ""
    #: The content that its COMMIT would bring about.
    pending: int | None = None


class Process(NamedTuple):
    """A daemon: its memory now, its loop's tick, what runs beside it, and how it is."""

    memory: Memory = Memory()
    tick: Thread | None = None
    beside: Thread | None = None
    heart: Thread | None = None
    is_alive: bool = True
    #: Whether its heart beat when it last should.
    is_trusted: bool = True

    @property
    def threads(self) -> tuple[Thread, ...]:
        return tuple(each for each in (self.tick, self.beside, self.heart) if each is not None)

    @property
    def has_lock(self) -> bool:
        """Whether one of its transactions may write and has not ended."""
        return any(each.stands_before == "commit" for each in self.threads)


class State(NamedTuple):
    """All there is; daemons, contents and moments by their numbers.

    ``orphan``: the content that a COMMIT would bring whose sender has gone and whose outcome is
    open. ``begun``: the bodies that have begun, by (job, attempt). ``was_silent``: whether some
    daemon's leases ended while it lived, or it died: from then on jobs may be lost.
    """

    content: int
    now: int
    processes: tuple[int, ...]
    orphan: int | None
    begun: frozenset[Any]
    crashes: int
    pauses: int
    losses: int
    setbacks: int
    was_silent: bool


class Move(NamedTuple):
    """What one daemon may do next, and what comes of it."""

    said: str
    process: int
    content: int
    begun: tuple[Any, ...] = ()
    orphan: int | None = None
    losses: int = 0


def packed(job: Claimed) -> tuple[Any, ...]:
    return tuple(None if name == "arguments" else getattr(job, name) for name in CLAIMED_FIELDS)


def unpacked(values: tuple[Any, ...]) -> Claimed:
    job = Claimed(*values)
    job.arguments = {}
    return job


def packed_end(end: Finished) -> tuple[Any, ...]:
    return packed(end.job), end.state, end.start_time, end.end_time


def unpacked_end(values: tuple[Any, ...]) -> Finished:
    job, state, start_time, end_time = values
    return Finished(unpacked(job), state, start_time, end_time)


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

    def take_unbegun(self) -> list[Claimed]:
        return []

    def room(self, jobs: list[Claimed]) -> int:
        return min(self.free, len(jobs))

    def mean_duration(self) -> float:
        return 1.0

    async def settle(self) -> None:
        """Bodies end when the model says so."""

    def take_ended(self) -> list[Finished]:
        ended, self.ended = self.ended, []
        return ended

    def disown(self, keys: Iterable[Hold], reason: str) -> None:
        """Bodies end when the model says so, also those that are told to stop."""

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

    async def insist(self, action: Callable[..., Any], *args: Any, give_up: Any = None) -> Any:
        while True:
            try:
                return action(*args)
            except OperationalError:
                self.failures += 1
            self.tape.step("retry")


@dataclass(frozen=True)
class Scenario:
    """What the model is about, and how far it goes.

    :param instants: for each task, the seconds from the beginning at which it is due.
    :param ahead: jobs that a daemon claims before a slot is free for them.
    :param ends: the outcomes that a body may have.
    :param stalls: whether slots may stay full until jobs that wait for one are given back.
    :param lapses: whether daemons may read at any time which rows are theirs, as after a lapse.
    :param setbacks: how often somebody sets a task back to its first instant.
    :param skew: seconds that each daemon's own clock is ahead.
    :param values: of all tasks, by field.
    """

    instants: tuple[tuple[int, ...], ...] = ((0,),)
    slots: int = 1
    ahead: int = 0
    daemons: int = 2
    crashes: int = 0
    pauses: int = 0
    losses: int = 0
    outcomes: tuple[str, ...] = (LOST_DONE, LOST_UNDONE)
    leases: int = 2
    ends: tuple[str, ...] = ("succeeded",)
    stalls: bool = False
    lapses: bool = False
    setbacks: int = 0
    skew: tuple[int, ...] = (0, 0)
    values: dict[str, Any] = field(default_factory=dict)

    @property
    def moments(self) -> tuple[datetime, ...]:
        """The moments at which the clock stands: the instants, and then one behind each lease."""
        later = sorted({second for seconds in self.instants for second in seconds} | {0})
        found = [BEGIN + timedelta(seconds=second) for second in later]
        for _lease in range(self.leases):
            found.append(found[-1] + timedelta(seconds=LEASE + 1))
        return tuple(found)


class World:
    """Finds all states of a scenario."""

    def __init__(self, scenario: Scenario, database: Database) -> None:
        self.scenario = scenario
        self.database = database
        self.moments = scenario.moments
        self.first_lease = len(self.moments) - scenario.leases
        self.rules = Rules(self)
        self.processes: list[Process] = []
        self.numbers: dict[Process, int] = {}
        self.moves: dict[Any, list[Move]] = {}
        self.runs = 0
        self.states: list[State] = []
        self.came_from: list[tuple[int, str]] = []
        self.follow: list[list[int]] = []
        self.settings = Config(MAX_CONCURRENCY=scenario.slots, LEASE=LEASE)

    @property
    def transitions(self) -> int:
        return sum(map(len, self.follow))

    def number(self, process: Process) -> int:
        """The number of a daemon's condition."""
        number = self.numbers.setdefault(process, len(self.processes))
        if number == len(self.processes):
            self.processes.append(process)
        return number

    # Running linod's code

    def run(
        self,
        index: int,
        thread: Thread,
        content: int,
        now: int,
        is_locked: bool,
        outcome: str = OK,
    ) -> tuple[Thread | None, int, Any, Memory, list[Claimed]] | None:
        """Run a thread for one more step; None: it waits for a lock.

        Returns where it stands then (None: it has ended), the content, its value (or the error),
        the memory of the loop, and the jobs whose bodies it began.
        """
        if is_locked and thread.stands_before in WAITING:  # no need to replay it to find that out
            return None
        self.runs += 1
        slots = Slots(self.scenario.slots)
        tape = self.tape = Tape(
            thread.records, self.moments[now], is_locked=is_locked, outcome=outcome,
            seed=thread.seed, on_event=lambda *event: self._hear(loop, *event),
        )  # fmt: skip
        loop = self._scheduler(index, thread, tape, slots)
        terms = loop.terms
        codes: dict[str, Callable[[], Any]] = {
            "tick": lambda: _finish_coroutine(loop.tick()),
            "stalled tick": lambda: _finish_coroutine(loop.tick()),
            "settling tick": lambda: _finish_coroutine(loop.tick()),
            "reclaim": lambda: claims.reclaim(terms, clock.db_now()),
            "heartbeat": lambda: leases.heartbeat(terms),
        }
        value: Any
        try:
            value, kind, after = self.database.run(tape, content, codes[thread.kind])
        except Blocked:
            return None
        except OperationalError as error:
            tape.close()
            value, kind, after = error, "", content
        if thread.stands_before == "commit" and outcome in (OK, LOST_DONE):
            assert thread.pending is not None
            after = thread.pending
        rest = None
        if kind:
            rest = thread._replace(
                records=tuple(tape.records), stands_before=kind, pending=tape.pending
            )
        return rest, after, value, self._memory(loop, slots), slots.begun

    def _scheduler(self, index: int, thread: Thread, tape: Tape, slots: Slots) -> Any:
        terms = Terms(ALIAS, OWNERS[index], LEASE, host=f"host {index}")
        tape.skew = timedelta(seconds=self.scenario.skew[index])
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
        memory = thread.start
        loop.backlog = [unpacked(job) for job in memory.backlog]
        loop.taken_over = [unpacked(job) for job in memory.taken_over]
        loop.unrecorded = [unpacked_end(end) for end in memory.unrecorded]
        jobs = [unpacked(job) for job in memory.running]
        slots.running = {job.key: SimpleNamespace(job=job) for job in jobs}
        slots.ended = [unpacked_end(end) for end in memory.ended]
        link.failures = int(memory.is_unsettled)
        loop._prefetch = lambda: self.scenario.ahead
        loop._gated_at = tape.now.timestamp()
        loop._settle_at = math.inf
        if thread.kind == "settling tick":
            loop._settle_at = 0.0
        if thread.kind == "stalled tick":
            loop._gated_at = 0.0
        return loop

    @staticmethod
    def _hear(loop: Any, what: str, *args: Any) -> None:
        """Something happened beside the tick."""
        if what == "ended":
            loop.executor.end(*args)
        elif what == "taken over":
            loop.taken_over += [unpacked(job) for job in args[0]]
        elif what == "failed":
            loop.bridge.failures += 1
        elif what == "trusted":
            loop.is_trusted = lambda: args[0]

    @staticmethod
    def _memory(loop: Any, slots: Slots) -> Memory:
        return Memory(
            tuple(map(packed, loop.backlog)),
            tuple(map(packed, loop.taken_over)),
            tuple(map(packed_end, loop.unrecorded)),
            tuple(packed(each.job) for each in slots.running.values()),
            tuple(map(packed_end, slots.ended)),
            loop.bridge.failures != loop._failures_settled,
        )

    # What one daemon may do next

    def moves_of(
        self, index: int, number: int, content: int, now: int, is_locked: bool, may_lose: bool
    ) -> list[Move]:
        key = index, number, content, now, is_locked, may_lose
        found = self.moves.get(key)
        if found is None:
            process = self.processes[number]
            found = self.moves[key] = [
                move
                for place, thread in self._threads(index, process, content, now)
                for move in self._advance(
                    index, process, place, thread, content, now, is_locked, may_lose
                )
            ]
            found += self._bodies(index, process, content, now)
        return found

    def _threads(
        self, index: int, process: Process, content: int, now: int
    ) -> Iterator[tuple[str, Thread]]:
        """What runs, and what may begin; the loop's two share the bridge to the database."""
        seen = self.database.views[content]
        seed = f"{index}/{now}/{len(seen.jobs)}"
        if process.tick is not None and process.beside is None:
            yield "tick", process.tick
        if process.tick is None and process.beside is None:
            yield "tick", Thread("tick", seed, process.memory, process.is_trusted)
            memory, is_trusted = process.memory, process.is_trusted
            full = len(memory.running) >= self.scenario.slots
            if self.scenario.stalls and full and memory.backlog and _is_first(memory.backlog):
                yield "tick", Thread("stalled tick", seed, memory, is_trusted)
            if LOST_PENDING in self.scenario.outcomes or self.scenario.lapses:
                yield "tick", Thread("settling tick", seed, memory, is_trusted)
        if process.beside is not None:
            yield "beside", process.beside
        elif (process.tick is None or process.tick.stands_before == "retry") and (
            seen.has_expired(self.moments[now], but=OWNERS[index])
        ):
            yield "beside", Thread("reclaim", seed)
        if process.heart is not None:
            yield "heart", process.heart
        elif not process.is_trusted or (
            process.memory.may_hold
            and seen.has_expired(self.moments[now] + timedelta(seconds=LEASE), only=OWNERS[index])
        ):
            yield "heart", Thread("heartbeat")

    def _advance(
        self,
        index: int,
        process: Process,
        place: str,
        thread: Thread,
        content: int,
        now: int,
        is_locked: bool,
        may_lose: bool,
    ) -> Iterator[Move]:
        """The thread goes on by one step; a COMMIT may come out in several ways."""
        is_commit = thread.stands_before == "commit"
        # Its own transaction is no obstacle to what it does next, but to its other threads.
        is_locked = is_locked or any(
            each.stands_before == "commit" for each in process.threads if each is not thread
        )
        for outcome in (OK, *(self.scenario.outcomes if is_commit and may_lose else ())):
            found = self.run(index, thread, content, now, is_locked, outcome)
            if found is None:
                continue
            rest, after, value, memory, begun = found
            said = f"daemon {index}: {thread.kind}: {thread.stands_before or 'begins'}"
            if outcome != OK:
                said += f" ({outcome}, its answer is lost)"
            if after != content:
                self.rules.check_change(content, after, index, now, said)
            yield Move(
                said,
                self.number(self._after(process, place, rest, value, memory)),
                after,
                tuple(begun),
                thread.pending if outcome == LOST_PENDING else None,
                int(outcome != OK),
            )

    def _after(
        self, process: Process, place: str, rest: Thread | None, value: Any, memory: Memory
    ) -> Process:
        changes: dict[str, Any] = {place: rest}
        is_over, failed = rest is None, isinstance(value, OperationalError)
        if place == "tick":
            changes["memory"] = memory
        elif place == "beside" and failed:
            changes["memory"] = process.memory._replace(is_unsettled=True)
            changes |= self._event(process, "failed")
        elif place == "beside" and is_over and value:
            got = tuple(map(packed, value))
            changes["memory"] = process.memory._replace(taken_over=process.memory.taken_over + got)
            changes |= self._event(process, "taken over", got)
        elif place == "heart" and is_over and not failed and not process.is_trusted:
            changes["is_trusted"] = True
            changes |= self._event(process, "trusted", True)
        return process._replace(**changes)

    @staticmethod
    def _event(process: Process, *event: Any) -> dict[str, Any]:
        """What a tick that is under way hears of it."""
        if process.tick is None:
            return {}
        now = process.tick.records[-1].now
        records = (*process.tick.records, Record("event", now, event))
        return {"tick": process.tick._replace(records=records)}

    def _bodies(self, index: int, process: Process, content: int, now: int) -> Iterator[Move]:
        moment = self.moments[now]
        for values in process.memory.running:
            job = unpacked(values)
            for end in self.scenario.ends:
                ended = Finished(job, end, job.start_time or moment, moment)
                running = tuple(each for each in process.memory.running if each != values)
                memory = process.memory._replace(
                    running=running, ended=(*process.memory.ended, packed_end(ended))
                )
                changes = self._event(process, "ended", job.key, end, moment)
                after = self.number(process._replace(memory=memory, **changes))
                yield Move(f"daemon {index}: a body {end}", after, content)

    # All that may happen next

    def first(self) -> State:
        s = self.scenario
        idle = (self.number(Process()),) * s.daemons
        content = self.database.number()
        return State(
            content, 0, idle, None, frozenset(), s.crashes, s.pauses, s.losses, s.setbacks,
            False,
        )  # fmt: skip

    def next_states(self, state: State) -> Iterator[tuple[str, State]]:
        processes = [self.processes[number] for number in state.processes]
        has_lock = [process.has_lock for process in processes]
        if state.orphan is not None:
            yield "the lost COMMIT arrives", state._replace(content=state.orphan, orphan=None)
            yield "the lost COMMIT fails", state._replace(orphan=None)
        for index, process in enumerate(processes):
            if index and self._is_untouched(state):
                break  # daemons that have done nothing yet are the same: let the first begin
            if not process.is_alive:
                continue
            if state.crashes and state.now + 1 < len(self.moments):
                yield from self._killed(state, index, process)
            is_locked = state.orphan is not None or any(
                held for n, held in enumerate(has_lock) if n != index
            )
            for move in self.moves_of(
                index, state.processes[index], state.content, state.now, is_locked,
                state.losses > 0,
            ):  # fmt: skip
                yield move.said, self._moved(state, index, move)
        yield from self._time(state, processes)
        if state.setbacks and state.orphan is None and not any(has_lock):
            content = self._set_back(state.content)
            yield (
                "the task is set back",
                state._replace(content=content, setbacks=state.setbacks - 1),
            )

    def _killed(self, state: State, index: int, process: Process) -> Iterator[tuple[str, State]]:
        """A daemon dies; a COMMIT that it had sent may arrive."""
        dead = self._with(state, index, self.number(Process(is_alive=False)))
        dead = dead._replace(crashes=state.crashes - 1, was_silent=True)
        yield f"daemon {index} is killed", dead
        for thread in process.threads:
            if thread.stands_before == "commit":
                assert thread.pending is not None
                yield (
                    f"daemon {index} is killed, its COMMIT arrives",
                    dead._replace(content=thread.pending),
                )

    def _set_back(self, content: int) -> int:
        key = "set back", content
        if key not in self.moves:
            self.database.show(content)
            BackgroundTask.objects.using(ALIAS).update(next_run_at=BEGIN)
            self.moves[key] = [Move("", 0, self.database.number())]
        return self.moves[key][0].content

    def _is_untouched(self, state: State) -> bool:
        return not any(state.processes) and not self.database.views[state.content].jobs

    def _moved(self, state: State, index: int, move: Move) -> State:
        begun = state.begun
        for job in move.begun:
            begun = self.rules.begin(begun, job, index)
        after = self._with(state, index, move.process)
        return after._replace(
            content=move.content,
            begun=begun,
            orphan=move.orphan if move.orphan is not None else state.orphan,
            losses=state.losses - move.losses,
        )

    @staticmethod
    def _with(state: State, index: int, process: int) -> State:
        numbers = state.processes
        return state._replace(processes=(*numbers[:index], process, *numbers[index + 1 :]))

    def _time(self, state: State, processes: list[Process]) -> Iterator[tuple[str, State]]:
        if state.now + 1 == len(self.moments):
            return
        if state.now + 1 < self.first_lease:
            yield "the next instant comes", state._replace(now=state.now + 1)
            return
        alive = [n for n, process in enumerate(processes) if process.is_alive]
        yield from self._lease(state, processes, alive, None)
        if state.pauses:
            for paused in alive:
                yield from self._lease(state, processes, alive, paused)

    def _lease(
        self, state: State, processes: list[Process], alive: list[int], paused: int | None
    ) -> Iterator[tuple[str, State]]:
        """A lease passes; who is well and can write has renewed its own at the end of it.

        Who is well has not stood before the same statement all that time.
        """
        well = [n for n in alive if n != paused]
        if any(processes[n].threads or self._is_forgetful(n, state, processes[n]) for n in well):
            return
        is_locked = state.orphan is not None or any(processes[n].has_lock for n in alive)
        after, now = state._replace(now=state.now + 1), state.now + 1
        for n in alive:
            if n == paused:
                continue
            if is_locked:
                changes = self._event(processes[n], "trusted", False)
                silent = processes[n]._replace(is_trusted=False, **changes)
                after = self._with(after, n, self.number(silent))._replace(was_silent=True)
            elif processes[n].memory.may_hold:
                after = after._replace(content=self._renewed(n, processes[n], after.content, now))
        if paused is None:
            yield "a lease passes", after
        else:
            yield (
                f"daemon {paused} pauses for a lease",
                after._replace(pauses=state.pauses - 1, was_silent=True),
            )

    def _is_forgetful(self, index: int, state: State, process: Process) -> bool:
        """Whether it holds a job that it does not know: it asks three times in a lease."""
        memory = process.memory
        known = {values[0].hex for part in memory[:2] + memory[3:4] for values in part}
        known |= {end[0][0].hex for part in (memory.unrecorded, memory.ended) for end in part}
        return LOST_PENDING in self.scenario.outcomes and any(
            job.owner == OWNERS[index].hex and job.lease_until is not None and job.id not in known
            for job in self.database.views[state.content].jobs
        )

    def _renewed(self, index: int, process: Process, content: int, now: int) -> int:
        """The content after a heartbeat as a whole."""
        key = "renewed", index, content, now
        if key not in self.moves:
            thread: Thread | None = Thread("heartbeat")
            after = content
            while thread is not None:
                found = self.run(index, thread, after, now, is_locked=False)
                assert found is not None
                thread, after = found[0], found[1]
            self.moves[key] = [Move("", 0, after)]
        return self.moves[key][0].content

    # The search

    @property
    def schedules(self) -> int:
        """How many ways lead from the beginning to an end; those that go round are left out."""
        ways = [1] + [0] * (len(self.states) - 1)
        ended = 0
        for number, following in enumerate(self.follow):
            onward = [after for after in following if after > number]
            for after in onward:
                ways[after] += ways[number]
            ended += 0 if onward else ways[number]
        return ended

    def search(self, limit: int = 10_000_000) -> None:
        """Visit every state; raises :class:`Violation` with the way that leads to it."""
        first = self.first()
        known = {first: 0}
        self.states, self.came_from = [first], [(0, "")]
        for number, state in enumerate(self.states):
            following: list[int] = []
            self.follow.append(following)
            try:
                self.rules.check_state(state)
                for said, after in self.next_states(state):
                    found = known.setdefault(after, len(self.states))
                    if found == len(self.states):
                        self.states.append(after)
                        self.came_from.append((number, said))
                    following.append(found)
            except Violation as error:
                raise Violation(f"{error}\n{self.way_to(number)}") from None
            if len(self.states) > limit:
                raise AssertionError(f"more than {limit} states")
        self._check_ends()

    def _check_ends(self) -> None:
        """From each state there is a way to an end at which all is done."""
        before: list[list[int]] = [[] for _ in self.states]
        for number, following in enumerate(self.follow):
            for after in following:
                before[after].append(number)
        good = [number for number, state in enumerate(self.states) if self.rules.is_done(state)]
        self.done = len(good)
        reached = set(good)
        while good:
            for number in before[good.pop()]:
                if number not in reached:
                    reached.add(number)
                    good.append(number)
        for number in range(len(self.states)):
            if number not in reached:
                raise Violation(
                    "everything comes to an end: from here it cannot:"
                    f" {self.database.views[self.states[number].content]}\n{self.way_to(number)}"
                )

    def way_to(self, number: int) -> str:
        lines = []
        while number:
            number, said = self.came_from[number]
            lines.append(said)
        return "\n".join(f"  {n}. {said}" for n, said in enumerate(reversed(lines), 1))


def _is_first(backlog: tuple[Any, ...]) -> bool:
    """Whether none of these jobs was given back before: it could go on for ever."""
    return all(unpacked(values).fence == 1 for values in backlog)


def _finish_coroutine(coroutine: Any) -> Any:
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("the tick waits for something")


def work() -> None:
    """Do nothing."""


@contextmanager
def world_of(scenario: Scenario) -> Iterator[World]:
    """A world at its beginning: the tasks wait for their first instants."""
    with only_these_procedures() as registry, model_database(view) as database:
        for n in range(len(scenario.instants)):
            name = f"work{n}"
            registry[name] = Procedure(work, name)

        def now_of(connection: object) -> datetime:
            tape = database.tape
            return BEGIN if tape is None else tape.now + tape.skew

        def monotonic() -> float:
            return world.tape.now.timestamp()

        virtual = SimpleNamespace(monotonic=monotonic)
        with (
            mock.patch.object(clock, "source", now_of),
            mock.patch.object(agenda, "time", virtual),
            mock.patch.object(scheduler, "time", virtual),
            mock.patch.object(seeking, "time", virtual),
            mock.patch.object(
                scheduler.Scheduler, "executor_class", return_value=SimpleNamespace()
            ),
            mock.patch.object(agenda, "time_ordered_uuid", database.ids),
            mock.patch.object(claims, "time_ordered_uuid", database.ids),
            mock.patch.object(claims, "retry_delay", return_value=0.0),
            mock.patch.object(claims.logger, "disabled", True),
        ):
            for n, seconds in enumerate(scenario.instants):
                _make_task(f"work{n}", seconds, scenario.values)
            database.shown = None
            world = World(scenario, database)
            yield world


def _make_task(name: str, seconds: tuple[int, ...], values: dict[str, Any]) -> None:
    """A task that is due at these seconds: evenly spaced, the first one is its start."""
    start = BEGIN + timedelta(seconds=seconds[0])
    every = seconds[1] - seconds[0] if len(seconds) > 1 else 1
    BackgroundTask.objects.using(ALIAS).bulk_create(
        [
            BackgroundTask(
                name=name,
                seqno=1,
                procedure=name,
                every_unit="secondly",
                every=every,
                start_date=start.date(),
                start_time=start.time(),
                time_zone="UTC",
                max_events=len(seconds),
                next_run_at=start,
                **values,
            )
        ]
    )
