"""What became of a due instant, said for a person."""

from __future__ import annotations

from datetime import datetime

from django.utils.translation import gettext as _

from linod import evidence
from linod.evidence import Evidence, Kind
from linod.history import Decision, Job
from linod.series import TICK
from linod.telling import Answer, Voice, either, listed, reason_of


class Fates:
    """Tells what became of single instants of a task.

    :param kept: what is kept of the time of these instants; ``present``: of right now.
    :param known_since: since when anything is known of the task.
    """

    def __init__(
        self, voice: Voice, kept: Evidence, present: Evidence, known_since: datetime
    ) -> None:
        self.voice, self.kept, self.present = voice, kept, present
        self.known_since = known_since
        self.task, self.now, self.standing = kept.task, kept.now, kept.standing

    def explain(self, moment: datetime) -> Answer:
        """What became of one."""
        return (
            self._still_to_come(moment)
            or self._ran(moment)
            or self._asked_for(moment)
            or self._taken_back(moment)
            or self._switched_off(moment)
            or self._made_up(moment)
            or self._is_unknown(moment)
            or self._let_go(moment)
            or self._waits(moment)
            or self._not_kept(moment)
        )

    def _still_to_come(self, moment: datetime) -> Answer | None:
        if moment <= self.now or not self.standing.names(moment):
            return None
        until = self.task.disabled_until
        # What comes with the end of a pause is over when the task is enabled.
        is_off = self.task.disabled and (until is None or until >= moment)
        text = _("is still to come, but the task is disabled") if is_off else _("is still to come")
        return Answer(moment, text, self._clock_change(moment))

    def _ran(self, moment: datetime) -> Answer | None:
        jobs = self.kept.attempts(moment)
        if not jobs:
            return None
        about = [line for job in jobs for line in self.kept.about(job)]
        headline = self.voice.outcome(jobs[-1], about)
        detail = self.voice.circumstances(jobs, self.kept)
        return Answer(moment, headline, detail, jobs[-1], about[-1] if about else None)

    def _asked_for(self, moment: datetime) -> Answer | None:
        if moment != self.task.requested_at:
            return None
        who = str(self.task.requested_by or "")
        asked = either(who, _("requested by %(who)s"), _("requested")) % {"who": who}
        return self._not_begun(moment, asked)

    def _taken_back(self, moment: datetime) -> Answer | None:
        for line in self.kept.decisions:
            if line.kind == Kind.REQUEST_CANCELLED and line.due_at == moment:
                text = either(
                    line.who,
                    _("requested, and taken back by %(who)s at %(moment)s"),
                    _("requested, and taken back at %(moment)s"),
                )
                words = {"who": line.who, "moment": self.voice.moment(line.at)}
                return Answer(moment, text % words, decision=line)
        return None

    def _switched_off(self, moment: datetime) -> Answer | None:
        line = self.kept.switched(moment)
        if line is None:
            return self._made_disabled(moment)
        if line.kind == Kind.ENABLED:
            return None
        named = _("the task was disabled by %(who)s")
        headline = either(line.who, named, _("the task was disabled")) % {"who": line.who}
        since = _("since %s") % self.voice.moment(line.at)
        return self._disabled(moment, headline, line.reason, since, line)

    def _made_disabled(self, moment: datetime) -> Answer | None:
        """Nothing is kept of what switched it off: then it was made so."""
        switches = (line for line in self.kept.later(moment) if line.kind in evidence.SWITCHES)
        switch = next(switches, None)
        if switch is None:
            reason, is_off = self.task.disabled_reason, self.task.disabled
        else:
            # Who enables a task that was not disabled lets go of an instant.
            reason, is_off = "", switch.kind == Kind.ENABLED and switch.due_at is None
        if not is_off:
            return None
        return self._disabled(moment, _("the task was disabled"), reason)

    def _disabled(
        self,
        moment: datetime,
        headline: str,
        reason: str,
        since: str = "",
        line: Decision | None = None,
    ) -> Answer:
        text = f"{headline}: {reason}" if reason else headline
        detail = listed([since, self._until(moment), self._clock_change(moment)])
        return Answer(moment, text, detail, None, line)

    def _until(self, moment: datetime) -> str:
        for line in self.kept.later(moment):
            if line.kind == Kind.ENABLED:
                words = {"moment": self.voice.moment(line.at), "who": line.who}
                named = _("enabled by %(who)s at %(moment)s")
                text = either(line.who, named, _("enabled at %(moment)s")) % words
                return f"{text}: {line.reason}" if line.reason else text
        until = self.task.disabled_until
        if until is None:
            return ""
        # When its time is over, a daemon ends a pause.
        lack = self.voice.hindrance(moment, moment, self.kept)[0] if until <= moment else ""
        return listed([_("until %s") % self.voice.moment(until), lack])

    def _made_up(self, moment: datetime) -> Answer | None:
        """One run for several instants: the next job that the schedule made says for how many."""
        rule = self.standing.rule
        if rule is None or not self.standing.names(moment):
            return None
        job = next((job for job in self.kept.scheduled if job.due_at > moment), None)
        if job is None or rule.count(moment - TICK, job.due_at - TICK) > job.missed:
            return None
        return self._made_up_by(job, moment)

    def _made_up_by(self, job: Job, moment: datetime) -> Answer:
        words = {"moment": self.voice.moment(job.due_at), "number": job.missed + 1}
        text = _("made up by the job of %(moment)s: one run for %(number)d instants") % words
        reason, _holder = self._reason(moment, evidence.begin_of(job) or self.now)
        last, became = self.kept.attempts(job.due_at)[-1], ""
        if last.state != Job.State.SUCCEEDED:
            outcome = self.voice.outcome(last, self.kept.about(last))
            became = _("what became of that: %s") % outcome
        line = next(iter(self.kept.about(job)), None)
        return Answer(moment, text, listed([became, reason]), job, line)

    def _is_unknown(self, moment: datetime) -> Answer | None:
        if moment >= self.known_since:
            return None
        return self.voice.unknown(moment, self.known_since, self.now)

    def _let_go(self, moment: datetime) -> Answer | None:
        """It waited, or was about to, until somebody or a policy decided that it does not run."""
        line = self._letting_go(moment)
        if line is None:
            return None
        reason, job = self._reason(moment, line.at) if line.at > moment else ("", None)
        if line.kind == Kind.SKIPPED:
            policy = listed([line.reason, reason])
            return Answer(moment, _("skipped: it could not begin in time"), policy, job, line)
        return Answer(moment, self._gone(line, moment), reason, job, line)

    def _letting_go(self, moment: datetime) -> Decision | None:
        """The decision that let go of it: one about this very instant goes before others."""
        lines = [line for line in self.kept.decisions if evidence.lets_go(line)]
        of_it = [line for line in lines if line.due_at == moment and line.kind != Kind.SKIPPED]
        waited = [line for line in of_it if line.at >= moment]
        if waited:
            return waited[0]
        edits = [line for line in of_it if line.kind == Kind.EDITED]
        if edits and not self.standing.names(moment):
            return edits[-1]
        later = (line for line in lines if line.at >= moment and self._ends_wait(line, moment))
        return next(later, None)

    def _ends_wait(self, line: Decision, moment: datetime) -> bool:
        """Whether the instant was among those that waited until that decision."""
        if line.job is None:
            return line.due_at is not None and line.due_at <= moment
        if line.kind != Kind.SKIPPED:  # a failure, of an earlier instant or of a request
            return not any(moment < job.due_at <= line.at for job in self.kept.scheduled)
        if line.due_at is None or moment >= line.due_at:
            return False
        # Earlier ones than its own job's, back to the job before.
        return not any(moment < job.due_at < line.due_at for job in self.kept.scheduled)

    def _gone(self, line: Decision, moment: datetime) -> str:
        words = {"who": line.who, "at": self.voice.moment(line.at), "reason": reason_of(line)}
        if line.kind == Kind.QUARANTINED:
            return _("it could not run, and the task was disabled: %(reason)s") % words
        if line.kind == Kind.EDITED and line.at <= moment:
            text = either(
                line.who,
                _("the rule was changed by %(who)s before, at %(at)s: %(reason)s"),
                _("the rule was changed before, at %(at)s: %(reason)s"),
            )
        elif line.kind == Kind.EDITED:
            text = either(
                line.who,
                _("it waited when the rule was changed by %(who)s at %(at)s: %(reason)s"),
                _("it waited when the rule was changed at %(at)s: %(reason)s"),
            )
        elif line.kind == Kind.ENABLED:
            text = either(
                line.who,
                _("it waited when the task was enabled anew by %(who)s at %(at)s"),
                _("it waited when the task was enabled anew at %(at)s"),
            )
        else:
            text = either(
                line.who,
                _("it waited when the task was disabled by %(who)s at %(at)s: %(reason)s"),
                _("it waited when the task was disabled at %(at)s: %(reason)s"),
            )
        return text % words

    def _waits(self, moment: datetime) -> Answer | None:
        due, plan = self.task.next_run_at, evidence.planned(self.present)
        if due is None or due > moment or plan is None:
            return None
        if plan.due_at is None or (plan.skipped and moment < plan.due_at):
            text = _("is going to be skipped: it could not begin in time")
            return Answer(moment, text, *self.voice.hindrance_now(self.present))
        more = listed([self.voice.together(plan), self._clock_change(moment)])
        return self._not_begun(moment, "", more)

    def _not_begun(self, moment: datetime, asked: str, more: str = "") -> Answer:
        reason, job = self.voice.hindrance_now(self.present)
        headline = _("has not begun yet") if reason else _("is about to begin")
        return Answer(moment, headline, listed([asked, reason, more]), job)

    def _not_kept(self, moment: datetime) -> Answer:
        """Its only trace is that somebody let go of it, and the task was enabled again since."""
        edit = self.standing.edit
        if edit is None or self.standing.names(moment):
            why = _("its rows are gone, or the task was changed behind linod's back")
            return Answer(moment, _("nothing is kept of it"), why)
        if edit.at <= moment:
            return Answer(moment, self._gone(edit, moment), decision=edit)
        return Answer(moment, _("nothing is kept of it"), self.voice.changed_since(edit))

    def _reason(self, moment: datetime, until: datetime) -> tuple[str, Job | None]:
        reason, job = self.voice.hindrance(moment, until, self.kept)
        return listed([reason, self._clock_change(moment)]), job

    def _clock_change(self, moment: datetime) -> str:
        return self.voice.clock_change(moment, self.kept)
