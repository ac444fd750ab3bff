"""The process: comes up, runs the scheduler until a signal, stops in good order."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from django.db import DatabaseError

import linod
from linod import alerts, capture, claims, clock, signals
from linod.bridge import Bridge
from linod.claims import Terms
from linod.conf import config
from linod.heartbeat import Heartbeat
from linod.history import Daemon as DaemonRow
from linod.history import Job
from linod.procedures import Procedures
from linod.records import Finished
from linod.requests import daemon_user
from linod.scheduler import Offset, Scheduler
from linod.sync import sync
from linod.wakeup import Listener

logger = logging.getLogger("linod")

#: Exit codes.
STOPPED, REFUSED, BROKEN = 0, 1, 70
#: Part of a lease after which silence means that the jobs may be somebody else's by now.
TRUST = 5 / 6
#: Seconds between telling the last bodies to stop, interrupting them, and giving them up.
LAST_PATIENCE = 0.8
#: Seconds in which a repeated signal is taken for the same one.
SAME_SIGNAL = 0.3


def _say_failures(outcomes: Sequence[Finished], **kwargs: Any) -> None:
    """The log line of a job that did not end well."""
    for each in outcomes:
        if each.state != Job.State.SUCCEEDED:
            logger.warning("%s %s: %s", each.job.label, each.state, each.error.rstrip())


signals.jobs_finished.connect(_say_failures, dispatch_uid="linod.daemon")


class Daemon:
    """Runs jobs until told to stop.

    :param once: take only what is due now, wait for it, and end.
    """

    def __init__(self, *, once: bool = False) -> None:
        self.settings = config()
        self.once = once
        self.owner = uuid.uuid4()
        self.using = self.settings.DATABASE
        self.terms = Terms(
            self.using,
            self.owner,
            self.settings.LEASE,
            host=socket.gethostname(),
            revision=os.environ.get("LINOD_REVISION", "")[:64],
        )
        self._stop = asyncio.Event()
        self._stop_asked: float | None = None

    @property
    def failures(self) -> int:
        """How many jobs have ended otherwise than well."""
        return self.scheduler.failures

    async def run(self) -> int:
        """Run until stopped; returns the exit code."""
        self.loop = asyncio.get_running_loop()
        self.bridge = Bridge(self.using)
        capture.install()
        offset = Offset(await self.bridge.insist(self._come_up))
        self.scheduler = Scheduler(
            self.terms,
            self.settings,
            self.bridge,
            offset,
            is_trusted=lambda: self.heart.is_trusted,
            only_before=offset.moment() if self.once else None,
        )
        self.scheduler.executor.user = await self.bridge.insist(daemon_user)
        self.heart = Heartbeat(
            self._beat,
            using=self.using,
            interval=self.settings.LEASE / 3,
            patience=self.settings.LEASE * TRUST,
            distrust=self._distrust,
        )
        listener = Listener(self.owner, self.scheduler.look_now)
        listener.open()
        self.heart.start()
        with self._handle_signals():
            try:
                code = await self._work()
            finally:
                listener.close()
                await self._stop_in_order()
        return code

    def stop(self) -> None:
        """Stop in good order; a second call ends the process now.

        A second signal within ``SAME_SIGNAL`` seconds is the same one: some senders address the
        process and then its group.
        """
        now = time.monotonic()
        if self._stop_asked is None:
            self._stop_asked = now
        if now - self._stop_asked > SAME_SIGNAL:
            logger.warning("Stopped at once, by a second signal")
            logging.shutdown()
            os._exit(STOPPED)
        self._stop.set()

    # Coming up

    def _come_up(self) -> datetime:
        now = clock.db_now(self.using)
        sync(self.using)
        DaemonRow.objects.using(self.using).update_or_create(
            owner=self.owner,
            defaults={
                "host": self.terms.host,
                "pid": os.getpid(),
                "version": linod.__version__,
                "started_at": now,
                "last_seen_at": now,
                "state": DaemonRow.State.RUNNING,
            },
        )
        logger.info(
            "Start linod %s: %d procedures, at most %d jobs at a time",
            linod.__version__,
            len(Procedures),
            self.settings.MAX_CONCURRENCY,
        )
        return clock.db_now(self.using)

    # Being there

    async def _work(self) -> int:
        work = asyncio.create_task(self.scheduler.run(), name="linod-scheduler")
        upkeep = asyncio.create_task(self.scheduler.upkeep(), name="linod-upkeep")
        asked = asyncio.create_task(self._stop.wait(), name="linod-stop")
        done, _pending = await asyncio.wait(
            {work, upkeep, asked}, return_when=asyncio.FIRST_COMPLETED
        )
        self.scheduler.stop()
        code = STOPPED
        for task in (work, upkeep):
            if task in done and not task.cancelled() and task.exception() is not None:
                logger.critical("linod failed and ends", exc_info=task.exception())
                code = BROKEN
        upkeep.cancel()
        asked.cancel()
        # The turn that is under way brings what it claimed; it must not be cut in the middle.
        await asyncio.wait({work}, timeout=5)
        if (
            work.done()
            and not work.cancelled()
            and work.exception() is not None
            and code == STOPPED
        ):
            logger.warning("The last turn did not end well: %s", work.exception())
        return code

    def _beat(self) -> None:
        if self.scheduler.is_busy:
            claims.heartbeat(self.terms)
        # For display only: not worth a question to the database's clock.
        now = self.scheduler.offset.moment()
        DaemonRow.objects.using(self.using).filter(owner=self.owner).update(last_seen_at=now)

    def _distrust(self) -> None:
        reason = "its lease could not be renewed"
        logger.error("The leases could not be renewed in time: running jobs are told to stop")
        self.loop.call_soon_threadsafe(self.scheduler.executor.cancel_all, reason)

    # Stopping

    async def _stop_in_order(self) -> None:
        """Wait for the running jobs, cancel them, give them up; then let go of everything."""
        executor = self.scheduler.executor
        with contextlib.suppress(TimeoutError, DatabaseError):
            async with asyncio.timeout(1):
                await self.bridge.call(self._sign, DaemonRow.State.STOPPING)
        if executor.running:
            logger.info("Stopping: waiting for %d running jobs", len(executor.running))
        await self._record_ends(self.settings.GRACE)
        if executor.running:
            executor.cancel_all("linod stops")
            await self._record_ends(LAST_PATIENCE)
            executor.interrupt_all()
            await self._record_ends(LAST_PATIENCE)
        self.scheduler.unrecorded += executor.give_up("stopped with the daemon")
        await self._record_ends(0)
        await self._say_goodbye()
        self.heart.stop()
        alerts.flush(LAST_PATIENCE)
        executor.close()
        self.bridge.close()

    async def _record_ends(self, seconds: float) -> None:
        """Record outcomes as bodies end, for so many seconds or until none runs."""
        scheduler, deadline = self.scheduler, time.monotonic() + seconds
        while True:
            scheduler.unrecorded += scheduler.executor.take_ended()
            if scheduler.unrecorded:
                await self._record(max(deadline - time.monotonic(), 5.0))
            left = deadline - time.monotonic()
            if not scheduler.executor.running or left <= 0:
                return
            await asyncio.sleep(min(left, 0.02))

    async def _record(self, seconds: float) -> None:
        ended = self.scheduler.unrecorded
        self.scheduler.unrecorded = []
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.bridge.insist(claims.finish, self.terms, ended)
                self.scheduler.report_ends(ended)
                return
        logger.error("%d outcomes could not be recorded: no database", len(ended))

    async def _say_goodbye(self) -> None:
        try:
            async with asyncio.timeout(5):
                await self.bridge.insist(self._give_back)
                await self.bridge.insist(self._sign, DaemonRow.State.STOPPED)
        except TimeoutError:
            logger.warning("The database does not answer: other daemons wait for a lease")
        logger.info("linod has stopped")

    def _give_back(self) -> None:
        """Whatever is still mine has not begun: others may have it at once."""
        waiting = [job for job in claims.held(self.terms) if job.state == Job.State.CLAIMED]
        claims.give_back(self.terms, waiting)

    def _sign(self, state: str) -> None:
        now = clock.db_now(self.using)
        rows = DaemonRow.objects.using(self.using).filter(owner=self.owner)
        rows.update(last_seen_at=now, state=state)

    @contextlib.contextmanager
    def _handle_signals(self) -> Iterator[None]:
        """SIGTERM and SIGINT ask to stop; elsewhere than in the main thread nobody is asked."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        for number in (signal.SIGTERM, signal.SIGINT):
            self.loop.add_signal_handler(number, self.stop)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                self.loop.remove_signal_handler(number)
