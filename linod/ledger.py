"""Why did it (not) run? What became of each due instant of a task, in plain words.

It reads only: the jobs, the decisions, the daemons' rows, and the rule as it stands now. What the
rule named before somebody changed it is known by what it left behind.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cached_property

from django.utils import translation
from django.utils.translation import gettext as _

from linod import clock, coming, evidence, traces
from linod.evidence import Evidence
from linod.fates import Fates
from linod.history import Decision
from linod.models import BackgroundTask
from linod.series import TICK
from linod.telling import Answer, Voice, either, listed, reason_of

#: How many instants are told about, unless another number is asked for.
LAST = 20


def why(
    task: BackgroundTask,
    at: datetime | None = None,
    now: datetime | None = None,
    limit: int = LAST,
) -> list[Answer]:
    """What became of the last ``limit`` due instants of a task, newest first; then what comes next.

    :param at: aware; tell about that moment only (the whole minute when it has no seconds). When
        nothing was due then, the answer says so, with the instants before and after.
    :param now: aware; default: the database's time.
    """
    ledger = Ledger(task, now or clock.db_now(task._state.db))
    found = ledger.latest(limit) if at is None else ledger.around(at, limit)
    found.sort(key=lambda each: each.moment or ledger.now, reverse=True)
    return [*found, coming.answer(ledger.voice, ledger.present)]


class Ledger:
    """The answers about one task, as it is ``now``."""

    def __init__(self, task: BackgroundTask, now: datetime) -> None:
        self.task = task
        self.now = now
        self.voice = Voice(task)
        self.standing = evidence.standing_of(task)
        self.rule, self.edit = self.standing.rule, self.standing.edit
        self.kept: Evidence

    def latest(self, limit: int) -> list[Answer]:
        """The last instants, and the changes of the rule between them."""
        moments = self._moments(self.known_since, self.now, limit)
        self._read(min(moments, default=self.now), self.now)
        edits = [line for line in self.kept.decisions if evidence.is_rule_edit(line)]
        if self.edit is not None and not moments:
            edits = [self.edit]
        return [*self._explained(moments), *map(self._edited, edits[-limit:])]

    def around(self, at: datetime, limit: int) -> list[Answer]:
        """What was due at that moment; else that nothing was, and what was before and after."""
        end = at + (timedelta(seconds=1) if at.second else timedelta(minutes=1)) - TICK
        asked = self._moments(at, end, limit)
        moments = asked or [*self._moments(self.known_since, at, 1), *self._after(end)]
        self._read(min([*moments, at]), max([*moments, at]))
        found = self._explained(moments)
        return found if asked else [*found, self._nothing_due(at)]

    def _read(self, since: datetime, until: datetime) -> None:
        since = min(since, self.now)
        self.kept = evidence.read(self.task, self.standing, since, until, self.now)

    @cached_property
    def present(self) -> Evidence:
        """What is kept of right now."""
        if self.kept.until >= self.now:
            return self.kept
        return evidence.read(self.task, self.standing, self.now, self.now, self.now)

    def _explained(self, moments: list[datetime]) -> list[Answer]:
        fates = Fates(self.voice, self.kept, self.present, self.known_since)
        return [fates.explain(moment) for moment in moments if moment >= self.kept.since]

    # Which instants there were

    def _moments(self, since: datetime, until: datetime, limit: int) -> list[datetime]:
        """The last instants of that time: what left a trace, and what the rule names."""
        found = traces.between(self.task, since, until, limit)
        asked = self.task.requested_at
        if asked is not None and since <= asked <= until:
            found.add(asked)
        begin = since if self.edit is None else max(since, self.edit.at)
        moment = None if self.rule is None else self.rule.latest_until(until)
        for _number in range(limit):
            if self.rule is None or moment is None or moment < begin:
                break
            found.add(moment)
            moment = self.rule.latest_before(moment)
        return sorted(found, reverse=True)[:limit]

    def _after(self, moment: datetime) -> list[datetime]:
        """The first instant after a moment, unless it is still to come."""
        traced = traces.first_after(self.task, moment)
        begin = max(moment, self.known_since - TICK)
        named = self.rule.next_after(begin) if self.rule is not None else None
        if self.edit is not None and moment < self.edit.at:
            named = None
        found = min(filter(None, (traced, named)), default=self.now + TICK)
        return [found] if found <= self.now else []

    @cached_property
    def known_since(self) -> datetime:
        """Since when anything is known of the task."""
        first = traces.first_job(self.task)
        moments = [self.task.next_run_at, traces.first_word(self.task)]
        if first is not None:
            moment: datetime | None = first.due_at
            for _number in range(min(first.missed, LAST) if self.rule is not None else 0):
                moment = self.rule.latest_before(moment) if self.rule and moment else None
            moments += [moment, first.due_at]
        return min((moment for moment in moments if moment is not None), default=self.now)

    # What is no instant

    def _edited(self, line: Decision) -> Answer:
        text = either(
            line.who,
            _("the rule was changed by %(who)s: %(reason)s"),
            _("the rule was changed: %(reason)s"),
        )
        words = {"who": line.who, "reason": reason_of(line)}
        return Answer(None, text % words, decision=line)

    def _nothing_due(self, at: datetime) -> Answer:
        if at < self.known_since and self.standing.holds_at(at):
            return self.voice.unknown(at, self.known_since, self.now)
        headline = _("nothing was due") if at <= self.now else _("nothing is due")
        return Answer(at, headline, self._why_nothing(at))

    def _why_nothing(self, at: datetime) -> str:
        if self.edit is not None and at < self.edit.at:
            return self.voice.changed_since(self.edit)
        if self.rule is None:
            return self.standing.lack
        if at < self.rule.start:
            return _("its rule begins at %s") % self.voice.moment(self.rule.start)
        if self.rule.next_after(at) is None:
            return self.voice.end_of(self.rule)
        rule = _("its rule is: %s") % self.rule.describe(translation)
        first = at.astimezone(self.rule.zone).replace(fold=0).astimezone(UTC)
        if first != at and self.standing.names(first):
            return listed([_("a clock change shows this time twice: the first one counts"), rule])
        return rule


__all__ = ["Answer", "Ledger", "why"]
