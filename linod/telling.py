"""The sentences of the ledger: what is kept of an instant, said for a person."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo

from django.conf import settings
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from linod import evidence
from linod.conf import config
from linod.events import last_line
from linod.evidence import AFTER_JUMP, Evidence, Kind
from linod.exceptions import InvalidRecurrence
from linod.history import Daemon, Decision, Job
from linod.models import BackgroundTask
from linod.planning import PUNCTUAL, Plan
from linod.recurrence import Recurrence
from linod.rules import as_zone
from linod.series import HORIZON
from linod.status import decimal_text
from linod.wording import counts_twice, is_ambiguous, left_out

State = Job.State
#: A lateness that needs no explanation.
SOON = timedelta(seconds=2)


@dataclass(frozen=True)
class Answer:
    """What became of a due instant.

    :param due_at: the instant; None: the answer is about the rule itself, or nothing comes.
    :param headline: what happened.
    :param detail: why, and what else there is to know; may be empty.
    :param job: the job that ran, or that held it up.
    :param decision: the line of the ledger that says so.
    """

    due_at: datetime | None
    headline: str
    detail: str = ""
    job: Job | None = None
    decision: Decision | None = None

    def __str__(self) -> str:
        return f"{self.headline} ({self.detail})" if self.detail else self.headline

    @property
    def moment(self) -> datetime | None:
        """When it was: the instant, or the decision's time."""
        return self.due_at if self.decision is None or self.due_at else self.decision.at


def span(length: timedelta) -> str:
    """A length of time, in its two largest units.

    >>> [span(timedelta(seconds=s)) for s in (0.25, 43, 750, 12000, 270000)]
    ['0.2 s', '43.0 s', '12 min 30 s', '3 h 20 min', '3 d 3 h']
    """
    seconds = length.total_seconds()
    if seconds < 60:
        return _("%s s") % decimal_text(seconds, 1)
    units = ((86400, _("%d d")), (3600, _("%d h")), (60, _("%d min")), (1, _("%d s")))
    left, found = int(seconds), list[tuple[int, str]]()
    for size, unit in units:
        number, left = divmod(left, size)
        if number or found:
            found.append((number, unit))
    return " ".join(unit % number for number, unit in found[:2] if number)


def shown_in(zone: tzinfo, moment: datetime) -> str:
    """A moment (aware) as the clocks of a zone show it; with its offset when they show it twice."""
    local = moment.astimezone(zone)
    text = f"{local:%Y-%m-%d %H:%M:%S}"
    return f"{text} (UTC{local.isoformat()[-6:]})" if is_ambiguous(moment, zone) else text


def either(who: str, named: str, unnamed: str) -> str:
    """The sentence that names who it was, or the one for when it was nobody in particular."""
    return named if who else unnamed


def reason_of(line: Decision) -> str:
    """Why; of an edit, the fields that were changed, as forms call them."""
    names = line.reason.split(", ")
    labels = {field.name: field.verbose_name for field in BackgroundTask._meta.concrete_fields}
    if line.kind != Kind.EDITED or not labels.keys() >= set(names):
        return line.reason
    return ", ".join(str(labels[name]) for name in names)


def listed(parts: Iterable[str]) -> str:
    """What there is to say, in a row."""
    return "; ".join(part for part in parts if part)


class Voice:
    """Speaks of one task, in its own time zone."""

    def __init__(self, task: BackgroundTask) -> None:
        self.task = task
        try:
            self.zone = as_zone(task.time_zone or settings.TIME_ZONE)
        except InvalidRecurrence:
            self.zone = as_zone(settings.TIME_ZONE)

    def moment(self, moment: datetime) -> str:
        """A moment as the clocks of the task's zone show it."""
        return shown_in(self.zone, moment)

    def end_of(self, rule: Recurrence) -> str:
        """Why nothing comes any more by a rule that has an end."""
        last = rule.latest_until(HORIZON) or rule.start
        return _("its rule names no instant after %s") % self.moment(last)

    def together(self, plan: Plan) -> str:
        """For how many instants one run is going to stand."""
        if not plan.missed:
            return ""
        return _("one run will stand for the %d instants that wait") % (plan.missed + 1)

    def unknown(self, moment: datetime, known_since: datetime, now: datetime) -> Answer:
        """Of a moment before anything is known of the task: nothing, and why."""
        days = config().KEEP_JOBS_DAYS
        if now - moment > timedelta(days=days):
            why = _("nothing is kept of that time; the history goes back %d days") % days
        elif known_since >= now:
            why = _("nothing has happened to the task so far: it may be new")
        else:
            first = self.moment(known_since)
            why = _("what is known of the task begins at %s: it may have been made then") % first
        return Answer(moment, _("nothing is known of it"), why)

    def changed_since(self, edit: Decision) -> str:
        """Why little is known of what was due before an edit of the rule."""
        text = either(
            edit.who,
            _("the rule was changed by %(who)s at %(at)s (%(reason)s);"
              " what it named before is known only where it left a trace"),
            _("the rule was changed at %(at)s (%(reason)s);"
              " what it named before is known only where it left a trace"),
        )  # fmt: skip
        return text % {"who": edit.who, "at": self.moment(edit.at), "reason": reason_of(edit)}

    # What became of a job

    def outcome(self, job: Job, about: list[Decision]) -> str:
        """Where a job stands, or how it ended."""
        took = span(job.duration) if job.duration is not None else ""
        match job.state:
            case State.SUCCEEDED:
                return _("succeeded after %s") % took
            case State.FAILED | State.TIMED_OUT:
                words = {"state": job.get_state_display(), "span": took}
                words["error"] = last_line(job.error)
                return _("%(state)s after %(span)s: %(error)s") % words
            case State.LOST:
                words = {"host": job.host, "error": job.error}
                return (
                    either(job.host, _("lost on %(host)s: %(error)s"), _("lost: %(error)s")) % words
                )
            case State.CANCELLED:
                return self._cancelled(job, about)
            case State.RUNNING:
                words = {"moment": self.moment(job.start_time or job.due_at), "host": job.host}
                return _("running since %(moment)s on %(host)s") % words
            case State.WAITING:
                return self._waiting(job)
        words = {"moment": self.moment(job.claimed_at or job.due_at), "host": job.host}
        return _("taken at %(moment)s on %(host)s, about to begin") % words

    def _cancelled(self, job: Job, about: list[Decision]) -> str:
        line = next((line for line in about if line.kind == Kind.CANCELLED), None)
        who, why = ("", "") if line is None else (line.who, line.reason)
        if job.start_time is None:
            named = _("cancelled by %(who)s before it began")
            said = either(who, named, _("cancelled before it began")) % {"who": who}
            return f"{said}: {why}" if why else said
        said = either(who, _("cancelled by %(who)s"), _("cancelled")) % {"who": who}
        return listed([said, "" if who else job.error])

    def _waiting(self, job: Job) -> str:
        words = {"attempt": job.attempt, "moment": self.moment(job.available_at or job.due_at)}
        if job.attempt > 1:
            return _("attempt %(attempt)d waits until %(moment)s") % words
        return _("waits for a free place since %(moment)s") % words

    def circumstances(self, jobs: list[Job], kept: Evidence) -> str:
        """What else there is to know of an instant that has jobs, the first attempt first."""
        first, last = jobs[0], jobs[-1]
        parts = [self._asked(first), self._late(first, kept)]
        if last.missed:
            text = ngettext(
                "it stands for %d missed instant as well",
                "it stands for %d missed instants as well",
                last.missed,
            )
            parts.append(text % last.missed)
        for job in jobs[:-1]:
            words = {"attempt": job.attempt, "outcome": self.outcome(job, kept.about(job))}
            parts.append(_("attempt %(attempt)d %(outcome)s") % words)
        parts += [self._follow_up(job, line) for job in jobs for line in kept.about(job)]
        parts.append(self.clock_change(first.due_at, kept) if not self._asked(first) else "")
        return listed(parts)

    def _asked(self, job: Job) -> str:
        if job.trigger != Job.Trigger.REQUEST:
            return ""
        who = str(job.requested_by or "")
        return either(who, _("requested by %(who)s"), _("requested")) % {"who": who}

    def _late(self, job: Job, kept: Evidence) -> str:
        if job.lateness is None or job.lateness <= SOON:
            return ""
        reason, _job = self.hindrance(job.due_at, job.due_at + job.lateness, kept)
        words = {"span": span(job.lateness), "reason": reason}
        if not reason:
            return _("it began %(span)s late") % words
        return _("it began %(span)s late: %(reason)s") % words

    def _follow_up(self, job: Job, line: Decision) -> str:
        match line.kind:
            case Kind.CANCELLED if job.state != State.CANCELLED:
                words = {"who": line.who, "moment": self.moment(line.at)}
                named = _("asked to stop by %(who)s at %(moment)s")
                return either(line.who, named, _("asked to stop at %(moment)s")) % words
            case Kind.LOST if line.reason != job.error:
                return _("lost before: %s") % line.reason
            case Kind.DISABLED:
                return _("the task was disabled by that")
            case Kind.TAKEN_OVER:
                return _("another daemon took it over: %s") % line.reason
            case Kind.SKIPPED:
                return _("earlier instants: %s") % line.reason
        return ""

    def clock_change(self, moment: datetime, kept: Evidence) -> str:
        """What a change of the clocks did to an instant of the rule."""
        rule = kept.standing.rule
        if rule is None or not kept.standing.names(moment):
            return ""
        usual = left_out(rule, moment)
        if usual is not None:
            return _("moved by a clock change: the clocks leave out %s") % f"{usual:%H:%M:%S}"
        if is_ambiguous(moment, rule.zone) and counts_twice(rule):
            if moment.astimezone(rule.zone).fold:
                return _("the clocks show this time twice: this is the second")
            return _("the clocks show this time twice: this is the first")
        if is_ambiguous(moment, rule.zone):
            return _("a clock change shows this time twice: the first one counts")
        return ""

    # Why something did not begin

    def hindrance(
        self, moment: datetime, until: datetime, kept: Evidence
    ) -> tuple[str, Job | None]:
        """What kept the task from beginning at a moment, and the job that did so; "": unknown.

        :param until: when that was over: what came between counts where nothing was there before.
        """
        for end in (moment, until):
            holder = kept.holder(moment, end)
            if holder is not None:
                return self._still_running(holder, moment), holder
            if not kept.has_daemon(moment):
                return self._no_daemon(moment, kept), None
            before = kept.first_to_go(moment, end)
            if before is not None:
                return self._goes_before(before), before
        for line in kept.later(moment):
            if line.kind == Kind.CLOCK_JUMPED and line.at - moment <= AFTER_JUMP:
                return line.reason, None
        return "", None

    def hindrance_now(self, kept: Evidence, is_due: bool = True) -> tuple[str, Job | None]:
        """What keeps the task from beginning now; what is not due yet need not wait for others."""
        if not self.task.procedure.is_known:
            words = {"procedure": self.task.procedure}
            return _("the procedure %(procedure)s is unknown here") % words, None
        reason, job = self.hindrance(kept.now, kept.now, kept)
        if not is_due:
            is_own = job is None or job.task_id == self.task.pk
            return (reason, job) if is_own else ("", None)
        before = None if reason else evidence.due_before(self.task, kept.now)
        if before is not None:
            words = {"procedure": before.procedure}
            return _("%(procedure)s goes before it and is due as well") % words, None
        return reason or self._left_waiting(kept), job

    def _left_waiting(self, kept: Evidence) -> str:
        """A daemon is there and does not begin it: then it may have no free place."""
        since = kept.able_since()
        if since is None or kept.now - since <= PUNCTUAL:
            return ""
        daemons = ", ".join(map(str, kept.daemons_at(kept.now)))
        number = evidence.running_jobs(self.task)
        if not number:
            return _("a daemon is there (%(daemons)s) and does not begin it: see its log") % {
                "daemons": daemons
            }
        text = ngettext(
            "a daemon is there (%(daemons)s), %(number)d job is running: maybe no place is free",
            "a daemon is there (%(daemons)s), %(number)d jobs are running: maybe no place is free",
            number,
        )
        return text % {"daemons": daemons, "number": number}

    def _still_running(self, job: Job, moment: datetime) -> str:
        words = self._words_of(job)
        if job.end_time is None and job.start_time is None:
            return _("the job of %(due)s is about to begin, on %(host)s") % words
        if job.end_time is None:
            return _("still running: the job of %(due)s, since %(begin)s, on %(host)s") % words
        if (begin := evidence.begin_of(job)) is not None and begin > moment:
            text = _("the job of %(due)s ran first, from %(begin)s until %(end)s, on %(host)s")
            return text % words
        return _("the job of %(due)s was still running, until %(end)s, on %(host)s") % words

    def _goes_before(self, job: Job) -> str:
        words = self._words_of(job)
        if job.end_time is None:
            text = _("%(procedure)s goes before it, running since %(begin)s, on %(host)s")
            return text % words
        return _("%(procedure)s goes before it and ran until %(end)s, on %(host)s") % words

    def _words_of(self, job: Job) -> dict[str, object]:
        return {
            "procedure": job.procedure,
            "due": self.moment(job.due_at),
            "begin": self.moment(evidence.begin_of(job) or job.due_at),
            "end": "" if job.end_time is None else self.moment(job.end_time),
            "host": job.host or "?",
        }

    def _no_daemon(self, moment: datetime, kept: Evidence) -> str:
        gone = [daemon for daemon in kept.daemons if daemon.last_seen_at < moment]
        came = [daemon for daemon in kept.daemons if daemon.started_at > moment]
        words = {}
        if gone:
            words["gone"] = self._daemon(last := max(gone, key=_last_seen), last.last_seen_at)
        if came:
            words["came"] = self._daemon(next_ := min(came, key=_start), next_.started_at)
        match bool(gone), bool(came):
            case True, True:
                return _("no daemon ran from %(gone)s until %(came)s") % words
            case True, False:
                return _("no daemon has run since %(gone)s") % words
            case False, True:
                return _("no daemon ran until %(came)s") % words
        return _("no daemon has run yet")

    def _daemon(self, daemon: Daemon, moment: datetime) -> str:
        return f"{self.moment(moment)} ({daemon})"


def _last_seen(daemon: Daemon) -> datetime:
    return daemon.last_seen_at


def _start(daemon: Daemon) -> datetime:
    return daemon.started_at
