"""The daemon's stop: it waits for what runs, records what ended, and gives back all the rest."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Collection, Coroutine, Sequence
from functools import partial
from typing import Any

from django.db import Error
from django.utils.translation import gettext as _

from linod import claims, clock, leases, transactions
from linod.history import Daemon as DaemonRow
from linod.records import Claimed, Finished, Hold
from linod.scheduler import Scheduler

logger = logging.getLogger("linod")

#: Seconds between telling the last bodies to stop and interrupting them, and until they are given
#: up: an interruption strikes at once or, where a body is in the midst of a call, not in time.
LAST_PATIENCE, INTERRUPTED = 0.5, 0.25
#: Seconds that the database gets for last words when it answers, and at least when it does not.
LAST_WORDS = 5.0, 0.1
#: Seconds between two tries to record an outcome whose row somebody else has locked, and those of
#: the last tries: a heartbeat has it for a moment, also this daemon's own.
LOCKED_PAUSE, LOCKED_PATIENCE = 0.2, 0.3


async def _attempt(seconds: float, work: Coroutine[Any, Any, None]) -> str:
    """Why the database did not do it in time, in one line; empty when it did.

    Raised during the stop, its refusal would end the process instead of the exit code.
    """
    try:
        async with asyncio.timeout(seconds):
            await work
    except TimeoutError:
        return "the database does not answer"
    except Error as error:
        # Maybe a defect of linod: whoever looks for it sees where it comes from.
        logger.debug("The database refuses something at the stop", exc_info=True)
        return transactions.first_line(error)
    return ""


class Farewell:
    """What is between the scheduler's last turn and the end of the process.

    :param scheduler: claims nothing more; its bodies may still run.
    :param grace_ends: when the bodies' time is over (monotonic).
    """

    def __init__(self, scheduler: Scheduler, grace_ends: float) -> None:
        self.scheduler = scheduler
        self.bridge = scheduler.bridge
        self.terms = scheduler.terms
        self._grace_ends = grace_ends

    async def leave_nothing(self) -> None:
        """Record all that ends, give back what has not begun, and say goodbye."""
        executor = self.scheduler.executor
        executor.withdraw()
        unbegun = [*self.scheduler.backlog, *executor.take_unbegun()]
        begun = self.scheduler.begun()
        # If it does not get through, the goodbye tries the same once more, and says so.
        await _attempt(1, self._announce_stop(unbegun))
        if executor.running:
            logger.info("Stopping: waiting for %d running jobs", len(executor.running))
        await self._record_ends(self._grace_ends - time.monotonic())
        if executor.running:
            executor.cancel_all(_("linod stops"))
            await self._record_ends(LAST_PATIENCE)
            executor.interrupt_all()
            await self._record_ends(INTERRUPTED)
        begun |= self.scheduler.begun()
        self.scheduler.unrecorded += executor.give_up(_("stopped with the daemon"))
        await self._record_ends(LOCKED_PATIENCE)
        for each in self.scheduler.unrecorded:
            logger.error("%s: somebody has locked its row; it is lost in a lease", each.job.label)
        await self._say_goodbye(begun)

    async def _announce_stop(self, unbegun: Sequence[Claimed]) -> None:
        await self.bridge.call(self._sign, DaemonRow.State.STOPPING)
        # Others need not wait until the running ones have ended.
        await self.bridge.call(self.scheduler.let_go, unbegun)

    async def _record_ends(self, seconds: float) -> None:
        """Record outcomes as bodies end, for so many seconds or until none runs."""
        scheduler, deadline = self.scheduler, time.monotonic() + seconds
        while True:
            scheduler.unrecorded += scheduler.executor.take_ended()
            if scheduler.unrecorded:
                await self._record(max(deadline - time.monotonic(), self._last_words()))
            left = deadline - time.monotonic()
            if left <= 0 or not (scheduler.executor.running or scheduler.unrecorded):
                return
            await asyncio.sleep(min(left, LOCKED_PAUSE if scheduler.unrecorded else 0.02))

    async def _record(self, seconds: float) -> None:
        ended = self.scheduler.unrecorded
        self.scheduler.unrecorded = []
        if why := await _attempt(seconds, self._finish(ended)):
            logger.error("%d outcomes could not be recorded: %s", len(ended), why)

    async def _finish(self, ended: Sequence[Finished]) -> None:
        # What somebody else has locked is not waited for: the others have no time for that.
        write = partial(claims.finish, self.terms, ended, patiently=False)
        self.scheduler.report_ends(ended, await self.bridge.insist(write))
        self.scheduler.unrecorded += [each for each in ended if each.is_held_up]

    def _last_words(self) -> float:
        """Seconds that the database gets for what must be written before the end.

        One that was away just now gets no more than the bodies: the stop must end in time.
        """
        longest, least = LAST_WORDS
        if self.bridge.link.answers:
            return longest
        return min(longest, max(self._grace_ends - time.monotonic(), least))

    async def _say_goodbye(self, begun: Collection[Hold]) -> None:
        if why := await _attempt(self._last_words(), self._let_go_of_all(begun)):
            logger.warning("Other daemons wait for a lease: %s", why)
        logger.info("linod has stopped")

    async def _let_go_of_all(self, begun: Collection[Hold]) -> None:
        await self.bridge.insist(self._give_back, begun)
        await self.bridge.insist(self._sign, DaemonRow.State.STOPPED)

    def _give_back(self, begun: Collection[Hold]) -> None:
        """Whatever is still mine and has not begun: others may have it at once.

        Also what passed the gate in a COMMIT whose answer was lost while the daemon stopped.
        """
        waiting = [job for job in leases.held(self.terms) if job.key not in begun]
        claims.give_back(self.terms, waiting)

    def _sign(self, state: str) -> None:
        now = clock.db_now(self.terms.using)
        rows = DaemonRow.objects.using(self.terms.using).filter(owner=self.terms.owner)
        with transactions.locked(self.terms.using):
            rows.update(last_seen_at=now, state=state)
