"""Beside the loop: storing what bodies say, hearing cancellations, reclaiming, cleaning up."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterable

from django.utils.translation import gettext as _

from linod import chance, claims, clock, memory, pieces, retention, signals, transactions
from linod.bridge import Bridge
from linod.executor import Executor
from linod.offset import Offset
from linod.records import Claimed, Terms

logger = logging.getLogger("linod")

#: Seconds between two writes of running jobs' logs, looks for cancellations, and reclaims.
UPKEEP = 1.0
#: Characters of logs after which the memory that they took is given back.
MUCH = 1_000_000
#: Seconds between two times where something runs always.
GIVE_BACK = 60.0
#: Seconds between two clean-ups of the history.
RETENTION = 3600.0


class Upkeep:
    """What a daemon does each second, whatever its loop is about.

    :param take_over: is given the jobs that were taken over from the dead, to be begun here.
    :param is_stopping: whether the daemon claims nothing more.
    """

    def __init__(
        self,
        terms: Terms,
        bridge: Bridge,
        offset: Offset,
        executor: Executor,
        take_over: Callable[[list[Claimed]], None],
        is_stopping: Callable[[], bool],
    ) -> None:
        self.terms = terms
        self.bridge = bridge
        self.offset = offset
        self.executor = executor
        self.take_over = take_over
        self.is_stopping = is_stopping
        #: Whether other owners have active jobs, as far as is known: else nothing is reclaimed.
        self.others_active = True
        self._has_work = asyncio.Event()
        # A clock that was set just before tells a new daemon nothing; who lives renews its leases
        # by that clock within a third of a lease.
        self._no_reclaim_before = time.monotonic() + terms.lease / 2
        self._next_retention = time.monotonic() + chance.between(300, 900)
        self._stored, self._give_back_at = 0, time.monotonic() + GIVE_BACK

    def hold_off(self) -> None:
        """Reclaim nothing for a while: the database's clock was set.

        Two leases. Others may notice it later, and until then write leases by the old clock; within
        a third of a lease behind that whoever lives has renewed them.
        """
        self._no_reclaim_before = time.monotonic() + 2 * self.terms.lease

    def note_stored(self, texts: Iterable[str]) -> None:
        """So much of logs went through this process' memory."""
        self._stored += sum(map(len, texts))
        if self._stored > MUCH:
            self.look_now()

    def note_others(self, are_active: bool) -> None:
        """Whether other owners have active jobs, as the loop's look said."""
        self.others_active = are_active
        if are_active:
            self.look_now()

    def look_now(self) -> None:
        """Something began here, or is active elsewhere: from now on there is work each second."""
        self._has_work.set()

    async def run(self) -> None:
        """Each second: store what bodies said, hear cancellations, take over from the dead."""
        while not self.is_stopping():
            await self._sleep_until_needed()
            await asyncio.sleep(UPKEEP * chance.between(0.8, 1.2))
            if self.executor.running:
                await self._tend()
            self._give_back()
            if self.others_active and time.monotonic() >= self._no_reclaim_before:
                got = await self.bridge.insist(self._reclaim, give_up=self.is_stopping)
                if got:
                    self.take_over(got)
            if time.monotonic() >= self._next_retention:
                deleted = await self._clean_up()
                self._next_retention = time.monotonic() + (0.0 if deleted else RETENTION)

    async def _sleep_until_needed(self) -> None:
        """Seconds without work are slept through: each wake-up of an idle daemon costs a little."""
        if self.executor.running or self.others_active or self._stored > MUCH:
            return
        self._has_work.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._next_retention - time.monotonic()):
                await self._has_work.wait()

    def _give_back(self) -> None:
        """It holds up the loop for a moment: when nothing runs, or now and then all the same."""
        now = time.monotonic()
        if self._stored > MUCH and (not self.executor.running or now >= self._give_back_at):
            self._stored, self._give_back_at = 0, now + GIVE_BACK
            memory.give_back()

    async def _clean_up(self) -> int:
        try:
            return await self.bridge.call(retention.clean, self.terms.using)
        except Exception as error:
            if not transactions.is_passing(error):
                raise
            # It can wait, and what else there is to do each second cannot.
            logger.debug("No clean-up: %s", error)
            return 0

    def _reclaim(self) -> list[Claimed]:
        """Take over from the dead, unless the clock was set: the next turn says so, or has."""
        now = clock.db_now(self.terms.using)
        jump = now - self.offset.moment()
        is_set = abs(jump.total_seconds()) > self.terms.lease / 3
        if is_set or time.monotonic() < self._no_reclaim_before:
            return []
        return claims.reclaim(self.terms, now)

    async def _tend(self) -> None:
        said = [
            piece
            for execution in list(self.executor.running.values())
            if (piece := execution.take_piece()) is not None
        ]
        cancelled = await self.bridge.insist(
            pieces.tend, self.terms, said, give_up=self.is_stopping
        )
        self.note_stored(text for _job, _n, text, _progress in said)
        if said:
            signals.jobs_said.send(Upkeep, pieces=said)
        for job_id in cancelled:
            self.executor.cancel(job_id, _("somebody cancelled it"))
