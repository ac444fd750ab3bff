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
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import datetime
from typing import Any, TypeVar

from django.db import Error
from django.utils.translation import gettext as _

import linod
from linod import alerts, capture, clock, leases, links, signals, transactions, writelock
from linod.bridge import Bridge
from linod.conf import config
from linod.farewell import LAST_PATIENCE, Farewell
from linod.heartbeat import Heartbeat
from linod.history import Daemon as DaemonRow
from linod.history import Job
from linod.links import Link
from linod.logserver import LogServer
from linod.loopwatch import LoopWatch
from linod.notify import Notifier
from linod.offset import Offset
from linod.procedures import Procedures
from linod.records import Finished, Terms
from linod.requests import daemon_user
from linod.scheduler import TRUST, Scheduler
from linod.sync import sync
from linod.wakeup import Listener

logger = logging.getLogger("linod")
Value = TypeVar("Value")

#: Exit codes.
STOPPED, REFUSED, BROKEN = 0, 1, 70
#: Seconds that the turn which is under way gets at the stop; half of GRACE where that is less, but
#: no less than the second.
LAST_TURN, SHORT_TURN = 5.0, 1.0
#: Seconds until a companion that failed begins anew, and that it gets to say goodbye.
COMPANION_PAUSE, COMPANION_PATIENCE = 5.0, 1.0
#: Seconds in which a repeated signal is taken for the same one.
SAME_SIGNAL = 0.3


def _say_failures(outcomes: Sequence[Finished], **kwargs: Any) -> None:
    """The log line of a job that did not end well; a traceback stands below it, as in any log."""
    for each in outcomes:
        if each.state == Job.State.SUCCEEDED:
            continue
        error = each.error.rstrip()
        is_traceback = "\n" in error
        text = "%s %s" if is_traceback else "%s %s: %s"
        args = (each.job.label, each.state, error)[: 2 if is_traceback else 3]
        record = logger.makeRecord(logger.name, logging.WARNING, __file__, 0, text, args, None)
        record.exc_text = error if is_traceback else None
        if logger.isEnabledFor(logging.WARNING):
            logger.handle(record)


signals.jobs_finished.connect(_say_failures, dispatch_uid="linod.daemon")


def _is_worth_waiting(error: BaseException) -> bool:
    """Whether a daemon that comes up tries again: not on a database that takes no writes.

    Such a one is refused as one that does not answer is; a daemon that is up waits for its end.
    """
    return transactions.is_passing(error) and not transactions.refuses_writes(error)


class Daemon:
    """Runs jobs until told to stop.

    :param once: take only what is due now, wait for it, and end.
    :param log_server: serves as long as this daemon, and ends last.
    :param companions: what else goes on in the daemon's loop, each until it is cancelled. Nothing
        waits for them, and one that fails begins anew.
    """

    def __init__(
        self,
        *,
        once: bool = False,
        log_server: LogServer | None = None,
        companions: Sequence[Callable[[Daemon], Awaitable[None]]] = (),
    ) -> None:
        self.settings = config()
        self.once = once
        self.log_server = log_server
        self.companions = companions
        self.owner = uuid.uuid4()
        self.using = self.settings.DATABASE
        self.terms = Terms(
            self.using,
            self.owner,
            self.settings.LEASE,
            host=socket.gethostname(),
            revision=os.environ.get("LINOD_REVISION", "")[:64],
        )
        self.notifier = Notifier()
        #: Whose server is looked after: each is cut when it is silent for too long.
        self.links: list[Link | Heartbeat] = []
        self._silent = links.SILENT
        self._stop = asyncio.Event()
        self._broken = asyncio.Event()
        self._stop_asked: float | None = None

    @property
    def failures(self) -> int:
        """How many jobs have ended otherwise than well."""
        # Who was stopped while it came up has no scheduler, and has run nothing.
        return self.scheduler.failures if hasattr(self, "scheduler") else 0

    async def run(self) -> int:
        """Run until stopped; returns the exit code."""
        self.loop = asyncio.get_running_loop()
        self.loop_watch = LoopWatch(self.loop, BROKEN)
        # First of all: who asks for a stop while it comes up must be heard, too.
        with self._handle_signals():
            if self.log_server is not None:
                self.log_server.start()
            self.bridge = Bridge(self.using, held_up=self._release_lock)
            self.links.append(self.bridge.link)
            watch = asyncio.create_task(self._accompany(Daemon._watch), name="linod-watch")
            capture.install()
            try:
                return await self._come_up_and_serve()
            finally:
                watch.cancel()

    async def _come_up_and_serve(self) -> int:
        try:
            came_up = await self._ask(self._come_up)
            user = await self._ask(daemon_user)
        except Error:
            self._close()
            if not self._stop.is_set():
                raise
            return STOPPED
        return await self._serve(Offset(came_up), user)

    async def _ask(self, action: Callable[[], Value]) -> Value:
        """What the database answers, as long as nobody asks for a stop."""
        return await self.bridge.insist(
            action, give_up=self._stop.is_set, is_passing=_is_worth_waiting
        )

    async def _serve(self, offset: Offset, user: Any) -> int:
        self.scheduler = Scheduler(
            self.terms,
            self.settings,
            self.bridge,
            offset,
            is_trusted=lambda: self.heart.is_trusted,
            only_before=offset.moment() if self.once else None,
        )
        self.scheduler.executor.user = user
        self.heart = Heartbeat(
            self._beat,
            using=self.using,
            interval=self.settings.LEASE / 3,
            patience=self.settings.LEASE * TRUST,
            distrust=self._distrust,
            regain=self._regain,
            held_up=self._release_lock,
        )
        self.links.append(self.heart)
        listener = Listener(self.owner, self.scheduler.look_now)
        listener.open()
        self.heart.start()
        alive = asyncio.create_task(
            self.notifier.run(self.scheduler.has_looked, self._about), name="linod-notify"
        )
        beside = [asyncio.create_task(self._accompany(each)) for each in self.companions]
        try:
            return await self._work()
        finally:
            listener.close()
            await self._stop_in_order()
            alive.cancel()
            await self._part_from(beside)

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
        self._silent = links.SILENT_AT_STOP
        self._stop.set()

    # Coming up

    def _come_up(self) -> datetime:
        now = clock.db_now(self.using)
        sync(self.using)
        with transactions.write(self.using):
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
        logger.info("Start the background tasks runner using %s...", logger)
        if self.settings.LOG_DIR is None and not self.once:
            logger.info("No log server because no folder is named for it (LINOD['LOG_DIR'])")
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
        upkeep = asyncio.create_task(self.scheduler.upkeep.run(), name="linod-upkeep")
        asked = asyncio.create_task(self._stop.wait(), name="linod-stop")
        broken = asyncio.create_task(self._broken.wait(), name="linod-broken")
        done, _pending = await asyncio.wait(
            {work, upkeep, asked, broken}, return_when=asyncio.FIRST_COMPLETED
        )
        self.scheduler.stop()
        self._silent = links.SILENT_AT_STOP
        self.notifier.tell("STOPPING=1", self._about())
        code = STOPPED
        for task in (work, upkeep):
            if task in done and not task.cancelled() and task.exception() is not None:
                logger.critical("linod failed and ends", exc_info=task.exception())
                code = BROKEN
        if broken in done:
            logger.critical("linod fails and ends: its thread for the database has ended")
            code = BROKEN
        upkeep.cancel()
        asked.cancel()
        broken.cancel()
        # The turn that is under way brings what it claimed; it must not be cut in the middle.
        patience = min(LAST_TURN, max(self.settings.GRACE / 2, SHORT_TURN))
        await asyncio.wait({work}, timeout=patience)
        # Later its answer begins nothing: what it claimed is given back.
        work.cancel()
        if (
            work.done()
            and not work.cancelled()
            and work.exception() is not None
            and code == STOPPED
        ):
            logger.warning("The last turn did not end well: %s", work.exception())
        return code

    def _about(self) -> str:
        """What the daemon is about, for the service manager's status line."""
        jobs = f"Jobs running: {len(self.scheduler.executor.running)}"
        if self.scheduler.stopping:
            return f"Stopping. {jobs}"
        return jobs if self.heart.is_trusted else f"The database does not answer. {jobs}"

    async def _watch(self) -> None:
        """Cut links that swallow what is sent, also during the stop; no error comes by itself."""
        looks = [0]
        while True:
            await asyncio.sleep(links.LOOK if any(looks) else links.LOOK_IDLE)
            looks = [link.look(self._silent) for link in list(self.links)]

    async def _accompany(self, companion: Callable[[Daemon], Awaitable[None]]) -> None:
        while True:
            try:
                await companion(self)
                return
            except Exception:
                logger.exception("A companion of the daemon failed; it begins anew")
            await asyncio.sleep(COMPANION_PAUSE)

    async def _part_from(self, beside: Sequence[asyncio.Task[None]]) -> None:
        for task in beside:
            task.cancel()
        if beside:
            await asyncio.wait(beside, timeout=COMPANION_PATIENCE)

    def _beat(self) -> None:
        self._ask_loop()
        if not self.bridge.is_alive:
            # Nothing that runs could be recorded any more: others are to have it.
            self.loop.call_soon_threadsafe(self._broken.set)
        else:
            self._renew()

    def _renew(self) -> None:
        if self.scheduler.may_hold:
            leases.heartbeat(self.terms)
        # For display only: not worth a question to the database's clock.
        now = self.scheduler.offset.moment()
        with transactions.locked(self.using):
            DaemonRow.objects.using(self.using).filter(owner=self.owner).update(last_seen_at=now)

    def _ask_loop(self) -> None:
        if not self.notifier.watchdog:  # else how long to wait for the loop is its say
            self.loop_watch.ask()

    def _distrust(self) -> None:
        reason = _("its lease could not be renewed")
        logger.error("The leases could not be renewed in time: running jobs are told to stop")
        self.loop.call_soon_threadsafe(self.scheduler.distrust, reason)

    def _release_lock(self) -> None:
        writelock.release(self.using)

    def _regain(self) -> None:
        self.loop.call_soon_threadsafe(self.scheduler.regain)

    # Stopping

    async def _stop_in_order(self) -> None:
        """Wait for the running jobs, cancel them, give them up; then let go of everything."""
        if self.bridge.is_alive:
            grace_ends = (self._stop_asked or time.monotonic()) + self.settings.GRACE
            await Farewell(self.scheduler, grace_ends).leave_nothing()
        self.heart.stop()
        alerts.flush(LAST_PATIENCE)
        self.scheduler.executor.close()
        self._close()

    def _close(self) -> None:
        self.bridge.close()
        if self.log_server is not None:
            self.log_server.stop()

    @contextlib.contextmanager
    def _handle_signals(self) -> Iterator[None]:
        """SIGTERM and SIGINT ask to stop, SIGHUP asks the log server for the file's new name.

        Elsewhere than in the main thread nobody is asked.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        handlers = {signal.SIGTERM: self.stop, signal.SIGINT: self.stop}
        if self.log_server is not None:
            handlers[signal.SIGHUP] = self.log_server.reopen
        for number, handler in handlers.items():
            self.loop.add_signal_handler(number, handler)
        try:
            yield
        finally:
            for number in handlers:
                self.loop.remove_signal_handler(number)
