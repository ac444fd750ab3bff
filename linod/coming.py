"""What comes next of a task, said for a person."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from linod import evidence
from linod.evidence import Evidence, Kind
from linod.history import Decision, Job
from linod.telling import Answer, Voice, either, listed


def answer(voice: Voice, kept: Evidence) -> Answer:
    """What comes next; ``kept`` is about right now."""
    task, moment = kept.task, kept.task.next_run_at
    waiting = evidence.waiting_job(task)
    if task.requested_at is not None:
        return _asked_for(voice, kept, task.requested_at)
    if waiting is not None and _comes_first(waiting, moment):
        reason, _job = voice.hindrance_now(kept)
        return Answer(waiting.available_at, voice.outcome(waiting, []), reason, waiting)
    if task.disabled and task.disabled_until is not None:
        return _after_pause(voice, kept, task.disabled_until)
    if task.disabled:
        return _while_disabled(voice, kept)
    if moment is None:
        return Answer(None, _("nothing"), _no_instant(voice, kept))
    if kept.standing.fault:
        return Answer(moment, _("cannot run: %s") % kept.standing.fault)
    if moment <= kept.now:
        return _due(voice, kept, moment)
    return _runs(voice, kept, moment)


def _asked_for(voice: Voice, kept: Evidence, moment: datetime) -> Answer:
    who = str(kept.task.requested_by or "")
    named = _("runs as soon as possible: requested by %(who)s")
    text = either(who, named, _("runs as soon as possible: requested")) % {"who": who}
    return Answer(moment, text, *voice.hindrance_now(kept))


def _comes_first(waiting: Job, moment: datetime | None) -> bool:
    """Whether a further attempt begins before the next instant of the rule."""
    return moment is None or waiting.available_at is None or waiting.available_at <= moment


def _due(voice: Voice, kept: Evidence, moment: datetime) -> Answer:
    """What a claim would make of the instants that wait."""
    plan = evidence.planned(kept)
    reason, job = voice.hindrance_now(kept)
    if plan is None:
        return Answer(moment, _("is due"), reason, job)
    if plan.due_at is not None:
        change = voice.clock_change(plan.due_at, kept)
        detail = listed([reason, voice.together(plan), change])
        return Answer(plan.due_at, _("is due"), detail, job)
    text = ngettext(
        "%d instant that waits is going to be skipped",
        "%d instants that wait are going to be skipped",
        plan.skipped,
    )
    skipped = text % plan.skipped
    if plan.next_run_at is None:
        return Answer(None, _("nothing"), listed([_no_instant(voice, kept), skipped]))
    return _runs(voice, kept, plan.next_run_at, skipped)


def _runs(voice: Voice, kept: Evidence, moment: datetime, *about: str) -> Answer:
    reason, job = voice.hindrance_now(kept, is_due=False)
    detail = listed([*about, reason, voice.clock_change(moment, kept)])
    return Answer(moment, _("runs"), detail, job)


def _no_instant(voice: Voice, kept: Evidence) -> str:
    rule = kept.standing.rule
    if rule is None:
        return kept.standing.lack
    further = rule.next_after(kept.now)
    if further is not None and not kept.task.disabled:
        text = _("its row lacks the next run, which would be at %s: somebody has to enable it anew")
        return text % voice.moment(further)
    return voice.end_of(rule)


def _while_disabled(voice: Voice, kept: Evidence) -> Answer:
    line = _disabling(kept)
    who = "" if line is None else line.who
    named = _("nothing: the task is disabled by %(who)s")
    headline = either(who, named, _("nothing: the task is disabled")) % {"who": who}
    since = "" if line is None else _("since %s") % voice.moment(line.at)
    return Answer(None, _with_reason(headline, kept), since, None, line)


def _after_pause(voice: Voice, kept: Evidence, until: datetime) -> Answer:
    """A pause that is over ends when a daemon comes to it; the rule goes on from there."""
    line, rule = _disabling(kept), kept.standing.rule
    who = "" if line is None else line.who
    named = _("the task is disabled by %(who)s until %(until)s")
    text = either(who, named, _("the task is disabled until %(until)s"))
    pause = _with_reason(text % {"who": who, "until": voice.moment(until)}, kept)
    moment = None if rule is None else rule.next_after(max(until, kept.now))
    if moment is None:
        return Answer(None, _("nothing"), listed([_no_instant(voice, kept), pause]), None, line)
    return replace(_runs(voice, kept, moment, pause), decision=line)


def _disabling(kept: Evidence) -> Decision | None:
    """Who disabled the task; nobody, where its row says so and the ledger does not."""
    line = kept.switched(kept.now)
    return None if line is None or line.kind == Kind.ENABLED else line


def _with_reason(text: str, kept: Evidence) -> str:
    reason = kept.task.disabled_reason
    return f"{text}: {reason}" if reason else text
