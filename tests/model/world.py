"""What can happen: daemons, people, the clock, and the faults; every order of it is tried.

Two things keep that small, and are argued where they are done: a step of a piece of code is run
once, however often it comes about (:class:`tests.model.stage.Stage`), and a state is left alone
when one was met before that differs from it only in that more may still befall (``World.find``).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from operator import ge
from typing import Any, NamedTuple

from django.db import OperationalError

from linod.models import BackgroundTask
from linod.procedures import Procedure
from linod.records import Claimed
from tests.daemons import only_these_procedures
from tests.model.database import (
    ALIAS,
    LOST_DONE,
    LOST_PENDING,
    LOST_UNDONE,
    OK,
    Database,
    Record,
    model_database,
)
from tests.model.numbers import Numbers
from tests.model.rules import Rules, Violation, view
from tests.model.stage import BEGIN, LEASE, OWNERS, Memory, Ran, Stage, Thread


class Process(NamedTuple):
    """A daemon, or somebody: its memory now, what it does, and how it is; threads by numbers."""

    memory: Memory = Memory()
    #: The loop's tick, or its stop; or what somebody does.
    tick: int | None = None
    beside: int | None = None
    heart: int | None = None
    is_alive: bool = True
    #: Whether its heart beat when it last should.
    is_trusted: bool = True
    is_told_to_stop: bool = False
    has_ended: bool = False
    #: The hints that somebody has sent, and those that a daemon has heard.
    told: tuple[bytes, ...] = ()
    heard: tuple[bytes, ...] = ()

    @property
    def threads(self) -> tuple[int, ...]:
        return tuple(each for each in (self.tick, self.beside, self.heart) if each is not None)


class State(NamedTuple):
    """All there is, and behind it what may still befall; contents and the like by their numbers.

    ``orphan``: the content that a COMMIT would bring whose sender has gone and whose outcome is
    open. ``begun``: the bodies that have begun, by (job, attempt). ``is_calm``: no daemon's leases
    ended while it lived, and none died: as long as that is so, no job may be lost.
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
    stops: int
    is_calm: bool = True

    @property
    def place(self) -> tuple[Any, ...]:
        """All there is."""
        return self[:5]

    @property
    def freedom(self) -> tuple[int, ...]:
        """What may still befall."""
        return self[5:]

    @property
    def left(self) -> int:
        """How many faults may still happen."""
        return sum(self[5:10])


class Move(NamedTuple):
    """What one process may do next, and what comes of it."""

    said: str
    process: int
    content: int
    begun: tuple[Any, ...] = ()
    orphan: int | None = None
    losses: int = 0


@dataclass(frozen=True)
class Scenario:
    """What the model is about, and how far it goes.

    :param instants: for each task, the seconds from the beginning at which it is due.
    :param ahead: jobs that a daemon claims before a slot is free for them.
    :param people: what somebody does once, at any time: "request" or "disable" the first task,
        "run" it, or "cancel" a job.
    :param ends: the outcomes that a body may have.
    :param stalls: whether slots may stay full until jobs that wait for one are given back.
    :param lapses: whether daemons may read at any time which rows are theirs, as after a lapse.
    :param setbacks: how often somebody sets a task back to its first instant.
    :param stops: how many daemons may be told to stop.
    :param early: seconds before the instants at which daemons may look, too.
    :param skew: seconds that each daemon's own clock is ahead.
    :param values: of all tasks, by field.
    """

    instants: tuple[tuple[int, ...], ...] = ((0,),)
    slots: int = 1
    ahead: int = 0
    daemons: int = 2
    people: tuple[str, ...] = ()
    crashes: int = 0
    pauses: int = 0
    losses: int = 0
    outcomes: tuple[str, ...] = (LOST_DONE, LOST_UNDONE)
    leases: int = 2
    ends: tuple[str, ...] = ("succeeded",)
    stalls: bool = False
    lapses: bool = False
    setbacks: int = 0
    stops: int = 0
    early: float = 0.0
    skew: tuple[int, ...] = (0, 0)
    values: dict[str, Any] = field(default_factory=dict)

    @property
    def moments(self) -> tuple[datetime, ...]:
        """The moments at which the clock stands: the instants, and then one behind each lease."""
        seconds = {float(second) for instants in self.instants for second in instants} | {0.0}
        if self.early:
            seconds |= {second - self.early for second in seconds}
        found = [BEGIN + timedelta(seconds=second) for second in sorted(seconds)]
        for _lease in range(self.leases):
            found.append(found[-1] + timedelta(seconds=LEASE + 1))
        return tuple(found)

    @property
    def is_told(self) -> bool:
        """Whether daemons hear of requests."""
        return "request" in self.people


class World:
    """Finds all states of a scenario."""

    def __init__(self, scenario: Scenario, database: Database, stage: Stage) -> None:
        self.scenario = scenario
        self.database = database
        self.stage = stage
        self.moments = scenario.moments
        self.first_lease = len(self.moments) - scenario.leases
        self.rules = Rules(self)
        self.processes: Numbers[Process] = Numbers()
        self._locking: dict[int, bool] = {}
        self.moves: dict[Any, list[Move]] = {}
        #: Whether states are left alone that can bring nothing new.
        self.is_reduced = True
        self.forget()

    def forget(self) -> None:
        """As before any search."""
        self.states: list[State] = []
        self.came_from: list[tuple[int, str]] = []
        #: For each state those that follow it without a further fault.
        self.follow: list[list[int]] = []
        self.transitions = 0
        self.done = 0
        self._met: dict[Any, list[int]] = {}

    def kind_of(self, index: int) -> str:
        """What a process is: a daemon, or what somebody does."""
        daemons = self.scenario.daemons
        return "daemon" if index < daemons else self.scenario.people[index - daemons]

    def has_lock(self, number: int) -> bool:
        """Whether one of a process' transactions may write and has not ended."""
        if number not in self._locking:
            threads = map(self.stage.threads.__getitem__, self.processes[number].threads)
            self._locking[number] = any(each.stands_before == "commit" for each in threads)
        return self._locking[number]

    # What one process may do next

    def moves_of(
        self, index: int, number: int, content: int, now: int, is_locked: bool, may_lose: bool
    ) -> list[Move]:
        key = index, number, content, now, is_locked, may_lose
        found = self.moves.get(key)
        if found is None:
            process = self.processes[number]
            is_daemon = index < self.scenario.daemons
            threads = self._threads if is_daemon else self._doings
            found = self.moves[key] = [
                move
                for place, thread in threads(index, process, content, now)
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
        memory, is_trusted = process.memory, process.is_trusted
        tick = None if process.tick is None else self.stage.threads[process.tick]
        if tick is not None and process.beside is None and not self._is_asleep(tick, process, now):
            yield "tick", tick
        if tick is None and process.beside is None and not process.has_ended:
            if process.is_told_to_stop:
                yield "tick", Thread("stop", seed, memory, is_trusted)
            else:
                yield "tick", Thread("tick", seed, memory, is_trusted)
                full = len(memory.running) >= self.scenario.slots
                if self.scenario.stalls and full and memory.backlog and self._is_first(memory):
                    yield "tick", Thread("stalled tick", seed, memory, is_trusted)
                if LOST_PENDING in self.scenario.outcomes or self.scenario.lapses:
                    yield "tick", Thread("settling tick", seed, memory, is_trusted)
        if process.beside is not None:
            yield "beside", self.stage.threads[process.beside]
        elif (
            (tick is None or tick.stands_before == "retry")
            and not process.is_told_to_stop
            and seen.has_expired(self.moments[now], but=OWNERS[index])
        ):
            yield "beside", Thread("reclaim", seed)
        yield from self._hearts(index, process, content, now)

    def _hearts(
        self, index: int, process: Process, content: int, now: int
    ) -> Iterator[tuple[str, Thread]]:
        if process.heart is not None:
            yield "heart", self.stage.threads[process.heart]
        elif not process.has_ended and (
            not process.is_trusted
            or (
                process.memory.may_hold
                and self.database.views[content].has_expired(
                    self.moments[now] + timedelta(seconds=LEASE), only=OWNERS[index]
                )
            )
        ):
            yield "heart", Thread("heartbeat")

    def _is_asleep(self, thread: Thread, process: Process, now: int) -> bool:
        """Whether it sleeps until a body ends, or until the clock stands elsewhere."""
        return (
            thread.stands_before == "sleep"
            and not process.memory.ended
            and self.stage.records[thread.records[-1]].now == self.moments[now]
        )

    def _doings(
        self, index: int, process: Process, content: int, now: int
    ) -> Iterator[tuple[str, Thread]]:
        """What somebody does, and may begin to do: once, where it is not about a body's end."""
        kind, memory = self.kind_of(index), process.memory
        seen = self.database.views[content]
        if process.tick is not None:
            yield "tick", self.stage.threads[process.tick]
        elif memory.ended:
            yield "tick", Thread("record", start=memory)
        elif kind == "cancel" and not process.has_ended:
            for job in seen.jobs:
                yield "tick", Thread(kind, job.id)
        elif not memory.running and not process.has_ended:
            yield "tick", Thread(kind, f"{index}/{now}/{len(seen.jobs)}")
        yield from self._hearts(index, process, content, now)

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
        threads = self.stage.threads
        number = threads.of(thread)
        is_commit = thread.stands_before == "commit"
        # Its own transaction is no obstacle to what it does next, but to its other threads.
        is_locked = is_locked or any(
            threads[each].stands_before == "commit" for each in process.threads if each != number
        )
        for outcome in (OK, *(self.scenario.outcomes if is_commit and may_lose else ())):
            ran = self.stage.run(index, number, content, now, is_locked, outcome)
            if ran is None:
                continue
            said = f"{self.kind_of(index)} {index}: {thread.kind}"
            said += f": {thread.stands_before or 'begins'}"
            if outcome != OK:
                said += f" ({outcome}, its answer is lost)"
            if ran.content != content:
                self.rules.check_change(content, ran.content, index, now, said)
            after = self._after(index, process, place, thread, ran)
            if after.has_ended and not process.has_ended:
                self.rules.check_end(ran.content, index, said)
            begun = ran.begun
            if thread.kind == "run" and isinstance(ran.value, Claimed):
                begun = (ran.value,)
            yield Move(
                said,
                self.processes.of(after),
                ran.content,
                begun,
                thread.pending if outcome == LOST_PENDING else None,
                int(outcome != OK),
            )

    def _after(self, index: int, process: Process, place: str, thread: Thread, ran: Ran) -> Process:
        changes: dict[str, Any] = {place: ran.rest}
        is_over, failed = ran.rest is None, isinstance(ran.value, OperationalError)
        if place == "tick" and index < self.scenario.daemons:
            changes["memory"] = ran.memory
            if is_over and thread.kind == "stop":
                changes |= {"memory": Memory(), "has_ended": True}
        elif place == "tick":
            changes["told"] = ran.told if self.scenario.is_told else ()
            if thread.kind == "record":
                changes["memory"] = ran.memory
            if is_over and thread.kind == "run" and isinstance(ran.value, Claimed):
                job = self.stage.number_of(ran.value)
                changes["memory"] = process.memory._replace(running=(job,))
            elif is_over:
                changes |= {"memory": Memory(), "has_ended": True}
        elif place == "beside" and failed:
            changes["memory"] = process.memory._replace(is_unsettled=True)
            changes |= self._event(process, "failed")
        elif place == "beside" and is_over and ran.value and not process.is_told_to_stop:
            got = tuple(map(self.stage.number_of, ran.value))
            changes["memory"] = process.memory._replace(taken_over=process.memory.taken_over + got)
            changes |= self._event(process, "taken over", got)
        elif place == "heart" and is_over and not failed and not process.is_trusted:
            changes["is_trusted"] = True
            changes |= self._event(process, "trusted", True)
        return process._replace(**changes)

    def _event(self, process: Process, *event: Any) -> dict[str, Any]:
        """What a tick that is under way hears of it."""
        if process.tick is None:
            return {}
        tick = self.stage.threads[process.tick]
        now = self.stage.records[tick.records[-1]].now
        number = self.stage.records.of(Record("event", now, event))
        tick = tick._replace(records=(*tick.records, number))
        return {"tick": self.stage.threads.of(tick)}

    def _bodies(self, index: int, process: Process, content: int, now: int) -> Iterator[Move]:
        moment = self.moments[now]
        for number in process.memory.running:
            for end in self.scenario.ends:
                memory = self.stage.ended(process.memory, number, end, moment)
                key = self.stage.job(number).key
                changes = self._event(process, "ended", key, end, moment)
                after = self.processes.of(process._replace(memory=memory, **changes))
                yield Move(f"{self.kind_of(index)} {index}: a body {end}", after, content)

    def _is_first(self, memory: Memory) -> bool:
        """Whether none of the backlog was given back before: it could go on for ever."""
        return all(self.stage.hold(number)[1] == 1 for number in memory.backlog)

    # All that may happen next

    def first(self) -> State:
        s = self.scenario
        idle = (self.processes.of(Process()),) * (s.daemons + len(s.people))
        content = 0 if self.database.images else self.database.number()
        return State(
            content, 0, idle, None, frozenset(),
            s.crashes, s.pauses, s.losses, s.setbacks, s.stops,
        )  # fmt: skip

    def next_states(self, state: State) -> Iterator[tuple[str, State]]:
        processes = [self.processes[number] for number in state.processes]
        has_lock = [self.has_lock(number) for number in state.processes]
        if state.orphan is not None:
            yield "the lost COMMIT arrives", state._replace(content=state.orphan, orphan=None)
            yield "the lost COMMIT fails", state._replace(orphan=None)
        for index, process in enumerate(processes):
            if 0 < index < self.scenario.daemons and self._is_untouched(state):
                continue  # daemons that have done nothing yet are the same: let the first begin
            if not process.is_alive or (process.has_ended and not process.threads):
                continue
            # Who is killed before the first step is like who never takes it: people need not.
            is_people_s_first = index >= self.scenario.daemons and process == Process()
            if state.crashes and state.now + 1 < len(self.moments) and not is_people_s_first:
                yield from self._killed(state, index, process)
            is_locked = state.orphan is not None or any(
                held for n, held in enumerate(has_lock) if n != index
            )
            for move in self.moves_of(
                index, state.processes[index], state.content, state.now, is_locked,
                state.losses > 0,
            ):  # fmt: skip
                yield move.said, self._moved(state, index, move)
            if index < self.scenario.daemons and not process.is_told_to_stop:
                yield from self._told(state, index, processes)
        yield from self._time(state, processes)
        if state.setbacks and state.orphan is None and not any(has_lock):
            content = self._set_back(state.content)
            yield (
                "the task is set back",
                state._replace(content=content, setbacks=state.setbacks - 1),
            )

    def _told(
        self, state: State, index: int, processes: list[Process]
    ) -> Iterator[tuple[str, State]]:
        """A daemon hears a hint, each at most once, or that it is to stop.

        Once a turn has looked for hints, those that come are as those that come behind it.
        """
        process = processes[index]
        is_deaf = process.tick is not None and self.stage.threads[process.tick].has_looked
        told = [hint for each in processes for hint in each.told]
        for hint in () if is_deaf else dict.fromkeys(told):
            if process.heard.count(hint) < told.count(hint):
                after = process._replace(
                    memory=self.stage.hinted(process.memory, hint),
                    heard=tuple(sorted([*process.heard, hint])),
                    **self._event(process, "hinted", hint),
                )
                yield (
                    f"daemon {index} hears {hint!r}",
                    self._with(state, index, self.processes.of(after)),
                )
        if state.stops:
            after = process._replace(is_told_to_stop=True, **self._event(process, "told to stop"))
            told = self._with(state, index, self.processes.of(after))
            yield f"daemon {index} is told to stop", told._replace(stops=state.stops - 1)

    def _killed(self, state: State, index: int, process: Process) -> Iterator[tuple[str, State]]:
        """A process dies; a COMMIT that it had sent may arrive."""
        gone = process._replace(
            memory=Memory(), tick=None, beside=None, heart=None, is_alive=False,
            is_trusted=True, heard=(),
        )  # fmt: skip
        dead = self._with(state, index, self.processes.of(gone))
        dead = dead._replace(crashes=state.crashes - 1, is_calm=False)
        who = f"{self.kind_of(index)} {index}"
        yield f"{who} is killed", dead
        for number in process.threads:
            thread = self.stage.threads[number]
            if thread.stands_before == "commit":
                assert thread.pending is not None
                yield f"{who} is killed, its COMMIT arrives", dead._replace(content=thread.pending)

    def _set_back(self, content: int) -> int:
        key = "set back", content
        if key not in self.moves:
            self.database.show(content)
            BackgroundTask.objects.using(ALIAS).update(next_run_at=BEGIN)
            self.moves[key] = [Move("", 0, self.database.number())]
        return self.moves[key][0].content

    def _is_untouched(self, state: State) -> bool:
        daemons = state.processes[: self.scenario.daemons]
        return not any(daemons) and not self.database.views[state.content].jobs

    def _moved(self, state: State, index: int, move: Move) -> State:
        begun = state.begun
        for job in move.begun:
            begun = self.rules.begin(begun, job, index, move.content)
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
        is_locked = state.orphan is not None or any(
            self.has_lock(state.processes[n]) for n in alive
        )
        after, now = state._replace(now=state.now + 1), state.now + 1
        for n in well:
            if is_locked:
                changes = self._event(processes[n], "trusted", False)
                silent = processes[n]._replace(is_trusted=False, **changes)
                after = self._with(after, n, self.processes.of(silent))._replace(is_calm=False)
            elif processes[n].memory.may_hold:
                after = after._replace(content=self._renewed(n, after.content, now))
        if paused is None:
            yield "a lease passes", after
        else:
            yield (
                f"{self.kind_of(paused)} {paused} pauses for a lease",
                after._replace(pauses=state.pauses - 1, is_calm=False),
            )

    def _is_forgetful(self, index: int, state: State, process: Process) -> bool:
        """Whether it holds a job that it does not know: it asks three times in a lease."""
        if LOST_PENDING not in self.scenario.outcomes:
            return False
        memory = process.memory
        numbers = [*memory.backlog, *memory.taken_over, *memory.running]
        numbers += [self.stage.job_of(end) for end in memory.unrecorded + memory.ended]
        known = {self.stage.hold(number)[0] for number in numbers}
        return any(
            job.owner == OWNERS[index].hex and job.lease_until is not None and job.id not in known
            for job in self.database.views[state.content].jobs
        )

    def _renewed(self, index: int, content: int, now: int) -> int:
        """The content after a heartbeat as a whole."""
        key = "renewed", index, content, now
        if key not in self.moves:
            number: int | None = self.stage.threads.of(Thread("heartbeat"))
            after = content
            while number is not None:
                ran = self.stage.run(index, number, after, now, is_locked=False)
                assert ran is not None
                number, after = ran.rest, ran.content
            self.moves[key] = [Move("", 0, after)]
        return self.moves[key][0].content

    # The search

    def find(self, state: State) -> int | None:
        """The number of a state that was met and can all that this one can; None: it is new.

        Where all is the same, but more may still befall, all can happen that can happen here. And
        no rule is broken here that would hold there: what a rule allows after a fault it allows the
        more the more faults there were. So whatever is wrong on a way that leads on from here is
        wrong on the same way from there.
        """
        mine = state.freedom
        for number in self._met.get(state.place, ()):
            other = self.states[number].freedom
            if mine == other or (self.is_reduced and all(map(ge, other, mine))):
                return number
        return None

    def search(self, limit: int = 10_000_000) -> None:
        """Visit every state; raises :class:`Violation` with the way that leads to it.

        Those before which more may still befall come first: so the others are found to be known.
        """
        self.forget()
        first = self.first()
        waiting: list[list[int]] = [[] for _fault in range(first.left + 1)]

        def add(state: State, came_from: int, said: str) -> int:
            number = len(self.states)
            self._met.setdefault(state.place, []).append(number)
            self.states.append(state)
            self.came_from.append((came_from, said))
            self.follow.append([])
            waiting[first.left - state.left].append(number)
            return number

        add(first, 0, "")
        for numbers in waiting:
            for number in numbers:
                state = self.states[number]
                try:
                    self.rules.check_state(state)
                    for said, after in self.next_states(state):
                        found = self.find(after)
                        if found is None:
                            found = add(after, number, said)
                        self.transitions += 1
                        if after.left == state.left:
                            self.follow[number].append(found)
                except Violation as error:
                    raise Violation(f"{error}\n{self.way_to(number)}") from None
                if len(self.states) > limit:
                    raise AssertionError(f"more than {limit} states")
        self._check_ends()

    def _check_ends(self) -> None:
        """From each state there is a way to an end at which all is done, without a further fault.

        Where a state was not visited, the way is that of the one that stands for it: no fault is
        on it, so it does not matter that fewer may happen.
        """
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


def work() -> None:
    """Do nothing."""


@contextmanager
def world_of(scenario: Scenario) -> Iterator[World]:
    """A world at its beginning: the tasks wait for their first instants."""
    with only_these_procedures() as registry, model_database(view) as database:
        for n, seconds in enumerate(scenario.instants):
            name = f"work{n}"
            registry[name] = Procedure(work, name)
            _make_task(name, seconds, scenario.values)
        stage = Stage(scenario, database, list(BackgroundTask.objects.using(ALIAS).order_by("pk")))
        database.shown = None
        with stage.set_up():
            yield World(scenario, database, stage)


def _make_task(name: str, seconds: tuple[int, ...], values: dict[str, Any]) -> None:
    """A task that is due at these seconds, evenly spaced, the first one is its start; or never."""
    start = BEGIN + timedelta(seconds=min(seconds, default=0))
    every = seconds[1] - seconds[0] if len(seconds) > 1 else 1
    BackgroundTask.objects.using(ALIAS).bulk_create(
        [
            BackgroundTask(
                name=name,
                seqno=1,
                procedure=name,
                every_unit="secondly" if seconds else "never",
                every=every,
                start_date=start.date(),
                start_time=start.time(),
                time_zone="UTC",
                max_events=len(seconds) or None,
                next_run_at=start if seconds else None,
                **values,
            )
        ]
    )
