"""The only file that changes a job's state: claim, gate, finish, reclaim, give up, cancel.

Each function is one group of conditional statements in one short transaction; the count of each
statement is checked. Where a group does not come out whole, everything is rolled back and the rows
are taken one by one, so that one row's trouble stays its own.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from operator import attrgetter
from typing import Any

from django.db import DataError, IntegrityError, OperationalError, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import F, QuerySet
from django.db.models.signals import pre_delete
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from linod import agenda, chance, clock, leases, locks, pieces, taskrows, transactions
from linod.asking import TASK_COLUMNS
from linod.bulk import Batch, Mismatch
from linod.exceptions import AlreadyRunning
from linod.groups import held_in_groups, in_groups
from linod.history import Decision, Job, time_ordered_uuid
from linod.models import BackgroundTask
from linod.procedures import Procedures
from linod.records import Candidate, Claimed, Finished, Terms

logger = logging.getLogger("linod")
#: A job as it was read, with the lease that it had then.
Expired = tuple[datetime | None, Claimed]
State = Job.State

#: What a row must still be for its owner to change it.
MINE = ("id", "owner", "fence", "state")
#: What a row must still be for others to take it over.
SILENT = ("id", "state", "fence", "lease_until")


# Claim: a due task gets a job

NEW_JOB = (
    "id", "task", "procedure", "arguments", "due_at", "trigger", "attempt", "state", "priority",
    "queue", "active_task", "owner", "fence", "lease_until", "claimed_at", "start_time",
    "requested_by", "log_level", "error", "missed", "host", "revision",
)  # fmt: skip


def claim(
    terms: Terms, candidates: Sequence[Candidate], slots: int, now: datetime
) -> list[Claimed]:
    """Give due tasks their jobs: the first ``slots`` of them running, the others claimed.

    One transaction locks the tasks, moves them on and inserts the jobs, each on condition that the
    task is as it was read. Whoever else got hold of a task first keeps it.
    """
    got: list[Claimed] = []

    def together(group: Sequence[Candidate]) -> None:
        with transactions.write(terms.using) as connection, Batch(connection) as batch:
            mine = group
            if len(group) == 1 and group[0].is_told:
                batch.lock(BackgroundTask, group[0].task_id)
            elif connection.features.has_select_for_update or len(group) > 1:
                mine = locks.still_idle(terms.using, group)
            free = slots - len(got)
            jobs = [c.job for c in mine if c.job is not None]
            for position, job in enumerate(jobs):
                job.state = State.RUNNING if position < free else State.CLAIMED
                job.start_time = now if position < free else None
            taskrows.advance(batch, mine, now)
            _refuse_repeated(batch, mine)
            _insert(batch, terms, jobs, now)
            batch.send()
            for candidate in mine:
                if candidate.job is None:
                    _do_not_run(terms.using, candidate)
                _note_plan(terms.using, candidate)
        got.extend(jobs)

    def alone(candidate: Candidate, error: Exception) -> None:
        # Neither where somebody was faster nor where somebody has locked it.
        if not isinstance(error, Mismatch | OperationalError):
            with transactions.write(terms.using):
                _settle_claim(terms.using, candidate, error)

    in_groups(candidates, together, alone)
    return got


def _refuse_repeated(batch: Batch, candidates: Sequence[Candidate]) -> None:
    """Raise IntegrityError where the unique key cannot: for an instant whose job was lost.

    When that runs again, its row leaves the key of the first attempt. Only a task that was set back
    comes to such an instant: one that is not behind all instants that had their jobs.
    """
    jobs = [c.job for c in candidates if c.job is not None and c.is_set_back]
    if not jobs:
        return
    batch.send()
    again = Job.objects.using(batch.connection.alias).filter(
        task__in={job.task_id for job in jobs}, due_at__in={job.due_at for job in jobs}
    )
    had = set(again.filter(attempt__gt=1).values_list("task_id", "due_at"))
    if any((job.task_id, job.due_at) in had for job in jobs):
        raise IntegrityError("an instant had its job before")


def _insert(batch: Batch, terms: Terms, jobs: Sequence[Claimed], now: datetime) -> None:
    until = now + timedelta(seconds=terms.lease)
    rows = [
        (
            job.id, job.task_id, job.procedure, job.arguments, job.due_at, job.trigger,
            job.attempt, job.state, 0, "default", job.task_id, terms.owner, job.fence, until, now,
            job.start_time, job.requested_by_id, job.log_level, "", job.missed, terms.host,
            terms.revision,
        )
        for job in jobs
    ]  # fmt: skip
    batch.insert(Job, NEW_JOB, rows)


def _do_not_run(using: str, candidate: Candidate) -> None:
    if taskrows.move_on(using, candidate):
        drop_waiting(using, candidate.task_id)


def _note_plan(using: str, candidate: Candidate) -> None:
    decided = candidate.plan
    if decided.missed:
        reason = _("one run for %(number)d instants") % {"number": decided.missed + 1}
        _note(using, Decision.Kind.COALESCED, candidate, reason)
    if decided.skipped:
        words = {"number": decided.skipped, "why": "; ".join(map(_, decided.why))}
        _note(using, Decision.Kind.SKIPPED, candidate, _("%(number)d skipped: %(why)s") % words)


def _note(using: str, kind: str, candidate: Candidate, reason: str) -> None:
    Decision.objects.record(
        kind,
        candidate.task_id,
        due_at=candidate.plan.due_at or candidate.next_run_at,
        reason=reason,
        job=None if candidate.job is None else candidate.job.id,
        using=using,
    )


def _settle_claim(using: str, candidate: Candidate, error: Exception) -> None:
    """A claim that failed alone though the task was as it was read: it ran before, or is ill."""
    if candidate.job is None:
        return
    if isinstance(error, DataError):
        candidate.job, candidate.fault = None, f"{type(error).__name__}: {error}"
        _do_not_run(using, candidate)
        return
    due_at = candidate.job.due_at
    ran = Job.objects.using(using).filter(task_id=candidate.task_id, due_at=due_at)
    if not ran.exists():
        return  # the other unique key: a job of this task became active meanwhile
    rows = BackgroundTask.objects.using(using).filter(
        pk=candidate.task_id, version=candidate.version
    )
    if candidate.requested_at is not None:
        later = candidate.requested_at + timedelta(microseconds=1)
        rows.filter(requested_at=candidate.requested_at).update(requested_at=later)
    elif rows.filter(next_run_at=candidate.next_run_at).update(
        next_run_at=candidate.plan.next_run_at
    ):
        _note(using, Decision.Kind.ALREADY_RUN, candidate, _("this instant had its job before"))


def claim_now(terms: Terms, task: BackgroundTask, user_id: Any) -> Claimed:
    """Give a task a running job at this moment, whatever its rule says; its rule goes on.

    Raises :class:`linod.exceptions.AlreadyRunning` when it has an active job.
    """
    with transactions.write(terms.using) as connection:
        rows = BackgroundTask.objects.using(terms.using).filter(pk=task.pk)
        if connection.features.has_select_for_update:
            rows = rows.select_for_update()
        row = rows.values(*TASK_COLUMNS).get()
        now = clock.db_now(terms.using)
        job = agenda.new_job(row, terms.owner, now, Job.Trigger.REQUEST)
        job.requested_by_id, job.start_time = user_id, now
        active = Job.objects.using(terms.using).filter(active_task=task.pk).first()
        if active is not None and active.owner == terms.owner:
            # An earlier try was committed, only its answer was lost.
            return next(job for job in leases.held(terms) if job.id == active.pk)
        if active is not None:
            if not active.host:
                message = gettext_noop("%(task)s is already running, by another process")
                raise AlreadyRunning(message, task=task)
            message = gettext_noop("%(task)s is already running, by %(host)s")
            raise AlreadyRunning(message, task=task, host=active.host)
        with Batch(connection) as batch:
            _insert(batch, terms, [job], now)
            taskrows.start(batch, [job], now)
    return job


def claim_waiting(terms: Terms, jobs: Sequence[Claimed], slots: int) -> list[Claimed]:
    """Take waiting jobs: the first ``slots`` running, the others claimed; the task locked first."""
    got: list[Claimed] = []

    def together(group: Sequence[Claimed]) -> None:
        with transactions.write(terms.using) as connection:
            group = locks.free_of_locks(connection, group)
            now = clock.db_now(terms.using)
            until = now + timedelta(seconds=terms.lease)
            free = slots - len(got)
            taken = [
                _taken(job, terms, State.RUNNING if n < free else State.CLAIMED, now)
                for n, job in enumerate(group)
            ]
            columns = ("state", "owner", "fence", "active_task", "lease_until", "claimed_at",
                      "start_time", "available_at", "host", "revision")  # fmt: skip
            rows = [
                (new.state, terms.owner, new.fence, new.task_id, until, now, new.start_time, None,
                 terms.host, terms.revision, old.id, State.WAITING, old.fence)
                for new, old in zip(taken, group, strict=True)
            ]  # fmt: skip
            with Batch(connection) as batch:
                batch.change(Job, columns, ("id", "state", "fence"), rows)
                taskrows.start(batch, taken, now)
        got.extend(taken)

    in_groups(jobs, together, lambda job, error: None)
    return got


def _taken(job: Claimed, terms: Terms, state: str, now: datetime) -> Claimed:
    start = now if state == State.RUNNING else None
    return replace(job, owner=terms.owner, fence=job.fence + 1, state=state, start_time=start)


# The gate: a claimed job begins


def gate(terms: Terms, jobs: Sequence[Claimed], now: datetime) -> list[Claimed]:
    """Let claimed jobs begin: their bodies may start once, and only after this. Returns those.

    Of the others some may still be mine: ``is_held_up``.
    """

    def together(group: Sequence[Claimed]) -> None:
        with transactions.write_batch(terms.using) as batch:
            _pass(batch, terms, group, now)

    passed = held_in_groups(jobs, together, lambda job, error: None)
    for job in passed:
        job.state, job.start_time = State.RUNNING, now
    return passed


def _pass(batch: Batch, terms: Terms, jobs: Sequence[Claimed], now: datetime) -> None:
    rows = [(State.RUNNING, now, job.id, terms.owner, job.fence, State.CLAIMED) for job in jobs]
    batch.change(Job, ("state", "start_time"), MINE, rows)


# Finish: what came of a job


def finish(terms: Terms, ended: Sequence[Finished], *, patiently: bool = True) -> list[Finished]:
    """Record outcomes, each once; returns those that were refused because the job was not mine.

    Among the refused are those that cannot be recorded at all: ``fault`` says why. Those whose rows
    somebody else has locked are still to be recorded: ``is_held_up``.

    :param patiently: False: what is locked is not waited for.
    """
    refused: list[Finished] = []

    def alone(each: Finished, error: Exception) -> None:
        failure = _finish_alone(terms, each, error)
        if failure is None:
            return
        each.is_held_up = transactions.is_locked_out(failure)
        if each.is_held_up or _is_recorded(terms, each):
            return
        each.fault = "" if isinstance(failure, Mismatch) else transactions.first_line(failure)
        refused.append(each)

    with transactions.impatient(not patiently):
        for group in pieces.in_messages(ended, attrgetter("log")):
            held_in_groups(group, partial(_finish_together, terms), alone)
    return refused


def _finish_together(terms: Terms, group: Sequence[Finished]) -> None:
    with transactions.write_batch(terms.using) as batch:
        again = _record(batch, terms, group)
        batch.send()
        _follow_up(terms, group, again)


def _finish_anew(terms: Terms, group: Sequence[Finished]) -> None:
    # Its last piece of log may be stored: that COMMIT worked, its answer was lost.
    with transactions.write(terms.using):
        pieces.drop_stored(terms, [(e.job, e.pieces, e.log) for e in group if e.log])
        _finish_together(terms, group)


def _finish_barely(terms: Terms, group: Sequence[Finished]) -> None:
    # What follows from it cannot be stored either.
    with transactions.write_batch(terms.using) as batch:
        _record(batch, terms, group)


def _finish_alone(terms: Terms, each: Finished, error: Exception) -> Exception | None:
    """Record one outcome that could not be recorded as it is; returns why not, None when it was."""
    plain = replace(
        each, error=f"{each.error}\n(not stored: {error})"[-2000:], result=None, log="",
        message="", progress=None,
    )  # fmt: skip
    # What it says may be impossible to store; that it ended must be.
    tries = [(_finish_anew, each)] * isinstance(error, IntegrityError) + [
        (_finish_together, plain), (_finish_barely, plain),
    ]  # fmt: skip
    failures = [error]
    for write, what in tries:
        if isinstance(failures[-1], Mismatch | OperationalError) or _is_recorded(terms, each):
            break
        if in_groups([what], partial(write, terms), lambda what, error: failures.append(error)):
            return None
    return failures[-1]


def finish_and_gate(
    terms: Terms, ended: Sequence[Finished], jobs: Sequence[Claimed], now: datetime
) -> tuple[list[Finished], list[Claimed]]:
    """:func:`finish` and :func:`gate` in one transaction, where both come out whole.

    Half the commits: where slots are few and jobs are short, commits are what takes the time.
    """
    is_locked = any(e.is_held_up for e in ended) or any(job.is_held_up for job in jobs)
    fits = sum(len(each.log) for each in ended) <= pieces.MOST_TEXT
    if ended and jobs and fits and not is_locked:
        try:
            with transactions.write_batch(terms.using) as batch:
                again = _record(batch, terms, ended)
                _pass(batch, terms, jobs, now)
                batch.send()
                _follow_up(terms, ended, again)
        except (Mismatch, IntegrityError, DataError) as error:
            logger.debug("One by one: %s", error)
        except OperationalError as error:
            is_locked = transactions.is_locked_out(error)
            if not is_locked:
                raise
        else:
            for job in jobs:
                job.state, job.start_time = State.RUNNING, now
            return [], list(jobs)
    with transactions.impatient(is_locked):
        return finish(terms, ended), gate(terms, jobs, now)


def _record(batch: Batch, terms: Terms, ended: Sequence[Finished]) -> set[uuid.UUID]:
    """Write outcomes; returns the lost jobs that run again."""
    ordered = sorted(ended, key=lambda each: each.job.task_id or 0)
    again = _to_rerun(batch, [e.job for e in ordered if e.state == State.LOST])
    _end_jobs(batch, terms, [e for e in ordered if e.job.id not in again])
    _rerun_jobs(batch, terms, [e for e in ordered if e.job.id in again])
    pieces.store_logs(batch, [(e.job, e.pieces, e.log) for e in ordered if e.log])
    taskrows.end(batch, ordered)
    return again


def _follow_up(terms: Terms, ended: Sequence[Finished], again: Collection[uuid.UUID]) -> None:
    for each in ended:
        if each.state in (State.FAILED, State.TIMED_OUT):
            _after_failure(terms, each)
        elif each.state == State.LOST:
            _note_loss(terms.using, each.job, each.error[:500], again)


def _is_recorded(terms: Terms, each: Finished) -> bool:
    """Whether this very outcome is stored already: its COMMIT worked, only the answer was lost."""
    mine = Job.objects.using(terms.using).filter(
        pk=each.job.id, owner=terms.owner, fence=each.job.fence, state=each.state
    )
    return mine.filter(end_time=each.end_time).exists()


def _end_jobs(batch: Batch, terms: Terms, ended: Sequence[Finished]) -> None:
    columns = ("state", "error", "result", "progress", "start_time", "end_time", "active_task",
              "lease_until")  # fmt: skip
    rows = [
        (e.state, e.error, e.result, e.progress, e.start_time, e.end_time, None, None,
         e.job.id, terms.owner, e.job.fence, State.RUNNING)
        for e in ended
    ]  # fmt: skip
    batch.change(Job, columns, MINE, rows)


def _rerun_jobs(batch: Batch, terms: Terms, ended: Sequence[Finished]) -> None:
    rows = [
        (*_rerun(e.job, e.end_time), e.job.id, terms.owner, e.job.fence, State.RUNNING)
        for e in ended
    ]
    batch.change(Job, RERUN, MINE, rows, null=UNCANCELLED)


def _after_failure(terms: Terms, ended: Finished) -> None:
    """Try again while attempts remain; else count the failure, and disable the task in the end.

    A task that was deleted meanwhile wants neither; one that was disabled meanwhile runs no more by
    itself: that is so for whatever was due, and where the version is not the one that was read.
    A request runs a disabled one, with all its attempts.
    """
    job = ended.job
    tasks = BackgroundTask.objects.using(terms.using).filter(pk=job.task_id or 0)
    task = tasks.values("disabled", "version").first()
    if task is None:
        return
    asked_for = Job.objects.using(terms.using).asked_for().filter(pk=job.id)
    was_disabled = task["disabled"] and (
        task["version"] != job.task_version or not asked_for.exists()
    )
    if job.attempt < job.max_attempts and not was_disabled:
        _retry(terms, ended)
    elif taskrows.count_failure(tasks, ended):
        drop_waiting(terms.using, job.task_id)


def _retry(terms: Terms, ended: Finished) -> None:
    job = ended.job
    delay = retry_delay(job.retry_delay, job.attempt)
    Job.objects.using(terms.using).create(
        id=time_ordered_uuid(),
        task_id=job.task_id,
        procedure=job.procedure,
        arguments=job.arguments,
        due_at=job.due_at,
        trigger=Job.Trigger.RETRY,
        attempt=job.attempt + 1,
        state=State.WAITING,
        available_at=ended.end_time + timedelta(seconds=delay),
        log_level=job.log_level,
        # As the row has it: the user may have been deleted meanwhile.
        requested_by_id=Job.objects.using(terms.using)
        .values_list("requested_by", flat=True)
        .get(pk=job.id),
        missed=job.missed,
    )
    reason = _("attempt %(attempt)d of %(last)d: %(state)s; the next one in %(seconds).0f s") % {
        "attempt": job.attempt,
        "last": job.max_attempts,
        "state": State(ended.state).label,
        "seconds": delay,
    }
    Decision.objects.record(
        Decision.Kind.RETRIED,
        job.task_id,
        due_at=job.due_at,
        job=job.id,
        reason=reason,
        using=terms.using,
    )


def retry_delay(base: float, attempt: int) -> float:
    """Seconds until the next attempt: doubling, at most a day, a quarter of it by chance."""
    return float(min(base * 2 ** min(attempt - 1, 20), 86400.0) * chance.between(0.75, 1.25))


# Recovery: what dead owners held, and what goes back unbegun


def reclaim(terms: Terms, now: datetime, limit: int = 200) -> list[Claimed]:
    """Take over what dead owners held: claimed jobs are returned as mine, running ones are lost.

    A claimed one whose procedure nobody knows here waits for who does. What somebody has locked is
    left for the next time.

    :param now: the database's time, read just before.
    """
    expired = (
        Job.objects.using(terms.using)
        .filter(lease_until__lt=now)
        .exclude(owner=terms.owner)
        .order_by("lease_until")
        .values(*agenda.JOB_COLUMNS)[:limit]
    )
    found = [(row["lease_until"], agenda.from_row(row, terms.owner)) for row in expired]
    got: list[Claimed] = []

    def take(group: Sequence[Expired]) -> None:
        with transactions.write(terms.using) as connection:
            free = _not_locked(connection, group)
            with Batch(connection) as batch:
                known = [each for each in free if each[1].procedure.name in Procedures.registry]
                unknown = [each for each in free if each not in known]
                _take_over(batch, terms, known, unknown, now)
            for _lease, job in free:
                _note_job(terms.using, Decision.Kind.TAKEN_OVER, job, _("its daemon was silent"))
        got.extend(_taken(job, terms, State.CLAIMED, now) for _lease, job in known)

    def lose(group: Sequence[Expired]) -> None:
        with transactions.write(terms.using) as connection:
            free = _not_locked(connection, group)
            with Batch(connection) as batch:
                again = _lose(batch, free, now)
            for _lease, job in free:
                _note_loss(terms.using, job, _(SILENCE), again)

    in_groups([f for f in found if f[1].state == State.CLAIMED], take, lambda job, error: None)
    in_groups([f for f in found if f[1].state == State.RUNNING], lose, lambda job, error: None)
    return got


def _not_locked(connection: BaseDatabaseWrapper, group: Sequence[Expired]) -> list[Expired]:
    free = {job.id for job in locks.free_of_locks(connection, [job for _lease, job in group])}
    return [(lease, job) for lease, job in group if job.id in free]


def _take_over(
    batch: Batch,
    terms: Terms,
    known: Sequence[Expired],
    unknown: Sequence[Expired],
    now: datetime,
) -> None:
    until = now + timedelta(seconds=terms.lease)
    rows: list[tuple[Any, ...]]
    rows = [
        (terms.owner, job.fence + 1, until, job.id, State.CLAIMED, job.fence, lease)
        for lease, job in known
    ]
    batch.change(Job, ("owner", "fence", "lease_until"), SILENT, rows)
    columns = ("state", "owner", "fence", "active_task", "lease_until", "available_at")
    rows = [
        (State.WAITING, None, job.fence + 1, None, None, now,
         job.id, State.CLAIMED, job.fence, lease)
        for lease, job in unknown
    ]  # fmt: skip
    batch.change(Job, columns, SILENT, rows)


def _lose(batch: Batch, group: Sequence[Expired], now: datetime) -> set[uuid.UUID]:
    """Write that these are lost; returns those that run again."""
    again = _to_rerun(batch, [job for _lease, job in group])
    lost = [(lease, job) for lease, job in group if job.id not in again]
    rows: list[tuple[Any, ...]]
    rows = [
        (*_rerun(job, now), job.id, State.RUNNING, job.fence, lease)
        for lease, job in group
        if job.id in again
    ]
    batch.change(Job, RERUN, SILENT, rows, null=UNCANCELLED)
    columns = ("state", "error", "end_time", "active_task", "lease_until", "fence")
    rows = [
        (State.LOST, _(SILENCE), now, None, None, job.fence + 1,
         job.id, State.RUNNING, job.fence, lease)
        for lease, job in lost
    ]  # fmt: skip
    batch.change(Job, columns, SILENT, rows)
    taskrows.lose(batch, [job for _lease, job in group], now, SILENCE)
    return again


SILENCE = gettext_noop("its daemon was silent for a lease while the job ran")
RERUN = ("state", "attempt", "fence", "owner", "active_task", "lease_until", "start_time",
         "available_at")  # fmt: skip
#: What a job must not have to run once more.
UNCANCELLED = ("cancel_requested_at",)


def _rerun(job: Claimed, now: datetime) -> tuple[Any, ...]:
    """The values of a lost job that waits for its next attempt."""
    return (State.WAITING, job.attempt + 1, job.fence + 1, None, None, None, None, now)


def _to_rerun(batch: Batch, jobs: Sequence[Claimed]) -> set[uuid.UUID]:
    """Which of these lost jobs begin again: their tasks allow it, and attempts remain.

    Not where somebody has cancelled the job, nor where the task was disabled or deleted meanwhile.
    """
    allowed = [job for job in jobs if job.rerun_lost and job.attempt < job.max_attempts]
    if not allowed:
        return set()
    batch.send()
    locks.lock_tasks(batch.connection, allowed)
    rows = Job.objects.using(batch.connection.alias).filter(
        pk__in=[job.id for job in allowed], task__isnull=False, cancel_requested_at=None
    )
    wanted = rows.filter(task__disabled=False).values_list("pk", flat=True)
    return {*wanted, *rows.asked_for().values_list("pk", flat=True)}


def _note_loss(using: str, job: Claimed, reason: str, again: Collection[uuid.UUID]) -> None:
    """The ledger keeps what the row forgets when it waits for its next attempt."""
    if job.id in again:
        text = _("%(reason)s; attempt %(attempt)d of %(last)d, the next one follows")
        words = {"reason": reason, "attempt": job.attempt, "last": job.max_attempts}
        reason = text % words
    _note_job(using, Decision.Kind.LOST, job, reason)


def _note_job(using: str, kind: str, job: Claimed, reason: str) -> None:
    Decision.objects.record(
        kind, job.task_id, due_at=job.due_at, reason=reason, job=job.id, using=using
    )


def give_back(terms: Terms, jobs: Sequence[Claimed]) -> None:
    """Let go of jobs whose bodies have not begun: whoever has a free slot takes them.

    One that somebody asked to stop never begins, nor one whose task was deleted: it is cancelled.
    """
    columns = ("state", "fence", "owner", "active_task", "lease_until", "available_at",
               "start_time")  # fmt: skip

    def together(group: Sequence[Claimed]) -> None:
        with transactions.write(terms.using) as connection:
            now = clock.db_now(terms.using)
            rows = [
                (State.WAITING, job.fence + 1, None, None, None, now, None,
                 job.id, terms.owner, job.fence, job.state, job.task_id)
                for job in group
            ]  # fmt: skip
            with Batch(connection) as batch:
                with_task = [row for row in rows if row[-1] is not None]
                batch.change(Job, columns, (*MINE, "task"), with_task, null=UNCANCELLED)
                # Work without a task holds none, unless that was deleted.
                others = [row[:-1] for row in rows if row[-1] is None]
                batch.change(Job, columns, MINE, others, null=(*UNCANCELLED, "active_task"))

    def alone(job: Claimed, error: Exception) -> None:
        if isinstance(error, OperationalError):
            return  # somebody has locked it
        mine = Job.objects.using(terms.using).filter(
            pk=job.id, owner=terms.owner, fence=job.fence, state=job.state
        )
        with transactions.write(terms.using):
            now = clock.db_now(terms.using)
            if _cancel_unbegun(mine.exclude(cancel_requested_at=None), now):
                return
            if _cancel_unbegun(mine.filter(task=None, active_task__isnull=False), now):
                job = replace(job, task_id=None)
                _note_job(terms.using, Decision.Kind.CANCELLED, job, _(DELETED))

    held_in_groups(jobs, together, alone)


# What people ask


def cancel(using: str, job_id: uuid.UUID, who: Any = None) -> bool:
    """Cancel a job, at once before it began; a running one is asked to stop. False: it ended."""
    now = clock.db_now(using)
    rows = Job.objects.using(using).filter(pk=job_id)
    with transactions.write(using):
        before = _cancel_unbegun(rows.filter(state__in=[State.WAITING, State.CLAIMED]), now)
        if not before and not rows.filter(state=State.RUNNING).update(cancel_requested_at=now):
            return False
        job = rows.values("task_id", "due_at").get()
        Decision.objects.record(
            Decision.Kind.CANCELLED,
            job["task_id"],
            due_at=job["due_at"],
            job=job_id,
            who=who,
            using=using,
        )
    return True


def _cancel_unbegun(rows: QuerySet[Job], now: datetime) -> int:
    return rows.update(
        state=State.CANCELLED,
        start_time=None,
        end_time=now,
        active_task=None,
        lease_until=None,
        available_at=None,
        fence=F("fence") + 1,
    )


def drop_waiting(
    using: str, task_id: int | None, who: Any = None, *, is_deleted: bool = False
) -> None:
    """Cancel what waits for a task that is disabled (what somebody requested stays), or deleted.

    To be called in the transaction that does so, behind what disables the task: so nothing begins
    to wait meanwhile. The first statement writes: SQLite may refuse who has only read before.
    """
    now = clock.db_now(using)
    waiting = Job.objects.using(using).filter(task=task_id, state=State.WAITING)
    if not waiting.update(fence=F("fence")):  # locked now
        return
    kept = set() if is_deleted else set(waiting.asked_for().values_list("pk", flat=True))
    jobs = [row for row in waiting.values_list("pk", "due_at") if row[0] not in kept]
    _cancel_unbegun(waiting.filter(pk__in=[job_id for job_id, _due_at in jobs]), now)
    for job_id, due_at in jobs:
        Decision.objects.record(
            Decision.Kind.CANCELLED,
            task_id,
            due_at=due_at,
            reason=_(DELETED) if is_deleted else _("its task was disabled"),
            job=job_id,
            who=who,
            using=using,
        )


DELETED = gettext_noop("its task was deleted")


def _drop_with_task(instance: BackgroundTask, using: str, **kwargs: Any) -> None:
    if connections[using].features.has_select_for_update:
        # Who gives its job back now does so before this, or behind the deletion.
        held = Job.objects.using(using).filter(active_task=instance.pk)
        list(held.select_for_update().values_list("pk"))
    drop_waiting(using, instance.pk, is_deleted=True)


def connect() -> None:
    """Let nothing run any more for a task that is deleted."""
    pre_delete.connect(_drop_with_task, sender=BackgroundTask, dispatch_uid="linod.claims")
