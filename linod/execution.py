"""One claimed job and its body: makes the request, runs, and says what is to be recorded."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Set
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from django.db import transaction

from linod import leases, leftovers
from linod.capture import Capture
from linod.choices import LogLevels
from linod.exceptions import Interruption, JobCancelled, NotMine
from linod.history import Job
from linod.models import BackgroundTask
from linod.records import Claimed, Finished
from linod.requests import BaseRequest, Cancellation
from linod.running import Body, Outcome

#: Characters of the last job's log that the task's ``message`` shows.
MESSAGE = 8 * 1024
#: What the log says of a body that did not leave ``atomic()``, or left autocommit off.
LEFT_OPEN = "%s left a transaction open (database %r): what it wrote there is rolled back"


class Execution:
    """A job that this process runs; the sink of its request.

    :param moment: gives the database's time, as far as this process knows it.
    :param held: what was open (:func:`linod.leftovers.open_transactions`) where :meth:`call` runs
        the body in its caller's thread: that is the caller's.
    """

    def __init__(
        self,
        job: Claimed,
        using: str,
        moment: Callable[[], datetime],
        *,
        user: Any = None,
        logger: logging.Logger | None = None,
        task: BackgroundTask | None = None,
        held: Set[str] = frozenset(),
    ) -> None:
        self.job = job
        self.using = using
        self.moment = moment
        self.held = held
        self.cancellation = Cancellation()
        self.log = Capture((LogLevels.get_by_name(job.log_level) or LogLevels.INFO).num_value)
        self.pieces = 0
        #: Since when the body runs, or before that waits for its thread (monotonic).
        self.since = time.monotonic()
        self._began: float | None = None
        self._ended: float | None = None
        self.shown: dict[str, Any] | None = None
        self._progress: dict[str, Any] | None = None
        #: Hears at once how far the body is: what ``ar.progress()`` was given.
        self.on_progress: Callable[[float, float | None, str], None] | None = None
        self._said = ""
        self._unwritten = ""
        self._lock = threading.Lock()
        self.ar = BaseRequest(
            user,
            logger,
            task=task,
            due_at=job.due_at,
            arguments=job.arguments,
            log_level=job.log_level,
            capture=self.log,
            sink=self,
            cancellation=self.cancellation,
        )
        self.body = Body(job.procedure, self.ar, self.log)

    def run(self) -> Finished:
        """Run the body in this thread."""
        return self.finished(self.call())

    async def arun(self) -> Finished:
        """Run an async body in the current event loop."""
        return self.finished(await self.acall())

    def call(self) -> Outcome:
        """Run the body in this thread; what is to be recorded is for the caller to ask.

        A transaction that it leaves open is rolled back: the thread's next statements, maybe those
        of another job, would be in it.
        """
        self._begin()
        outcome = self.body.call()
        self._ended = time.monotonic()
        for alias in leftovers.open_transactions() - self.held:
            leftovers.throw_away(alias)
            self.ar.warning(LEFT_OPEN, self.job.label, alias)
        return outcome

    async def acall(self) -> Outcome:
        """:meth:`call` for an async body, in the current event loop."""
        self._begin()
        outcome = await self.body.acall()
        self._ended = time.monotonic()
        return outcome

    def _begin(self) -> None:
        self.job.start_time = self.moment()
        self._began = self.since = time.monotonic()
        self.ar.info("Start %s...", self.job.label)

    def has_run(self, seconds: float) -> bool:
        """Whether the body began so long ago."""
        return self._began is not None and time.monotonic() - self._began > seconds

    def finished(self, outcome: Outcome) -> Finished:
        """What is to be recorded now that the body has ended."""
        with self._lock:
            fresh = self.log.drain_all()
            text, self._unwritten = self._unwritten + fresh, ""
        return Finished(
            self.job,
            outcome.state,
            self.job.start_time or self.moment(),
            self._end_time(),
            error=outcome.error,
            result=outcome.result,
            progress=self._progress,
            log=text,
            pieces=self.pieces,
            message=(self._said + fresh)[-MESSAGE:],
        )

    def _end_time(self) -> datetime:
        """The begin and what has passed since: the database's clock may have been set meanwhile."""
        if self.job.start_time is None or self._began is None:
            return self.moment()
        ended = self._ended or time.monotonic()
        return self.job.start_time + timedelta(seconds=ended - self._began)

    def lost(self, reason: str) -> Finished:
        """What is to be recorded of a body that did not end in time; it may still be running."""
        return self.finished(Outcome("lost", error=reason))

    def take_piece(self) -> tuple[Claimed, int, str, Any] | None:
        """What the body said since the last call, to be stored while it runs; None: nothing."""
        with self._lock:
            fresh, progress = self.log.drain(), self._progress
            text, self._unwritten = self._unwritten + fresh, ""
            if not text and progress is self.shown:
                return None
            news = progress if progress is not self.shown else None
            piece = (self.job, self.pieces, text, news)
            self.shown = progress
            self._said = (self._said + fresh)[-MESSAGE:]
            # Only what is stored has a number: whoever hears of 3 after 1 knows that 2 is missing.
            self.pieces += bool(text)
            return piece

    def take_back(self, piece: tuple[Claimed, int, str, Any]) -> None:
        """The last piece could not be written: what it says goes with the next."""
        with self._lock:
            _job, self.pieces, self._unwritten, _progress = piece
            self.shown = None

    def stop(self, reason: str, kind: type[Interruption] = JobCancelled) -> None:
        """Ask the body to stop; it notices at its next ``check_cancelled()``."""
        self.cancellation.set(reason, kind)

    def interrupt(self) -> None:
        """Raise the reason inside the body: for one that did not notice."""
        self.body.interrupt(self.cancellation.kind)

    # The sink of the request

    def progress(self, done: float, total: float | None, text: str) -> None:
        """Keep how far the job is, for the next write."""
        self._progress = {"done": done, "total": total, "text": text}
        if self.on_progress is not None:
            self.on_progress(done, total, text)

    def guard(self) -> None:
        """See :meth:`linod.requests.BaseRequest.guard`."""
        if not leases.guard(self.using, self.job):
            raise NotMine(f"{self.job.label}: the job was taken over; nothing of it may count")
        # At once, before somebody finds that the lease ended while its row was locked.
        renew = partial(leases.renew, self.using, self.job)
        transaction.on_commit(renew, using=self.using, robust=True)

    def read_task(self) -> BackgroundTask | None:
        """The task's row; its ``DoesNotExist`` when it was deleted meanwhile."""
        if self.job.task_id is None:
            return None
        return BackgroundTask.objects.using(self.using).get(pk=self.job.task_id)

    def read_job(self) -> Job:
        """The job's row."""
        return Job.objects.using(self.using).get(pk=self.job.id)
