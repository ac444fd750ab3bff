"""What must hold: in each state, of each change, and in the end (DESIGN, "The rows")."""

from __future__ import annotations

import sqlite3
import uuid
from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from linod import asking
from linod.clock import as_utc
from linod.history import Job
from tests.model.stage import BEGIN, OWNERS

if TYPE_CHECKING:
    from linod.records import Claimed
    from tests.model.world import State, World


class Violation(AssertionError):
    """A rule does not hold; says which, and what led there."""


class JobRow(NamedTuple):
    """A job, as far as the protocol goes."""

    id: str
    task_id: int
    due_at: str
    attempt: int
    state: str
    active_task: int | None
    owner: str | None
    fence: int
    lease_until: str | None
    available_at: str | None
    end_time: str | None
    cancel_requested_at: str | None
    missed: int
    trigger: str


class TaskRow(NamedTuple):
    """A task, as far as the protocol goes."""

    id: int
    version: int
    next_run_at: str | None
    requested_at: str | None
    disabled: bool
    failures: int
    seems_idle: bool


@dataclass(frozen=True)
class View:
    """What tells one content of the database from another: what linod's code acts upon."""

    jobs: tuple[JobRow, ...]
    tasks: tuple[TaskRow, ...]

    def has_expired(
        self, now: datetime, *, but: uuid.UUID | None = None, only: uuid.UUID | None = None
    ) -> bool:
        """Whether a lease of another owner, or of only this one, is over."""
        return any(
            job.lease_until is not None
            and as_utc(job.lease_until) < now
            and (but is None or job.owner != but.hex)
            and (only is None or job.owner == only.hex)
            for job in self.jobs
        )


def view(connection: sqlite3.Connection) -> View:
    def rows(table: str, kind: Any, columns: str) -> tuple[Any, ...]:
        found = connection.execute(f"SELECT {columns} FROM {table} ORDER BY id")
        return tuple(kind(*row) for row in found.fetchall())

    jobs = rows("linod_job", JobRow, ", ".join(JobRow._fields).replace("trigger", '"trigger"'))
    tasks = ", ".join(TaskRow._fields).replace("seems_idle", asking.IDLE)
    return View(jobs, rows("linod_backgroundtask", TaskRow, tasks))


ACTIVE = set(map(str, Job.ACTIVE))
FINAL = set(map(str, Job.FINAL))
#: The changes of a job's state that its owner makes, or who takes it over.
BY_DAEMONS = {
    ("waiting", "claimed"), ("waiting", "running"), ("claimed", "running"), ("claimed", "claimed"),
    ("claimed", "waiting"), ("running", "running"), ("running", "lost"), ("running", "waiting"),
}  # fmt: skip
#: Those that somebody makes who does something else than to run the job.
BY_PEOPLE: dict[str, set[tuple[str, str]]] = {
    "request": set(),
    "disable": {("waiting", "cancelled")},
    "cancel": {("waiting", "cancelled"), ("claimed", "cancelled"), ("running", "running")},
}


class Rules:
    """The invariants, each under a name that a broken one is reported by."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.checked: set[Any] = set()
        self.changes: set[Any] = set()
        self.running: dict[int, frozenset[tuple[str, int]]] = {}

    def fail(self, rule: str, details: object) -> None:
        raise Violation(f"{rule}: {details}")

    # Each state

    def check_state(self, state: State) -> None:
        self.check_bodies(state)
        if (state.content, state.now) in self.checked:
            return
        self.checked.add((state.content, state.now))
        seen = self.world.database.views[state.content]
        self._rows(seen)
        self._instants(seen, self.world.moments[state.now])

    def _rows(self, seen: View) -> None:
        active = Counter(job.task_id for job in seen.jobs if job.state in ACTIVE)
        if any(count > 1 for count in active.values()):
            self.fail("one active job per task", seen.jobs)
        keys = Counter((job.task_id, as_utc(job.due_at), job.attempt) for job in seen.jobs)
        if any(count > 1 for count in keys.values()):
            self.fail("one row per task, instant and attempt", seen.jobs)
        for job in seen.jobs:
            is_active = job.state in ACTIVE
            if (job.active_task == job.task_id) != is_active:
                self.fail("active_task is set while active", job)
            if (job.lease_until is not None) != is_active:
                self.fail("a lease while active", job)
            if is_active and job.owner is None:
                self.fail("an owner while active", job)
            if (job.state == "waiting") != (job.available_at is not None):
                self.fail("available_at is set while waiting", job)
            if (job.state in FINAL) != (job.end_time is not None):
                self.fail("an end when final", job)

    def _instants(self, seen: View, now: datetime) -> None:
        """Each instant has its one first attempt, is counted in one, or is still to come."""
        for task, seconds in zip(seen.tasks, self.world.scenario.instants, strict=True):
            if task.disabled:
                continue
            instants = [BEGIN + timedelta(seconds=second) for second in seconds]
            waiting = None if task.next_run_at is None else as_utc(task.next_run_at)
            jobs = [
                job for job in seen.jobs if job.task_id == task.id and job.trigger == "schedule"
            ]
            have = Counter(as_utc(job.due_at) for job in jobs)
            if any(count > 1 for count in have.values()):
                self.fail("one job per instant", jobs)
            counted = sum(job.missed for job in jobs)
            open_ones = [i for i in instants if waiting is not None and i >= waiting]
            gone = [i for i in instants if i not in have and i not in open_ones]
            if len(gone) != counted:
                self.fail("no instant missing", (task, jobs))
            if any(i in have for i in open_ones) and not self.world.scenario.setbacks:
                self.fail("an instant that has its job is over", (task, jobs))
            if any(i > now for i in have):
                self.fail("nothing runs before its instant", (task, jobs))

    # Each change

    def check_change(self, content: int, after: int, index: int, now: int, said: str) -> None:
        key = content, after, index, now
        if key in self.changes:
            return
        self.changes.add(key)
        views = self.world.database.views
        old_jobs = {job.id: job for job in views[content].jobs}
        new_jobs = {job.id: job for job in views[after].jobs}
        if old_jobs.keys() - new_jobs.keys():
            self.fail("no job disappears", said)
        for job_id, old in old_jobs.items():
            if new_jobs[job_id] != old:
                self._job_changed(old, new_jobs[job_id], index, self.world.moments[now], said)
        for old_task, task in zip(views[content].tasks, views[after].tasks, strict=True):
            came = [
                job for job in new_jobs.values()
                if job.task_id == task.id and job.id not in old_jobs
            ]  # fmt: skip
            self._task_changed(old_task, task, came, self.world.kind_of(index), said)
            if task.disabled:
                again = [
                    job for job in old_jobs.values()
                    if job.task_id == task.id and new_jobs[job.id].attempt > job.attempt
                ]  # fmt: skip
                self._disabled(old_task, [*came, *again], said)

    def _task_changed(
        self, old: TaskRow, new: TaskRow, came: list[JobRow], kind: str, said: str
    ) -> None:
        """A request and its job: neither is without the other."""
        change = f"{said}: {old} -> {new}, {came}"
        asked = None if old.requested_at is None else as_utc(old.requested_at)
        answered = [
            as_utc(job.due_at) for job in came if job.trigger == "request" and job.attempt == 1
        ]
        if kind != "run" and answered not in ([], [asked]):
            self.fail("a request's job has its request", change)
        if kind != "request" and new.requested_at not in (None, old.requested_at):
            self.fail("who asks for a run is somebody", change)
        if asked is not None and new.requested_at != old.requested_at and answered != [asked]:
            self.fail("a request stands until it has its job", change)

    def _disabled(self, old: TaskRow, begins: list[JobRow], said: str) -> None:
        """What a task that is disabled wants no more: all but what somebody asked for."""
        if any(job.trigger != "request" for job in begins) and old.disabled:
            self.fail("nothing begins anew for a disabled task", f"{said}: {begins}")

    def _job_changed(self, old: JobRow, new: JobRow, index: int, now: datetime, said: str) -> None:
        change = f"{said}: {old} -> {new}"
        if old.state in FINAL:
            self.fail("a final state never changes", change)
        if new.fence < old.fence:
            self.fail("a fence never decreases", change)
        if new.owner != old.owner and new.fence == old.fence:
            self.fail("a job changes hands with a higher fence", change)
        if (by_people := BY_PEOPLE.get(self.world.kind_of(index))) is not None:
            self._job_changed_by_people(old, new, by_people, change)
        else:
            self._job_changed_by_runner(old, new, index, now, change)

    def _job_changed_by_people(
        self, old: JobRow, new: JobRow, allowed: set[tuple[str, str]], change: str
    ) -> None:
        """By who does something else than to run it."""
        if (old.state, new.state) not in allowed:
            self.fail("people change no more than they say", change)
        if (new.state == "cancelled") != (new.fence > old.fence):
            self.fail("who would begin a cancelled job is refused", change)
        if new.owner != old.owner:
            self.fail("people take no job", change)

    def _job_changed_by_runner(
        self, old: JobRow, new: JobRow, index: int, now: datetime, change: str
    ) -> None:
        is_mine = old.owner == OWNERS[index].hex
        is_over = old.lease_until is not None and as_utc(old.lease_until) < now
        if old.state in ACTIVE and not is_mine and not is_over:
            self.fail("only the owner changes a job whose lease holds", change)
        if old.state in ACTIVE and not is_mine and new.fence == old.fence:
            self.fail("a stale owner's writes are refused", change)
        ends = is_mine and old.state == "running" and new.state in FINAL
        # Who gives a job back finds that somebody wanted it stopped, and that it never began.
        drops = is_mine and old.cancel_requested_at and new.state == "cancelled"
        if not ends and not drops and (old.state, new.state) not in BY_DAEMONS:
            self.fail("only the changes of the state table", change)

    def check_end(self, content: int, index: int, said: str) -> None:
        """Who has ended, a daemon that stopped or somebody who ran a task, holds nothing."""
        for job in self.world.database.views[content].jobs:
            if job.owner == OWNERS[index].hex and job.state in ACTIVE:
                self.fail("who has ended holds nothing", f"{said}: {job}")

    # Bodies

    def begin(
        self, begun: frozenset[Any], job: Claimed, index: int, content: int
    ) -> frozenset[Any]:
        """A body begins: once per job, or per attempt where lost jobs may run again."""
        key = job.id.hex, job.attempt if job.rerun_lost else 1
        for row in self.world.database.views[content].jobs:
            # Cancelled in this very hold of it, in which it had to begin first.
            if (row.id, row.fence) == (job.id.hex, job.fence + 1) and row.state == "cancelled":
                self.fail("what was cancelled before it began never begins", job)
        if key in begun:
            self.fail("a body begins at most once", f"daemon {index} begins {job}")
        return begun | {key}

    # The end

    def is_done(self, state: State) -> bool:
        """All instants have their jobs, all jobs have ended, and no daemon holds anything."""
        seen = self.world.database.views[state.content]
        processes = [self.world.processes[number] for number in state.processes]
        return (
            state.orphan is None
            and all(job.state in FINAL for job in seen.jobs)
            and all(task.next_run_at is None for task in seen.tasks)
            and all(task.requested_at is None for task in seen.tasks)
            and not any(p.threads or p.memory.is_busy for p in processes)
        )

    def _running(self, number: int) -> frozenset[tuple[str, int]]:
        if number not in self.running:
            memory = self.world.processes[number].memory
            self.running[number] = frozenset(map(self.world.stage.hold, memory.running))
        return self.running[number]

    def check_bodies(self, state: State) -> None:
        """What the jobs' rows say of their bodies is true."""
        begun = {job for job, _attempt in state.begun}
        running = set().union(*map(self._running, state.processes))
        scenario = self.world.scenario
        faults = scenario.crashes - state.crashes + scenario.pauses - state.pauses
        unbegun = 0
        for job in self.world.database.views[state.content].jobs:
            if job.state == "lost" and state.is_calm:
                self.fail("nothing is lost without a fault", job)
            unbegun += job.state == "lost" and job.id not in begun
            if job.state in ("succeeded", "failed") and job.id not in begun:
                self.fail("who has ended has begun", job)
            if job.state in ("succeeded", "failed") and (job.id, job.fence) in running:
                self.fail("an outcome is that of the body which had it", job)
        if unbegun > faults * scenario.slots:
            self.fail("a fault loses no more than its slots' jobs that had not begun", state)
