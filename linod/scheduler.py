"""The loop: record what ended, let claimed jobs begin, claim what is due, sleep until the next."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Collection, Sequence
from datetime import datetime

from django.db import connections
from django.utils.translation import gettext as _

from linod import chance, claims, leases, signals, transactions
from linod.agenda import Agenda
from linod.bridge import Bridge
from linod.conf import Config
from linod.executor import Executor
from linod.history import Decision, Job
from linod.offset import Offset
from linod.records import Claimed, Finished, Hold, Terms
from linod.seeking import SOON, Seeker, Turn
from linod.upkeep import Upkeep

logger = logging.getLogger("linod")

#: Most jobs that are claimed before a slot is free for them, by vendor.
PREFETCH = {"mysql": 100, "postgresql": 200, "sqlite": 200}
#: Seconds that the loop stands back for a body that somebody waits for: it would hold the
#: interpreter's lock, which that body needs to begin.
STAND_BACK = 0.002
#: Seconds of work that are claimed ahead.
AHEAD = 0.25
#: Seconds after which claimed jobs that no slot came free for are given back.
STALLED = 1.0
#: Seconds until the next look when something is due and nothing could be claimed.
RELUCTANT = 0.25
#: Part of a lease after which silence means that the jobs may be somebody else's by now.
TRUST = 5 / 6
#: No count of failures: the rows are to be read again.
UNSETTLED = -1


class Scheduler:
    """Runs what is due until told to stop.

    :param only_before: take only what is due at this moment, and end when that is done.
    """

    executor_class: type[Executor] = Executor

    def __init__(
        self,
        terms: Terms,
        settings: Config,
        bridge: Bridge,
        offset: Offset,
        is_trusted: Callable[[], bool] = lambda: True,
        only_before: datetime | None = None,
    ) -> None:
        self.terms = terms
        self.settings = settings
        self.bridge = bridge
        self.offset = offset
        self.is_trusted = is_trusted
        self._wake = asyncio.Event()
        self.executor = self.executor_class(
            terms.using, settings.MAX_CONCURRENCY, offset.moment, self._wake.set
        )
        self.executor.may_begin = is_trusted
        self.seeker = Seeker(terms, offset, self.executor, only_before)
        self.upkeep = Upkeep(
            terms, bridge, offset, self.executor, self._receive, lambda: self.stopping
        )
        self.backlog: list[Claimed] = []
        self.unrecorded: list[Finished] = []
        #: Jobs whose rows still say that they run, since their outcomes cannot be recorded.
        self._unwritable: set[Hold] = set()
        self.taken_over: list[Claimed] = []
        self.stopping = False
        #: Set when the first turn is over: from then on it serves.
        self.has_looked = asyncio.Event()
        self.failures = 0
        self._failures_settled = 0
        # No failure, no doubt: an idle daemon does not ask.
        self._settle_at, self._doubt_until = math.inf, 0.0
        self._gated_at = 0.0
        self._turn_time = 0.01
        self._is_visiting = False

    def look_now(self, hints: Sequence[bytes] = ()) -> None:
        """A hint came: something may be due, most likely a request, and most likely this one."""
        self.seeker.hear(hints)
        self._wake.set()

    def stop(self) -> None:
        """Claim nothing more; :meth:`run` ends."""
        self.stopping = True
        self._wake.set()

    def _receive(self, jobs: list[Claimed]) -> None:
        """What was taken over from the dead begins here."""
        self.taken_over += jobs
        self._wake.set()

    @property
    def is_busy(self) -> bool:
        """Whether bodies run, wait at the gate, or have ended unrecorded."""
        waiting = self.backlog or self.taken_over or self.unrecorded or self.executor.unbegun
        return bool(waiting or self.executor.running or self.executor.has_ended)

    @property
    def may_hold(self) -> bool:
        """Whether rows may be this owner's, also such as it does not know of.

        A claim is the database's before its answer comes, and after a failure none may come.
        """
        is_known = self._failures_settled == self.bridge.failures and not self._is_visiting
        return self.is_busy or not is_known or time.monotonic() < self._doubt_until

    def distrust(self, reason: str) -> None:
        """The leases may be over: what runs is to stop, and what waits for a slot never begins."""
        self.executor.withdraw()
        self.executor.cancel_all(reason)
        self._wake.set()

    def regain(self) -> None:
        """The leases were renewed after a lapse: what was claimed before need not wait longer.

        Others may have taken something over meanwhile: which is still mine the rows say.
        """
        self._settle_at = 0.0
        self._wake.set()

    @property
    def _moved_at(self) -> float:
        """When jobs last were claimed or let through the gate, or tried to be (monotonic)."""
        return max(self._gated_at, self.seeker.claimed_at)

    def begun(self) -> set[Hold]:
        """The jobs whose bodies this process has begun, and whose ends are not recorded."""
        ended = *self.unrecorded, *self.executor.ended
        return {*self.executor.running, *(each.job.key for each in ended), *self._unwritable}

    async def run(self) -> None:
        """Tick, and sleep as long as the tick said, until stopped or done."""
        while not self.stopping:
            delay = await self.tick()
            if delay is None:
                return
            if delay > 0:
                # Not wait_for(): it takes the loop three more rounds until the next tick.
                timer = asyncio.get_running_loop().call_later(delay, self._wake.set)
                try:
                    await self._wake.wait()
                finally:
                    timer.cancel()
            self._wake.clear()

    async def tick(self) -> float | None:
        """One turn; returns the seconds until the next; None: there is nothing left to do."""
        if self.executor.is_stuck:
            raise RuntimeError("every slot holds a procedure that ignores its interruption")
        if self.executor.broken is not None:
            raise RuntimeError("a job's thread ended outside of its procedure") from (
                self.executor.broken
            )
        await self.executor.settle(any(not job.is_held_up for job in self.backlog))
        self.unrecorded += self.executor.take_ended()
        self.backlog += self.taken_over
        self.taken_over = []
        if self.executor.is_ahead and time.monotonic() - self._moved_at > STALLED:
            self.executor.withdraw()
        if unbegun := self.executor.take_unbegun():
            await self.bridge.insist(self.let_go, unbegun, give_up=lambda: self.stopping)
        # Now, not in the turn: while that is tried again bodies end, and must not begin once more.
        begun = self.begun() | {job.key for job in self.executor.unbegun}
        self._is_visiting = True
        turn = await self.bridge.insist(
            self._turn, self.unrecorded, begun, give_up=lambda: self.stopping
        )
        await self._renew(turn)
        if time.monotonic() - turn.began > self.terms.lease * TRUST:
            # Frozen, or the database was slow: what is still mine the rows tell, in the next turn.
            turn.started, turn.backlog, turn.agenda = [], [], None
            self._failures_settled = UNSETTLED
        ended, self.backlog = self.unrecorded, turn.backlog
        self.unrecorded = [each for each in ended if each.is_held_up]
        if turn.gone:
            self.executor.disown(turn.gone, _("its job was taken over"))
        self.executor.start(turn.started)
        self._is_visiting = False
        self._report(turn, ended)
        self.has_looked.set()
        if turn.agenda is not None:
            await self._set_clock(turn.agenda)
        if turn.is_answer and not turn.backlog:
            # What called meanwhile, most likely this request's second hint, is heard after that.
            self._wake.clear()
        return self._delay(turn)

    async def _renew(self, turn: Turn) -> None:
        """What was claimed in a long turn gets a whole lease before its bodies begin.

        Its lease counts from the beginning, and a beat just before its COMMIT has missed it: the
        next one might come when that lease is over.
        """
        lease = self.terms.lease
        while (turn.started or turn.backlog) and (
            lease * (1 - TRUST) < time.monotonic() - turn.began <= lease * TRUST
        ):
            turn.began = time.monotonic()
            await self.bridge.insist(leases.heartbeat, self.terms, give_up=lambda: self.stopping)

    def _turn(self, ended: Sequence[Finished], begun: Collection[Hold]) -> Turn:
        """One visit to the database, in the bridge's thread.

        :param begun: the jobs whose bodies this process has begun, and not recorded before, or is
            about to give back.
        """
        began = time.monotonic()
        turn = Turn(began, backlog=list(self.backlog))
        if self._failures_settled != self.bridge.failures:
            self._doubt_until = began + self.terms.lease
            self._settle(turn, begun)
        elif began >= self._settle_at:
            self._settle(turn, begun)
        first: list[Claimed] = []
        may_start = self.is_trusted() and not self.stopping
        free = max(self.executor.free - len(turn.started), 0)
        if turn.started and not may_start:
            # Others may take these over at any moment: what is mine then the rows tell once more.
            turn.started, self._failures_settled = [], UNSETTLED
        room = 0 if turn.started else self.executor.room(turn.backlog)
        if may_start and room:
            first, turn.backlog = turn.backlog[:room], turn.backlog[room:]
            self._gated_at = began
        turn.refused, passed = claims.finish_and_gate(
            self.terms, ended, first, self.offset.moment()
        )
        turn.started += passed
        turn.backlog += [job for job in first if job.is_held_up]
        stalled = not free and began - self._moved_at > STALLED
        if turn.backlog and stalled:
            self.let_go(turn.backlog)
            turn.backlog = []
        if may_start and not turn.is_waited_for:
            self.seeker.look(turn, ahead=0 if stalled else self._prefetch())
        self._turn_time += 0.2 * (time.monotonic() - began - self._turn_time)
        return turn

    def let_go(self, jobs: Sequence[Claimed]) -> None:
        """No slot comes free for these: whoever has one takes them."""
        if not jobs:
            return
        claims.give_back(self.terms, jobs)
        if any(job.is_held_up for job in jobs):
            self._failures_settled = UNSETTLED  # still mine: the rows say so
        signals.work_arrived.send(Scheduler)

    def _settle(self, turn: Turn, begun: Collection[Hold]) -> None:
        """After a failure nobody knows what was committed, nor who took what over after a lapse.

        A row that runs by my name and is not in my memory passed the gate in a COMMIT whose answer
        was lost: its body has not begun, and nobody else will begin it. The server may come to such
        a COMMIT even after this process has asked again, so it asks three times in the lease that
        follows its last failure.
        """
        failures = self.bridge.failures
        now = time.monotonic()
        self._settle_at = now + self.terms.lease / 3 if now < self._doubt_until else math.inf
        mine = leases.held(self.terms)
        turn.gone = set(begun) - {job.key for job in mine}
        turn.backlog = [job for job in mine if job.state == Job.State.CLAIMED]
        turn.started = [
            job for job in mine if job.state == Job.State.RUNNING and job.key not in begun
        ]
        self._failures_settled = failures

    def _prefetch(self) -> int:
        """How many jobs the slots would have begun within ``AHEAD`` seconds, as it looks now."""
        if self.seeker.only_before is not None:
            return 0
        rate = self.executor.slots / (self.executor.mean_duration() + self._turn_time)
        ahead = int(rate * AHEAD)
        most = PREFETCH.get(connections[self.terms.using].vendor, 100)
        return min(ahead, most) if ahead > self.executor.slots else 0

    def _delay(self, turn: Turn) -> float | None:
        """Seconds until the next visit is worth it; an end or a hint wakes earlier."""
        delay = self._until_due(turn)
        if self.unrecorded or (turn.backlog and not turn.is_waited_for):
            # Whoever has locked their rows may let go of them at any moment, and tells nobody.
            return RELUCTANT if delay is None else min(delay, RELUCTANT)
        return delay

    def _until_due(self, turn: Turn) -> float | None:
        if turn.is_answer and not turn.backlog:
            return STAND_BACK
        poll = self.settings.BACKGROUND_SLEEP_TIME * chance.between(0.95, 1.0)
        if turn.is_waited_for or turn.agenda is None or self.executor.is_ahead:
            has_room = self.executor.free > 0 or self.executor.room(turn.backlog) > 0
            return 0.0 if has_room and self.is_trusted() else min(poll, STALLED)
        if turn.claimed:
            return 0.0
        now = self.seeker.only_before or self.offset.moment()
        if turn.agenda.is_due(now):
            if not self.executor.free:
                return poll
            # Not in vain: its instant came during this very turn.
            return RELUCTANT if turn.in_vain else 0.0
        if self.seeker.only_before is not None:
            return poll if self.is_busy else None
        earliest = turn.agenda.earliest
        if earliest is None:
            return poll
        left = (earliest - now).total_seconds()
        return min(poll, left if left <= SOON else left - SOON * 0.75)

    def _report(self, turn: Turn, ended: Sequence[Finished]) -> None:
        self.report_ends(ended, turn.refused)
        if turn.started:
            self.upkeep.look_now()
            signals.jobs_started.send(Scheduler, jobs=turn.started)

    def report_ends(self, ended: Sequence[Finished], refused: Sequence[Finished]) -> None:
        """Tell the receivers what was recorded, and the log what was refused."""
        for each in refused:
            logger.log(logging.ERROR if each.fault else logging.WARNING, "%s", each.refusal)
            if each.fault:
                self._unwritable.add(each.job.key)
        others = {id(each) for each in refused}
        recorded = [each for each in ended if not each.is_held_up and id(each) not in others]
        if recorded:
            self.upkeep.note_stored(each.log for each in recorded)
            self.failures += sum(each.state != Job.State.SUCCEEDED for each in recorded)
            signals.jobs_finished.send(Scheduler, outcomes=recorded)

    async def _set_clock(self, seen: Agenda) -> None:
        self.upkeep.note_others(seen.lease_until is not None)
        jump = self.seeker.jump(seen)
        if jump:
            # Leases were written by the old clock: their owners renew them before anybody judges by
            # the new one. Said first, as the database thread may be about to ask.
            self.upkeep.hold_off()
        elif seen.doubt > self.terms.lease / 6:
            return  # this process or the database stood still meanwhile: that tells nothing
        self.offset.measure(seen.now, seen.read_at)
        if not jump:
            return
        text = _("the database's clock jumped by %+.1f s; nothing is reclaimed for two leases")
        reason = text % jump
        logger.warning("%s", reason[0].upper() + reason[1:])
        await self.bridge.insist(leases.heartbeat, self.terms, give_up=lambda: self.stopping)
        await self.bridge.insist(self._note_jump, reason, give_up=lambda: self.stopping)

    def _note_jump(self, reason: str) -> None:
        using = self.terms.using
        with transactions.locked(using):
            Decision.objects.record(Decision.Kind.CLOCK_JUMPED, reason=reason, using=using)
