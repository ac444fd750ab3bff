"""What to do about a due task: pure decisions, made before any transaction begins."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from linod.phrases import gettext_noop
from linod.series import TICK

if TYPE_CHECKING:
    from linod.models import BackgroundTask
    from linod.recurrence import Recurrence

#: A run that begins later than this after its instant was missed, even when no other came since.
PUNCTUAL = timedelta(seconds=60)
#: With ``missed="all"``: how many instants are kept; older ones are skipped.
KEPT = 1000
#: Why instants are not made up.
BY_POLICY = gettext_noop("missed instants are not made up")
TOO_OLD = gettext_noop("due longer ago than missed_within allows")
TOO_MANY = gettext_noop("more of them waited than are kept")


@dataclass(frozen=True, slots=True)
class Plan:
    """What a claim does with a task whose instant has come.

    :param due_at: the instant that runs; None: none does.
    :param next_run_at: what the task waits for afterwards; None: nothing.
    :param missed: instants that ``due_at``'s job stands for beside its own.
    :param skipped: instants that are not made up.
    :param why: why they are not, in English; a text or two that catalogues know.
    """

    due_at: datetime | None
    next_run_at: datetime | None
    missed: int = 0
    skipped: int = 0
    why: tuple[str, ...] = ()


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
    if policy == "skip" and late > PUNCTUAL:
        return Plan(None, following, skipped=passed, why=(BY_POLICY,))
    if policy == "skip":
        return Plan(newest, following, skipped=passed - 1, why=(BY_POLICY,))
    if within is not None and late > max(PUNCTUAL, timedelta(seconds=within)):
        return Plan(None, following, skipped=passed, why=(TOO_OLD,))
    return Plan(newest, following, missed=passed - 1)


def _each(rule: Recurrence, waiting_since: datetime, now: datetime, within: int | None) -> Plan:
    """The oldest instant that is still wanted runs; the others follow, one claim each."""
    oldest, skipped = waiting_since, 0
    why: tuple[str, ...] = ()
    if within is not None:
        wanted_from = now - max(PUNCTUAL, timedelta(seconds=within))
        if oldest < wanted_from:
            wanted = rule.next_after(wanted_from - timedelta(microseconds=1))
            if wanted is None or wanted > now:
                return Plan(None, wanted, skipped=1 + rule.count(oldest, now), why=(TOO_OLD,))
            skipped, oldest, why = rule.count(oldest, wanted), wanted, (TOO_OLD,)
    surplus = 1 + rule.count(oldest, now) - KEPT
    if surplus > 0:
        skipped, why = skipped + surplus, (*why, TOO_MANY)
        oldest = _advance(rule, oldest, now)
    return Plan(oldest, rule.next_after(oldest), skipped=skipped, why=why)


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


def comes_after(task: BackgroundTask, now: datetime) -> datetime | None:
    """The moment after which the instants of its rule are still to come; None: none is.

    When a pause ends the task is enabled, and waits for what comes later than that.
    """
    if task.disabled:
        return None if task.disabled_until is None else max(task.disabled_until, now)
    return None if task.next_run_at is None else max(task.next_run_at, now) - TICK
