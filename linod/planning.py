"""What to do about a due task: pure decisions, made before any transaction begins."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from linod.recurrence import Recurrence

#: A run that begins later than this after its instant was missed, even when no other came since.
PUNCTUAL = timedelta(seconds=60)
#: With ``missed="all"``: how many instants are kept; older ones are skipped.
KEPT = 1000


@dataclass(frozen=True, slots=True)
class Plan:
    """What a claim does with a task whose instant has come.

    :param due_at: the instant that runs; None: none does.
    :param next_run_at: what the task waits for afterwards; None: nothing.
    :param missed: instants that ``due_at``'s job stands for beside its own.
    :param skipped: instants that are not made up.
    """

    due_at: datetime | None
    next_run_at: datetime | None
    missed: int = 0
    skipped: int = 0


def plan(
    rule: Recurrence, waiting_since: datetime, now: datetime, policy: str, within: int | None
) -> Plan:
    """Decide about the instants from ``waiting_since`` (the task's ``next_run_at``) to ``now``.

    :param policy: the task's ``missed``: once, skip or all (DESIGN: what is missed is made up by
        the newest instant, by none, or by each).
    :param within: seconds after which a missed instant is not made up under any policy.
    """
    following = rule.next_after(waiting_since)
    punctual = now - waiting_since <= PUNCTUAL
    if punctual and (following is None or following > now):
        return Plan(waiting_since, following)
    if policy == "all":
        return _each(rule, waiting_since, now, within)
    newest = rule.latest_until(now) or waiting_since
    newest = max(newest, waiting_since)
    passed = 1 + rule.count(waiting_since, newest)
    following = rule.next_after(max(newest, now))
    late = now - newest
    too_late = (policy == "skip" and late > PUNCTUAL) or (
        within is not None and late > max(PUNCTUAL, timedelta(seconds=within))
    )
    if too_late:
        return Plan(None, following, skipped=passed)
    if policy == "skip":
        return Plan(newest, following, skipped=passed - 1)
    return Plan(newest, following, missed=passed - 1)


def _each(rule: Recurrence, waiting_since: datetime, now: datetime, within: int | None) -> Plan:
    """The oldest instant that is still wanted runs; the others follow, one claim each."""
    oldest, skipped = waiting_since, 0
    if within is not None:
        wanted_from = now - max(PUNCTUAL, timedelta(seconds=within))
        if oldest < wanted_from:
            wanted = rule.next_after(wanted_from - timedelta(microseconds=1))
            if wanted is None or wanted > now:
                return Plan(None, wanted, skipped=1 + rule.count(oldest, now))
            skipped, oldest = rule.count(oldest, wanted), wanted
    surplus = 1 + rule.count(oldest, now) - KEPT
    if surplus > 0:
        skipped += surplus
        oldest = _advance(rule, oldest, now)
    return Plan(oldest, rule.next_after(oldest), skipped=skipped)


def _advance(rule: Recurrence, oldest: datetime, now: datetime) -> datetime:
    """The instant from which ``KEPT`` instants remain until ``now``, found by halving."""
    low, high = oldest, now
    while high - low > timedelta(microseconds=1):
        middle = low + (high - low) / 2
        if rule.count(middle, now) >= KEPT:
            low = middle
        else:
            high = middle
    return rule.next_after(low) or oldest
