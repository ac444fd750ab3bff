"""What comes next of a task, said for a person."""

from __future__ import annotations

from datetime import datetime

from django.utils.translation import gettext as _

from linod import evidence
from linod.evidence import Evidence
from linod.telling import Answer, Voice, either, listed


def answer(voice: Voice, kept: Evidence) -> Answer:
    """What comes next; ``kept`` is about right now."""
    task, moment = kept.task, kept.task.next_run_at
    is_due = task.requested_at is not None or (moment is not None and moment <= kept.now)
    reason, job = voice.hindrance_now(kept, is_due)
    waiting = evidence.waiting_job(task)
    if task.requested_at is not None:
        who = str(task.requested_by or "")
        named = _("runs as soon as possible: requested by %(who)s")
        text = either(who, named, _("runs as soon as possible: requested")) % {"who": who}
        return Answer(task.requested_at, text, reason, job)
    if waiting is not None:
        return Answer(waiting.available_at, voice.outcome(waiting, []), reason, waiting)
    if task.disabled and task.disabled_until is not None:
        return _after_pause(voice, kept, task.disabled_until)
    if task.disabled:
        return _while_disabled(kept)
    if moment is None:
        return Answer(None, _("nothing"), _no_instant(voice, kept), job)
    text = _("is due") if is_due else _("runs")
    return Answer(moment, text, listed([reason, voice.clock_change(moment, kept)]), job)


def _no_instant(voice: Voice, kept: Evidence) -> str:
    rule = kept.standing.rule
    if rule is None:
        return _("the task has no recurrence")
    further = rule.next_after(kept.now)
    if further is not None and not kept.task.disabled:
        text = _("its row lacks the next run, which would be at %s: somebody has to enable it anew")
        return text % voice.moment(further)
    return voice.end_of(rule)


def _while_disabled(kept: Evidence) -> Answer:
    task, line = kept.task, kept.switched(kept.now)
    who = "" if line is None else line.who
    named = _("nothing: the task is disabled by %(who)s")
    headline = either(who, named, _("nothing: the task is disabled")) % {"who": who}
    text = f"{headline}: {task.disabled_reason}" if task.disabled_reason else headline
    return Answer(None, text, decision=line)


def _after_pause(voice: Voice, kept: Evidence, until: datetime) -> Answer:
    """A pause that is over ends when a daemon comes to it; the rule goes on from there."""
    line, rule = kept.switched(kept.now), kept.standing.rule
    moment = None if rule is None else rule.next_after(max(until, kept.now))
    pause = _pause(voice, kept, "" if line is None else line.who, until)
    if moment is None:
        return Answer(None, _("nothing"), listed([_no_instant(voice, kept), pause]), None, line)
    reason, job = voice.hindrance_now(kept, is_due=False)
    detail = listed([pause, reason, voice.clock_change(moment, kept)])
    return Answer(moment, _("runs"), detail, job, line)


def _pause(voice: Voice, kept: Evidence, who: str, until: datetime) -> str:
    named = _("the task is disabled by %(who)s until %(until)s")
    text = either(who, named, _("the task is disabled until %(until)s"))
    text %= {"who": who, "until": voice.moment(until)}
    reason = kept.task.disabled_reason
    return f"{text}: {reason}" if reason else text
