"""What the rows keep of a task and of a span of time: jobs, decisions, daemons."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from operator import attrgetter
from typing import TypeVar

from django.db.models import Q, QuerySet
from django.utils import translation
from django.utils.translation import gettext as _

from linod.conf import config
from linod.exceptions import InvalidRecurrence, MissingExtra
from linod.history import Daemon, Decision, Job
from linod.models import RULE_FIELDS, BackgroundTask
from linod.planning import Plan, plan
from linod.procedures import Procedures
from linod.recurrence import Recurrence

Row = TypeVar("Row", Job, Decision, Daemon)
Kind = Decision.Kind
#: Decisions that switch a task off or on.
SWITCHES = (Kind.DISABLED, Kind.QUARANTINED, Kind.ENABLED)
#: Decisions by which instants that waited may have been let go of.
LETS_GO = (*SWITCHES, Kind.EDITED, Kind.SKIPPED)
#: The order of time.
OF_JOBS, OF_LINES = ("due_at", "attempt"), ("at", "pk")
#: Most rows of a kind that are read: an answer is for a person.
MOST = 500
#: Jobs that are read of the times before and after: one of them may have held something up.
BESIDE = 5
#: How far back a procedure that goes first may have begun.
LONG_RUN = timedelta(days=1)
#: How long after a jump of the clock an instant may have been late for it.
AFTER_JUMP = timedelta(hours=1)


def is_rule_edit(decision: Decision) -> bool:
    """Whether somebody changed when the task runs; ticking "disabled" is told by itself."""
    words = set(decision.reason.split(", "))
    return decision.kind == Kind.EDITED and bool(words & (RULE_FIELDS - {"disabled"}))


def lets_go(decision: Decision) -> bool:
    """Whether instants that waited may have been let go of by it."""
    return decision.kind in LETS_GO and (decision.kind != Kind.EDITED or is_rule_edit(decision))


@dataclass(frozen=True)
class Standing:
    """A task's rule as it stands now; what it named before is known by its traces only.

    :param rule: None when the task has none that can be answered.
    :param edit: by which the rule became what it is, where somebody has changed it.
    :param fault: why the rule cannot be answered.
    """

    rule: Recurrence | None
    edit: Decision | None
    fault: str = ""

    def holds_at(self, moment: datetime) -> bool:
        """Whether a moment is of the time of this rule, and not of a former one."""
        if self.rule is None or moment < self.rule.start:
            return False
        return self.edit is None or moment >= self.edit.at

    def names(self, moment: datetime) -> bool:
        """Whether a moment is an instant of this rule, in the time of it."""
        rule = self.rule
        return self.holds_at(moment) and rule is not None and rule.latest_until(moment) == moment

    @property
    def lack(self) -> str:
        """Why there is no rule."""
        if self.fault:
            return _("its rule cannot be used: %s") % self.fault
        return _("the task has no recurrence")


def standing_of(task: BackgroundTask) -> Standing:
    """The task's rule, and since when it is that."""
    edit = _last_rule_edit(task)
    try:
        rule = task.recurrence
    except (InvalidRecurrence, MissingExtra) as error:
        return Standing(None, edit, error.said(translation))
    return Standing(None if rule.every_unit == "never" else rule, edit)


def _last_rule_edit(task: BackgroundTask) -> Decision | None:
    edits = decisions_of(task).filter(kind=Kind.EDITED).order_by("-at", "-pk")[:MOST]
    return next((decision for decision in edits if is_rule_edit(decision)), None)


def decisions_of(task: BackgroundTask) -> QuerySet[Decision]:
    """The task's lines of the ledger."""
    return Decision.objects.using(task._state.db).filter(task=task.pk)


def jobs_of(task: BackgroundTask) -> QuerySet[Job]:
    """The task's jobs."""
    return Job.objects.using(task._state.db).filter(task=task.pk)


@dataclass(frozen=True)
class Evidence:
    """What is kept of a task from ``since`` to ``until``, in the order of time.

    :param since: the first moment of which everything was read.
    :param now: the database's time.
    :param jobs: of the instants of that time, the last ones before, the one that is active, and the
        next one that the rule made.
    :param others: jobs of the procedures that go before the task's.
    :param decisions: of that time and about its instants, and what was decided next.
    :param switch: what switched the task off or on last, before ``since``.
    :param daemons: that were there at that time, the last one before, and the first one after.
    :param daemons_since: before this moment there were more of them than were read.
    """

    task: BackgroundTask
    standing: Standing
    since: datetime
    until: datetime
    now: datetime
    jobs: list[Job]
    others: list[Job]
    decisions: list[Decision]
    switch: Decision | None
    daemons: list[Daemon]
    daemons_since: datetime

    @property
    def scheduled(self) -> list[Job]:
        """The first attempts of what the rule made."""
        return [job for job in self.jobs if job.trigger == Job.Trigger.SCHEDULE]

    def attempts(self, due_at: datetime) -> list[Job]:
        """The jobs of an instant, the first attempt first."""
        return [job for job in self.jobs if job.due_at == due_at]

    def about(self, job: Job) -> list[Decision]:
        """The decisions about a job."""
        return [decision for decision in self.decisions if decision.job == job.pk]

    def holder(self, moment: datetime, until: datetime) -> Job | None:
        """A job of another instant than ``moment`` that held the task then, or until later."""
        others = (job for job in self.jobs if job.due_at != moment)
        return next((job for job in others if _held(job, moment, until)), None)

    def first_to_go(self, moment: datetime, until: datetime) -> Job | None:
        """A job that ran in that time and goes before the task's own."""
        return next((job for job in self.others if _held(job, moment, until)), None)

    def switched(self, moment: datetime) -> Decision | None:
        """What switched the task off or on last, at a moment."""
        found = [line for line in self.decisions if line.kind in SWITCHES and line.at <= moment]
        # A line about an instant of this time may be older than the last one before.
        found += [] if self.switch is None else [self.switch]
        return max(found, key=attrgetter(*OF_LINES), default=None)

    def later(self, moment: datetime) -> Iterator[Decision]:
        """The decisions from a moment on."""
        return (decision for decision in self.decisions if decision.at >= moment)

    def has_daemon(self, moment: datetime) -> bool:
        """Whether a daemon was there to run something, or may have been."""
        return moment < self.daemons_since or bool(self.daemons_at(moment))

    def daemons_at(self, moment: datetime) -> list[Daemon]:
        """The daemons that were there at a moment, as far as they were read."""
        return [
            daemon
            for daemon in self.daemons
            if daemon.started_at <= moment <= self._last_sign(daemon)
        ]

    def able_since(self) -> datetime | None:
        """Since when nothing that is known has kept a daemon from beginning what is due now."""
        due = (self.task.requested_at, self.task.next_run_at)
        waits = [moment for moment in due if moment is not None and moment <= self.now]
        living = [daemon.started_at for daemon in self.daemons_at(self.now)]
        if not waits or not living:
            return None
        ends = [job.end_time for job in (*self.jobs, *self.others) if job.end_time is not None]
        return max(min(waits), min(living), *ends)

    def _last_sign(self, daemon: Daemon) -> datetime:
        """A daemon that lives shows itself each third of a lease only."""
        is_there = daemon.state != Daemon.State.STOPPED and self.now - daemon.last_seen_at < lease()
        return max(self.now, daemon.last_seen_at) if is_there else daemon.last_seen_at


def planned(kept: Evidence) -> Plan | None:
    """What a claim would do now about the instants that wait; None: none does."""
    task, rule = kept.task, kept.standing.rule
    if rule is None or task.next_run_at is None or task.next_run_at > kept.now:
        return None
    return plan(rule, task.next_run_at, kept.now, task.missed, task.missed_within)


def lease() -> timedelta:
    """How long a daemon may be silent and still lives."""
    return timedelta(seconds=config().LEASE)


def begin_of(job: Job) -> datetime | None:
    """Since when a job held its task."""
    return job.claimed_at or job.start_time


def _held(job: Job, moment: datetime, until: datetime) -> bool:
    """Whether a job held its task at a moment, or for most of the time from then ``until``."""
    begin, end = begin_of(job), job.end_time
    if begin is None or job.state == Job.State.WAITING or (end is not None and end <= moment):
        return False
    return begin <= moment or 2 * (min(end or until, until) - begin) > until - moment


# Reading: an answer is for a person, so each query is bounded


def read(
    task: BackgroundTask, standing: Standing, since: datetime, until: datetime, now: datetime
) -> Evidence:
    """Read what is kept of that time; a handful of queries.

    Where there is more of it than is read, the newest counts, and the answer begins later.
    """
    told, are_all_jobs = _newest(jobs_of(task).filter(due_at__range=(since, until)), *OF_JOBS)
    beside = _jobs_beside(task, since, until, now)
    lines, are_all_lines = _newest(_lines_of_then(task, since, until, beside), *OF_LINES)
    daemons, daemons_since = _read_daemons(task, since, until)
    since = max(
        since,
        since if are_all_jobs else told[0].due_at,
        since if are_all_lines else lines[0].at,
    )
    switches = decisions_of(task).filter(kind__in=SWITCHES, at__lt=since)
    return Evidence(
        task,
        standing,
        since,
        until,
        now,
        jobs=_in_order([*told, *beside], *OF_JOBS),
        others=_jobs_before(task, since, until),
        decisions=_in_order([*lines, *_lines_beside(task, since, until)], *OF_LINES),
        switch=switches.order_by("-at", "-pk").first(),
        daemons=daemons,
        daemons_since=daemons_since,
    )


def _newest(rows: QuerySet[Row], *order: str) -> tuple[list[Row], bool]:
    """The last ones of these rows, in their order, and whether these are all."""
    found = list(rows.order_by(*(f"-{name}" for name in order))[:MOST])
    return found[::-1], len(found) < MOST


def _in_order(rows: Iterable[Row], *order: str) -> list[Row]:
    """Each of these rows once."""
    each = {row.pk: row for row in rows}
    return sorted(each.values(), key=attrgetter(*order))


def _jobs_beside(
    task: BackgroundTask, since: datetime, until: datetime, now: datetime
) -> list[Job]:
    """Jobs of other instants that held up those of that time, or made up for them."""
    jobs = jobs_of(task)
    found = [*jobs.filter(active_task=task.pk)]
    found += jobs.filter(due_at__lt=since).order_by("-due_at", "-attempt")[:BESIDE]
    if until < now:
        later = jobs.filter(due_at__gt=until).order_by("due_at", "attempt")
        found += later[:BESIDE]
        found += (first := list(later.filter(trigger=Job.Trigger.SCHEDULE)[:1]))
        retries = jobs.filter(due_at__in=[job.due_at for job in first])
        found += retries.order_by("-attempt")[:BESIDE]
    return found


def _lines_of_then(
    task: BackgroundTask, since: datetime, until: datetime, beside: Iterable[Job]
) -> QuerySet[Decision]:
    """What was decided then or about an instant of then; the job itself tells that it was asked."""
    instants = Q(due_at__range=(since, until)) | Q(job__in=[job.pk for job in beside])
    lines = decisions_of(task).filter(Q(at__range=(since, until)) | instants)
    return lines.exclude(kind=Kind.REQUESTED)


def _lines_beside(task: BackgroundTask, since: datetime, until: datetime) -> list[Decision]:
    """What was decided next about instants that waited, and when the clock jumped."""
    later = decisions_of(task).filter(at__gt=until, kind__in=LETS_GO)
    jumps = Decision.objects.using(task._state.db).filter(
        kind=Kind.CLOCK_JUMPED, at__range=(since, until + AFTER_JUMP)
    )
    return [*later.order_by("at", "pk")[:MOST], *_newest(jumps, *OF_LINES)[0]]


def _read_daemons(
    task: BackgroundTask, since: datetime, until: datetime
) -> tuple[list[Daemon], datetime]:
    """The daemons of that time with those before and after, and from when on these are all."""
    daemons = Daemon.objects.using(task._state.db)
    # One that lives may have been seen a while ago.
    seen, are_all = _newest(
        daemons.filter(last_seen_at__gte=since - lease(), started_at__lte=until), "last_seen_at"
    )
    before = daemons.filter(last_seen_at__lt=since - lease()).order_by("-last_seen_at")[:1]
    after = daemons.filter(started_at__gt=until).order_by("started_at")[:1]
    return [*before, *seen, *after], since if are_all else seen[0].last_seen_at


def _tasks_before(task: BackgroundTask) -> QuerySet[BackgroundTask]:
    """The tasks of what the task's procedure runs after."""
    names = [
        known
        for name in task.procedure.run_after
        if (procedure := Procedures.get_by_name(name)) is not None
        for known in procedure.names
    ]
    return BackgroundTask.objects.using(task._state.db).filter(procedure__in=names)


def running_jobs(task: BackgroundTask) -> int:
    """How many jobs of the whole site run now."""
    return Job.objects.using(task._state.db).running().count()


def due_before(task: BackgroundTask, now: datetime) -> BackgroundTask | None:
    """A task that goes before this one, and waits itself."""
    due = Q(next_run_at__lte=now) | Q(requested_at__lte=now)
    return _tasks_before(task).filter(due).order_by("seqno", "pk").first()


def _jobs_before(task: BackgroundTask, since: datetime, until: datetime) -> list[Job]:
    """Jobs of what the task's procedure runs after."""
    ids = list(_tasks_before(task).values_list("pk", flat=True))
    jobs = Job.objects.using(task._state.db).filter(task__in=ids)
    recent = jobs.filter(due_at__range=(since - LONG_RUN, until))
    return _newest(recent.filter(Q(end_time=None) | Q(end_time__gte=since)), *OF_JOBS)[0]


def waiting_job(task: BackgroundTask) -> Job | None:
    """The job that waits for its next attempt, or for a free place."""
    return jobs_of(task).filter(state=Job.State.WAITING).order_by("available_at").first()
