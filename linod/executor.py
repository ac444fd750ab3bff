"""Runs bodies: sync ones in threads of its own, async ones in the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Sequence
from datetime import datetime
from itertools import takewhile
from typing import Any

from django.db import close_old_connections, connections
from django.utils.translation import gettext as _

from linod import capture
from linod.exceptions import Interruption, JobCancelled, JobStopped, JobTimedOut
from linod.execution import Execution
from linod.records import Claimed, Finished, Hold
from linod.workers import Workers

logger = logging.getLogger("linod")

#: Seconds that a body has to notice that it should stop, before it is interrupted.
PATIENCE = 2.0
#: Seconds after an interruption from which on a body counts as stuck.
STUCK_AFTER = 30.0
#: How many ended bodies the measured duration looks back on.
LOOK_BACK = 50
#: Seconds below which bodies are worth waiting for.
BRIEF = 0.005
#: Seconds below which one thread runs a group of bodies in less time than several.
SHORT = 0.001
#: Seconds after which a group of short bodies should have ended.
HEARING = 0.004
#: Seconds that those which ended wait for the others of their group, at most.
TOGETHER = 0.005


def _contain(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
    """Make a task; one that a body starts must not end the loop by SystemExit or an interrupt."""
    if capture.current.get() is not None:
        coroutine = _contained(coroutine)
    return asyncio.Task(coroutine, loop=loop, **options)


async def _contained(coroutine: Coroutine[Any, Any, Any]) -> Any:
    try:
        return await coroutine
    except (SystemExit, KeyboardInterrupt) as error:
        raise RuntimeError(f"{type(error).__name__} in a task of a procedure") from error


class Executor:
    """So many slots, and what runs in them.

    :param slots: how many bodies run at the same time.
    :param moment: gives the database's time.
    :param wake: called in the event loop when a body has ended.
    """

    def __init__(
        self, using: str, slots: int, moment: Callable[[], datetime], wake: Callable[[], None]
    ) -> None:
        self.using = using
        self.slots = slots
        self.moment = moment
        self.user: Any = None
        #: Asked just before a body begins: its lease may have ended while its job waited, frozen.
        self.may_begin: Callable[[], bool] = lambda: True
        # By hold: the next attempt of a job that was taken over may come to the same daemon, while
        # the body of the former one still runs.
        self.running: dict[Hold, Execution] = {}
        self._wake = wake
        self._loop = asyncio.get_running_loop()
        self._loop.set_task_factory(_contain)
        self._arrived: deque[tuple[Execution, Finished | None]] = deque()
        self._is_told = False
        #: While it is set, bodies behind which others wait end without a word to the loop.
        self._hearing: asyncio.TimerHandle | None = None
        self._group_ended = asyncio.Event()
        self.ended: list[Finished] = []
        #: What has passed the gate and will not begin here.
        self.unbegun: list[Claimed] = []
        self._durations: deque[float] = deque(maxlen=LOOK_BACK)
        self._interrupted: dict[Hold, float] = {}
        self._timers: dict[Hold, list[asyncio.TimerHandle]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        #: What ended a body's thread or task outside of the body: nobody knows what became of it.
        self.broken: BaseException | None = None
        self._workers = Workers(slots, self.run_job, self._break)

    @property
    def free(self) -> int:
        """How many more bodies may begin now."""
        return max(self.slots - len(self.running), 0)

    def room(self, jobs: Sequence[Claimed]) -> int:
        """How many of these jobs, in their order, may pass the gate now: one for each free slot.

        While many wait and bodies take less than a commit, as many again pass ahead of the slots:
        they begin one after another while the next group is at the gate.
        """
        free = self.free
        if len(jobs) <= 2 * self.slots or self._tasks or self.mean_duration() >= BRIEF:
            return min(free, len(jobs))
        near = jobs[: 2 * self.slots - len(self.running)]
        plain = takewhile(lambda job: job.timeout is None and not job.procedure.is_async, near)
        return max(free, len(list(plain)))

    def start(self, jobs: Sequence[Claimed]) -> None:
        """Begin the bodies of jobs that have passed the gate, as soon as slots are free."""
        sync = []
        for job in jobs:
            execution = Execution(job, self.using, self.moment, user=self.user)
            if execution.log.level < logging.INFO:
                capture.install(execution.log.level)
            self.running[job.key] = execution
            if job.timeout is not None:
                self._later(job.key, job.timeout, self._time_out, execution)
            if job.procedure.is_async:
                task = self._loop.create_task(self._run_async(execution))
                self._tasks.add(task)
                task.add_done_callback(self._note_task_end)
            else:
                sync.append(execution)
        if sync:
            in_line = self.mean_duration() < SHORT
            if in_line and self._hearing is None:
                self._hearing = self._loop.call_later(HEARING, self._hear)
            self._workers.give(sync, in_line=in_line)

    def run_job(self, execution: Execution) -> None:
        """Run one sync job in a worker's thread."""
        if not self.may_begin():
            self._arrive(execution, None)
            return
        close_old_connections()
        finished = execution.run()
        if execution.body.was_interrupted:
            # Maybe in the midst of a statement: nobody can use its connection any more.
            connections.close_all()
        else:
            close_old_connections()
        self._arrive(execution, finished)

    async def _run_async(self, execution: Execution) -> None:
        self._arrive(execution, await execution.arun() if self.may_begin() else None)

    def _note_task_end(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._break(error)

    def _break(self, error: BaseException) -> None:
        """From any thread: this process cannot be relied on any more."""
        self.broken = error
        with contextlib.suppress(RuntimeError):  # the loop has ended: so has the process, nearly
            self._loop.call_soon_threadsafe(self._wake)

    @property
    def is_ahead(self) -> bool:
        """Whether jobs have passed the gate that no slot is free for."""
        return len(self.running) > self.slots

    def withdraw(self) -> None:
        """Let none of the jobs begin that have passed the gate and wait for a slot."""
        for execution in self._workers.take_back():
            # What was given up is not here any more.
            if self._leave(execution.job.key):
                self.unbegun.append(execution.job)

    def take_unbegun(self) -> list[Claimed]:
        """The jobs that have passed the gate and will not begin here, since the last call."""
        unbegun, self.unbegun = self.unbegun, []
        return unbegun

    def close(self) -> None:
        """Let the idle threads end."""
        self._workers.close()

    # What has ended

    def _arrive(self, execution: Execution, finished: Finished | None) -> None:
        """Tell the loop, from any thread: once for all that end until it gets to it.

        Of short bodies the last one of a group tells it: to wake the loop for each of them takes
        longer than they do. Where one is not short after all, the timer hears of those before it.

        :param finished: None: it has not begun.
        """
        self._arrived.append((execution, finished))
        # In this order: the timer is taken away before it looks at what has arrived.
        is_heard_of = self._hearing is not None and self._workers.has_waiting
        if not self._is_told and not is_heard_of:
            self._is_told = True
            # A body that outlives the daemon's loop was given up: nobody waits for it.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._note_arrivals)

    def _hear(self) -> None:
        """Bodies were expected to be short: where one is not, those behind it wait no longer."""
        self._hearing = None
        self._workers.hurry()
        if self._arrived:
            self._note_arrivals()

    def _note_arrivals(self) -> None:
        self._is_told = False
        self._take_arrivals()
        if not self._has_brief:
            self._group_ended.set()
        self._wake()

    def _take_arrivals(self) -> None:
        while self._arrived:
            execution, finished = self._arrived.popleft()
            if not self._leave(execution.job.key):
                continue  # it was given up before
            if finished is None:
                self.unbegun.append(execution.job)
                continue
            self._durations.append((finished.end_time - finished.start_time).total_seconds())
            self.ended.append(finished)

    def _leave(self, key: Hold) -> bool:
        """Forget one that runs no more; False: it was forgotten before."""
        if self.running.pop(key, None) is None:
            return False
        for timer in self._timers.pop(key, ()):
            timer.cancel()
        self._interrupted.pop(key, None)
        return True

    def take_ended(self) -> list[Finished]:
        """The outcomes that came since the last call."""
        self._take_arrivals()
        ended, self.ended = self.ended, []
        return ended

    @property
    def has_ended(self) -> bool:
        """Whether outcomes wait to be recorded."""
        return bool(self.ended)

    async def settle(self, is_waited_for: bool) -> None:
        """Let bodies that take no longer than a commit end, to be recorded together.

        Otherwise groups fall apart into smaller ones, each with its own commit, and stay so.

        :param is_waited_for: whether jobs wait for the slots: then also where none has ended yet,
            as each commit lets as many begin as have ended.
        """
        self._take_arrivals()
        is_group = self._has_brief and (self.ended or is_waited_for)
        if is_group and self.mean_duration() < BRIEF:
            self._group_ended.clear()
            # Not wait_for(), which makes a task of it.
            timer = self._loop.call_later(TOGETHER, self._group_ended.set)
            try:
                await self._group_ended.wait()
            finally:
                timer.cancel()

    @property
    def _has_brief(self) -> bool:
        """Whether something runs that may still turn out to be brief."""
        return not all(each.has_run(BRIEF) for each in self.running.values())

    def mean_duration(self) -> float:
        """Seconds that a body takes, by the last ones and by the age of those still running."""
        now = time.monotonic()
        ages = [now - execution.since for execution in list(self.running.values())]
        seen = [*self._durations, *ages]
        return sum(seen) / len(seen) if seen else 1.0

    # Stopping bodies

    def cancel(self, job_id: uuid.UUID, reason: str) -> None:
        """Ask a running body to stop; interrupt it when it does not notice."""
        for execution in list(self.running.values()):
            if execution.job.id == job_id:
                self._ask(execution, reason, JobCancelled)

    def cancel_all(self, reason: str) -> None:
        """Ask all running bodies to stop: linod cannot let them go on, which nobody asked for."""
        self.disown(list(self.running), reason)

    def disown(self, keys: Iterable[Hold], reason: str) -> None:
        """:meth:`cancel_all` for those that still run of these: their jobs are others' by now."""
        for key in keys:
            if (execution := self.running.get(key)) is not None:
                self._ask(execution, reason, JobStopped)

    def interrupt_all(self) -> None:
        """Interrupt all running bodies: they did not notice that they should stop."""
        for execution in list(self.running.values()):
            self._interrupt(execution)

    def _time_out(self, execution: Execution) -> None:
        reason = _("it ran longer than %s s") % f"{execution.job.timeout:g}"
        self._stop(execution, reason, JobTimedOut)

    def _ask(self, execution: Execution, reason: str, kind: type[Interruption]) -> None:
        if not execution.cancellation.is_set():
            self._stop(execution, reason, kind)

    def _stop(self, execution: Execution, reason: str, kind: type[Interruption]) -> None:
        execution.stop(reason, kind)
        patience = 0.0 if execution.job.procedure.is_async else PATIENCE
        self._later(execution.job.key, patience, self._interrupt, execution)

    def _interrupt(self, execution: Execution) -> None:
        self._interrupted[execution.job.key] = time.monotonic()
        execution.interrupt()

    def _later(
        self,
        key: Hold,
        seconds: float,
        action: Callable[[Execution], None],
        execution: Execution,
    ) -> None:
        timer = self._loop.call_later(seconds, action, execution)
        self._timers.setdefault(key, []).append(timer)

    def give_up(self, reason: str) -> list[Finished]:
        """The outcome "lost" for all that still run; whatever they do from here on is dropped."""
        self._take_arrivals()
        executions, self.running = list(self.running.values()), {}
        return [execution.lost(reason) for execution in executions]

    @property
    def is_stuck(self) -> bool:
        """Whether every slot holds a body that ignores its interruption."""
        limit = time.monotonic() - STUCK_AFTER
        stuck = [key for key, since in self._interrupted.items() if since < limit]
        return len(stuck) >= self.slots
