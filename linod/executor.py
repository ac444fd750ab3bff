"""Runs bodies: sync ones in threads of its own, async ones in the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from datetime import datetime
from typing import Any

from django.db import close_old_connections

from linod import capture
from linod.exceptions import Interruption, JobCancelled, JobTimedOut
from linod.execution import Execution
from linod.records import Claimed, Finished
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
        self.running: dict[uuid.UUID, Execution] = {}
        self._wake = wake
        self._loop = asyncio.get_running_loop()
        self._loop.set_task_factory(_contain)
        self._arrived: deque[tuple[Execution, Finished]] = deque()
        self._is_told = False
        self._all_ended = asyncio.Event()
        self._ended: list[Finished] = []
        self._durations: deque[float] = deque(maxlen=LOOK_BACK)
        self._interrupted: dict[uuid.UUID, float] = {}
        self._timers: dict[uuid.UUID, list[asyncio.TimerHandle]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._workers = Workers(slots, self.run_job)

    @property
    def free(self) -> int:
        """How many more bodies may begin now."""
        return self.slots - len(self.running)

    def start(self, jobs: Sequence[Claimed]) -> None:
        """Begin the bodies of jobs that have passed the gate; their slots must be free."""
        sync = []
        for job in jobs:
            execution = Execution(job, self.using, self.moment, user=self.user)
            if execution.log.level < logging.INFO:
                capture.install(execution.log.level)
            self.running[job.id] = execution
            if job.timeout is not None:
                self._later(job.id, job.timeout, self._time_out, execution)
            if job.procedure.is_async:
                task = self._loop.create_task(self._run_async(execution))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            else:
                sync.append(execution)
        if sync:
            self._workers.give(sync)

    def run_job(self, execution: Execution) -> None:
        """Run one sync job in a worker's thread."""
        close_old_connections()
        finished = execution.run()
        close_old_connections()
        self._arrive(execution, finished)

    async def _run_async(self, execution: Execution) -> None:
        self._arrive(execution, await execution.arun())

    def close(self) -> None:
        """Let the idle threads end."""
        self._workers.close()

    # What has ended

    def _arrive(self, execution: Execution, finished: Finished) -> None:
        """Tell the loop, from any thread: once for all that end until it gets to it."""
        self._arrived.append((execution, finished))
        if not self._is_told:
            self._is_told = True
            # A body that outlives the daemon's loop was given up: nobody waits for it.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._note_arrivals)

    def _note_arrivals(self) -> None:
        self._is_told = False
        while self._arrived:
            execution, finished = self._arrived.popleft()
            job_id = execution.job.id
            if self.running.pop(job_id, None) is None:
                continue  # it was given up before
            for timer in self._timers.pop(job_id, ()):
                timer.cancel()
            self._interrupted.pop(job_id, None)
            self._durations.append((finished.end_time - finished.start_time).total_seconds())
            self._ended.append(finished)
        if not self.running:
            self._all_ended.set()
        self._wake()

    def take_ended(self) -> list[Finished]:
        """The outcomes that came since the last call."""
        ended, self._ended = self._ended, []
        return ended

    @property
    def has_ended(self) -> bool:
        """Whether outcomes wait to be recorded."""
        return bool(self._ended)

    async def settle(self) -> None:
        """Let bodies that take no longer than a commit end, to be recorded together.

        Otherwise groups fall apart into smaller ones, each with its own commit, and stay so.
        """
        if self._ended and self.running and self.mean_duration() < BRIEF:
            self._all_ended.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._all_ended.wait(), TOGETHER)

    def mean_duration(self) -> float:
        """Seconds that a body takes, by the last ones and by the age of those still running."""
        now = self.moment()
        ages = [
            (now - execution.job.start_time).total_seconds()
            for execution in list(self.running.values())
            if execution.job.start_time is not None
        ]
        seen = [*self._durations, *ages]
        return sum(seen) / len(seen) if seen else 1.0

    # Stopping bodies

    def cancel(self, job_id: uuid.UUID, reason: str) -> None:
        """Ask a running body to stop; interrupt it when it does not notice."""
        execution = self.running.get(job_id)
        if execution is not None and not execution.cancellation.is_set():
            self._stop(execution, reason, JobCancelled)

    def cancel_all(self, reason: str) -> None:
        """Ask all running bodies to stop."""
        for job_id in list(self.running):
            self.cancel(job_id, reason)

    def interrupt_all(self) -> None:
        """Interrupt all running bodies: they did not notice that they should stop."""
        for execution in list(self.running.values()):
            self._interrupt(execution)

    def _time_out(self, execution: Execution) -> None:
        self._stop(execution, f"it ran longer than {execution.job.timeout:g} s", JobTimedOut)

    def _stop(self, execution: Execution, reason: str, kind: type[Interruption]) -> None:
        execution.stop(reason, kind)
        patience = 0.0 if execution.job.procedure.is_async else PATIENCE
        self._later(execution.job.id, patience, self._interrupt, execution)

    def _interrupt(self, execution: Execution) -> None:
        self._interrupted[execution.job.id] = time.monotonic()
        execution.interrupt()

    def _later(
        self,
        job_id: uuid.UUID,
        seconds: float,
        action: Callable[[Execution], None],
        execution: Execution,
    ) -> None:
        timer = self._loop.call_later(seconds, action, execution)
        self._timers.setdefault(job_id, []).append(timer)

    def give_up(self, reason: str) -> list[Finished]:
        """The outcome "lost" for all that still run; whatever they do from here on is dropped."""
        executions, self.running = list(self.running.values()), {}
        return [execution.lost(reason) for execution in executions]

    @property
    def is_stuck(self) -> bool:
        """Whether every slot holds a body that ignores its interruption."""
        limit = time.monotonic() - STUCK_AFTER
        stuck = [job_id for job_id, since in self._interrupted.items() if since < limit]
        return len(stuck) >= self.slots
