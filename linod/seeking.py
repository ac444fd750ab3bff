"""Looking for work: what is due is claimed, as far as there is room for it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.db import connections

from linod import agenda, claims, transactions
from linod.agenda import Agenda
from linod.exceptions import InvalidRecurrence, MissingExtra
from linod.executor import Executor
from linod.history import Job
from linod.models import BackgroundTask
from linod.offset import Offset
from linod.records import Candidate, Claimed, Finished, Hold, Terms

#: Seconds before an instant at which its tasks are looked up and their rules are computed.
SOON = 0.02


@dataclass
class Turn:
    """What one visit to the database brought; ``began`` is the monotonic clock's."""

    began: float = 0.0
    started: list[Claimed] = field(default_factory=list)
    backlog: list[Claimed] = field(default_factory=list)
    refused: list[Finished] = field(default_factory=list)
    #: Begun here, and not held any more: others took them over.
    gone: set[Hold] = field(default_factory=set)
    agenda: Agenda | None = None
    claimed: int = 0
    #: Whether it answered a hint, without the agenda.
    is_answer: bool = False
    #: Whether it tried to claim what was due and others were faster.
    in_vain: bool = False

    @property
    def is_waited_for(self) -> bool:
        """Whether claimed jobs wait for their slots, and for nothing else."""
        return any(not job.is_held_up for job in self.backlog)


@dataclass(frozen=True)
class Foreseen:
    """What will be due at an instant that is near."""

    at: datetime
    candidates: list[Candidate]


class Seeker:
    """Finds what is due, and claims it.

    :param executor: whose free slots it fills.
    :param only_before: take only what is due at this moment.
    """

    def __init__(
        self, terms: Terms, offset: Offset, executor: Executor, only_before: datetime | None
    ) -> None:
        self.terms = terms
        self.offset = offset
        self.executor = executor
        self.only_before = only_before
        #: When it last tried to claim something (monotonic).
        self.claimed_at = 0.0
        #: Whether the last look found nothing to do.
        self.was_idle = False
        self._is_hinted = False
        self._hints: list[bytes] = []
        self._took_shortcut = False
        self._foreseen: Foreseen | None = None

    def hear(self, hints: Sequence[bytes]) -> None:
        """A hint came: something may be due, most likely a request, and most likely this one."""
        # A request may have sent its hint ahead, and once more.
        self._hints = list(dict.fromkeys([*self._hints, *hints]))[: self.executor.slots + 1]
        self._is_hinted = True

    def look(self, turn: Turn, ahead: int) -> None:
        """Claim what is due, as far as slots are free and ``ahead`` jobs more.

        Says in ``turn`` what that brought, and what is to come, where the agenda was asked for.
        """
        free = max(self.executor.free - len(turn.started), 0)
        limit = free + ahead
        if limit and self._claim_foreseen(turn, free, limit):
            return
        hinted, self._is_hinted = self._is_hinted, False
        hints, self._hints = self._hints, []
        # Never twice in a row: many requests must not keep the rest of the agenda waiting.
        if hinted and limit and not self._took_shortcut:
            self._took_shortcut = self._claim_requested(turn, free, limit, hints)
            if self._took_shortcut:
                turn.is_answer, self.was_idle = True, False
                return
        self._took_shortcut = False
        turn.agenda = agenda.agenda(self.terms.using, self.terms.owner)
        if self.jump(turn.agenda):
            return  # a lease by the old clock would be over, or never: the loop sets it first
        now = self.only_before or turn.agenda.now
        if turn.agenda.disabled_until is not None and turn.agenda.disabled_until <= now:
            self._enable(now)
        self.was_idle = not turn.agenda.is_due(now)
        if limit and not self.was_idle:
            self._take(turn, self._claim(turn, turn.agenda, now, free, limit))
            turn.in_vain = not turn.claimed
        elif limit:
            self._foresee(turn.agenda, limit)

    def _foresee(self, seen: Agenda, limit: int) -> None:
        """Look up what is due in a moment: at the instant itself only the claim is left to do."""
        at = seen.next_run_at
        if at is None or at != seen.earliest or at - seen.now > timedelta(seconds=SOON):
            return
        if self.only_before is None and (self._foreseen is None or self._foreseen.at != at):
            candidates = agenda.peek(self.terms.using, self.terms.owner, at, limit)
            self._foreseen = Foreseen(at, candidates)

    def _claim_foreseen(self, turn: Turn, free: int, limit: int) -> bool:
        """Claim what was looked up before, on condition that it is still as it was then."""
        foreseen, now = self._foreseen, self.offset.moment()
        if foreseen is None or now < foreseen.at:
            return False
        self._foreseen = None
        if now - foreseen.at > timedelta(seconds=SOON):
            return False
        candidates = foreseen.candidates[:limit]
        room = self._room(turn, candidates, free)
        self._take(turn, claims.claim(self.terms, candidates, room, now))
        return bool(turn.claimed)

    def _claim_requested(self, turn: Turn, free: int, limit: int, hints: Sequence[bytes]) -> bool:
        """Answer a hint without asking for the whole agenda first: somebody waits."""
        using, owner, now = self.terms.using, self.terms.owner, self.offset.moment()
        # A request may carry a time that this process' idea of the database's is just behind.
        until = self.only_before or now + timedelta(seconds=self.terms.lease)
        asked: list[Candidate] = []
        if self.was_idle and self.only_before is None and len(hints) <= free:
            # Nothing else waits: what the hints tell is claimed as if it had been looked up.
            asked = agenda.told(owner, hints, now - timedelta(seconds=SOON), until)
        if not asked:
            asked = agenda.peek_requested(using, owner, until, limit)
        if any(each.job is not None and each.job.procedure.run_after for each in asked):
            return False  # what goes before it may be due, too: the whole agenda tells
        self._take(turn, claims.claim(self.terms, asked, free, self.offset.moment()))
        return bool(turn.claimed)

    def _take(self, turn: Turn, got: list[Claimed]) -> None:
        turn.claimed = len(got)
        turn.started += [job for job in got if job.state == Job.State.RUNNING]
        self.claimed_at = time.monotonic()
        turn.backlog += [job for job in got if job.state == Job.State.CLAIMED]

    def _room(self, turn: Turn, candidates: Sequence[Candidate], free: int) -> int:
        """How many of these may begin at once: as many as may pass the gate in one turn."""
        jobs = [candidate.job for candidate in candidates if candidate.job is not None]
        return free if turn.started else max(free, self.executor.room(jobs))

    def _claim(
        self, turn: Turn, seen: Agenda, now: datetime, free: int, limit: int
    ) -> list[Claimed]:
        using, owner, got = self.terms.using, self.terms.owner, []
        if seen.available_at is not None and seen.available_at <= now:
            waiting = agenda.peek_waiting(using, owner, now, limit)
            got = claims.claim_waiting(self.terms, waiting, free)
            free = max(free - len(got), 0)
        if len(got) < limit:
            candidates = agenda.peek(
                using, owner, now, limit - len(got), requested=seen.requested_at is not None
            )
            room = free if got else self._room(turn, candidates, free)
            got += claims.claim(self.terms, candidates, room, self.offset.moment())
        return got

    def _enable(self, now: datetime) -> None:
        using = self.terms.using
        due = BackgroundTask.objects.using(using).filter(disabled=True, disabled_until__lte=now)
        for key in list(due.values_list("pk", flat=True)):
            with transactions.write(using):
                can_skip = connections[using].features.has_select_for_update_skip_locked
                task = due.select_for_update(skip_locked=can_skip).filter(pk=key).first()
                if task is None:
                    continue  # another daemon was faster, or somebody else decides
                try:
                    task.enable()
                except (InvalidRecurrence, MissingExtra) as error:
                    task.disable(str(error))

    def jump(self, seen: Agenda) -> float:
        """By how many seconds the database's clock was set; 0.0 where nothing says that it was."""
        jump = self.offset.jump(seen.now, seen.read_at)
        return jump if abs(jump) > self.terms.lease / 3 + seen.doubt else 0.0
