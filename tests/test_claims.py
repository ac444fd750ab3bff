"""The protocol: each function of ``claims`` against what another owner did meanwhile."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, time, timedelta
from typing import Any

import pytest
from django.db import DataError, OperationalError, connection, connections, transaction
from django.db.models.signals import pre_delete

from linod import agenda, claims, clock, leases, pieces, transactions
from linod.history import Decision, Job
from linod.models import BackgroundTask
from linod.records import Claimed, Finished, Terms
from tests.daemons import make_due, make_task, only_these_procedures

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _registry() -> Iterator[None]:
    with only_these_procedures():
        BackgroundTask.objects.all().delete()
        yield


def terms(lease: float = 30.0) -> Terms:
    return Terms("default", uuid.uuid4(), lease, host="here")


def noop() -> None:
    """Do nothing."""


def secondly(name: str = "noop", **values: Any) -> BackgroundTask:
    return make_task(noop, name, **{"every_unit": "secondly", "every": 10, **values})


def claim_all(mine: Terms, slots: int = 10) -> list[Claimed]:
    candidates = agenda.peek("default", mine.owner, clock.db_now(), 100)
    return claims.claim(mine, candidates, slots, clock.db_now())


def end_of(job: Claimed, state: str = "succeeded", **values: Any) -> Finished:
    now = clock.db_now()
    return Finished(job, state, job.start_time or now, now, **values)


def test_a_claim_inserts_the_job_and_moves_the_task_on() -> None:
    task = secondly()
    due_at = make_due(task, ago=3)
    (job,) = claim_all(mine := terms())
    row = Job.objects.get()
    assert (row.task, row.state, row.owner, row.fence, row.attempt) == (
        task, "running", mine.owner, 1, 1,
    )  # fmt: skip
    assert row.due_at == due_at == job.due_at
    assert row.active_task == task.pk
    assert row.lease_until is not None
    assert row.lease_until > clock.db_now() + timedelta(seconds=25)
    task.refresh_from_db()
    assert task.next_run_at is not None
    assert task.next_run_at > clock.db_now()
    assert task.last_start_time is not None


def test_jobs_beyond_the_free_slots_are_claimed_only() -> None:
    for name in "abcde":
        make_due(secondly(name), ago=1)
    jobs = claim_all(terms(), slots=2)
    assert [job.state for job in jobs] == ["running", "running", "claimed", "claimed", "claimed"]


def test_two_owners_that_saw_the_same_task_get_one_job() -> None:
    make_due(secondly(), ago=1)
    one, two = terms(), terms()
    now = clock.db_now()
    seen = [agenda.peek("default", each.owner, now, 10) for each in (one, two)]
    got = [claims.claim(each, found, 10, now) for each, found in zip((one, two), seen, strict=True)]
    assert [len(each) for each in got] == [1, 0]
    assert Job.objects.count() == 1


def test_an_instant_that_ran_before_does_not_run_again() -> None:
    task = secondly()
    due_at = make_due(task, ago=1)
    (job,) = claim_all(mine := terms())
    claims.finish(mine, [end_of(job)])
    BackgroundTask.objects.filter(pk=task.pk).update(next_run_at=due_at)
    assert claim_all(terms()) == []
    assert Job.objects.count() == 1
    task.refresh_from_db()
    assert task.next_run_at is not None
    assert task.next_run_at > due_at
    assert Decision.objects.filter(kind="already_run").count() == 1


def test_a_task_with_an_active_job_is_not_due() -> None:
    task = secondly()
    make_due(task, ago=1)
    assert len(claim_all(terms())) == 1
    make_due(task, ago=0)
    assert claim_all(terms()) == []
    found = agenda.agenda("default", uuid.uuid4())
    assert found.next_run_at is None


def test_the_unique_key_stands_behind_the_look() -> None:
    """A claim whose look is stale (an active job came since) leaves the task as it was."""
    task = secondly()
    due_at = make_due(task, ago=1)
    seen = agenda.peek("default", (mine := terms()).owner, clock.db_now(), 10)
    claims.claim_now(terms(), task, None)
    assert claims.claim(mine, seen, 10, clock.db_now()) == []
    assert Job.objects.count() == 1
    task.refresh_from_db()
    assert task.next_run_at == due_at


def test_an_edit_between_look_and_claim_wins() -> None:
    task = secondly()
    make_due(task, ago=1)
    seen = agenda.peek("default", (mine := terms()).owner, clock.db_now(), 10)
    task.refresh_from_db()
    task.disable("not today")
    assert claims.claim(mine, seen, 10, clock.db_now()) == []
    assert Job.objects.count() == 0


def test_a_bad_row_is_put_aside_with_its_reason_and_stops_no_other() -> None:
    bad, good = secondly("bad"), secondly("good")
    make_due(bad, ago=2)
    make_due(good, ago=1)
    BackgroundTask.objects.filter(pk=bad.pk).update(every=0)
    (job,) = claim_all(terms())
    assert job.task_id == good.pk
    bad.refresh_from_db()
    assert bad.disabled
    assert "every" in bad.disabled_reason
    assert Decision.objects.get(kind="quarantined").task == bad


def test_a_row_whose_numbers_lead_beyond_the_calendar_is_put_aside(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    early, far, good = secondly("early"), secondly("far"), secondly("good")
    for task in (early, far, good):
        make_due(task, ago=1)
    values = {"end_date": date.min, "end_time": time(1), "time_zone": "Europe/Tallinn"}
    BackgroundTask.objects.filter(pk=early.pk).update(**values)
    BackgroundTask.objects.filter(pk=far.pk).update(missed_within=2**31 - 1)
    decide = agenda.plan

    def plan(*args: Any) -> Any:
        """Decide where such a limit is beyond what a date can be moved by."""
        if args[-1] is not None:
            raise OverflowError("date value out of range")
        return decide(*args)

    monkeypatch.setattr(agenda, "plan", plan)
    (job,) = claim_all(terms())
    assert job.task_id == good.pk
    reasons = dict(
        BackgroundTask.objects.filter(disabled=True).values_list("pk", "disabled_reason")
    )
    assert reasons == {
        early.pk: "end_date: the end lies before the start",
        far.pk: "every_unit: the rule cannot be answered (date value out of range)",
    }


def test_the_gate_opens_once() -> None:
    make_due(secondly(), ago=1)
    (job,) = claim_all(mine := terms(), slots=0)
    assert job.state == "claimed"
    again = replace(job)
    assert claims.gate(mine, [job], clock.db_now()) == [job]
    assert job.state == "running"
    assert claims.gate(mine, [again], clock.db_now()) == []


def test_a_cancelled_job_does_not_pass_the_gate() -> None:
    make_due(secondly(), ago=1)
    (job,) = claim_all(mine := terms(), slots=0)
    assert claims.cancel("default", job.id, "anna")
    assert claims.gate(mine, [job], clock.db_now()) == []
    assert Job.objects.get().state == "cancelled"
    assert Decision.objects.get(kind="cancelled").who == "anna"


def test_a_finish_happens_once_and_is_settled_by_reading_back() -> None:
    task = secondly()
    make_due(task, ago=1)
    (job,) = claim_all(mine := terms())
    ended = end_of(job, log="one\n", message="one\n", result={"n": 1})
    assert claims.finish(mine, [ended]) == []
    # The answer to COMMIT was lost: the same outcome again is known to be recorded.
    assert claims.finish(mine, [ended]) == []
    # Another outcome is not.
    other = replace(ended, state="failed")
    assert claims.finish(mine, [other]) == [other]
    row = Job.objects.get()
    assert (row.state, row.result, row.message, row.active_task, row.lease_until) == (
        "succeeded", {"n": 1}, "one\n", None, None,
    )  # fmt: skip
    task.refresh_from_db()
    assert task.message == "one\n"
    assert not task.disabled


def test_one_stale_outcome_does_not_spoil_its_group() -> None:
    for name in "abc":
        make_due(secondly(name), ago=1)
    jobs = claim_all(mine := terms())
    Job.objects.filter(pk=jobs[1].id).update(fence=2)
    ended = [end_of(job) for job in jobs]
    assert claims.finish(mine, ended) == [ended[1]]
    assert sorted(Job.objects.values_list("state", flat=True)) == [
        "running", "succeeded", "succeeded",
    ]  # fmt: skip


def test_finish_and_gate_fall_apart_without_loss() -> None:
    for name in "abcd":
        make_due(secondly(name), ago=1)
    jobs = claim_all(mine := terms(), slots=2)
    running, waiting = jobs[:2], jobs[2:]
    Job.objects.filter(pk=waiting[0].id).update(fence=9)
    refused, started = claims.finish_and_gate(
        mine, [end_of(job) for job in running], waiting, clock.db_now()
    )
    assert refused == []
    assert started == [waiting[1]]
    assert Job.objects.filter(state="succeeded").count() == 2
    assert Job.objects.get(pk=waiting[0].id).state == "claimed"


def test_what_cannot_be_stored_does_not_hide_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    make_due(secondly(), ago=1)
    (job,) = claim_all(mine := terms())
    original = pieces.store_logs

    def refuse(batch: Any, pieces: Any) -> None:
        if pieces:
            raise DataError("invalid byte sequence")
        original(batch, pieces)

    monkeypatch.setattr(pieces, "store_logs", refuse)
    assert claims.finish(mine, [end_of(job, log="bad")]) == []
    row = Job.objects.get()
    assert row.state == "succeeded"
    assert "invalid byte sequence" in row.error


def test_a_failure_disables_the_task_in_the_same_transaction() -> None:
    task = secondly()
    make_due(task, ago=1)
    (job,) = claim_all(mine := terms())
    claims.finish(mine, [end_of(job, "failed", error="Traceback\nValueError: boom")])
    task.refresh_from_db()
    assert task.disabled
    assert task.next_run_at is None
    assert task.disabled_reason == "ValueError: boom"
    assert Decision.objects.get(kind="disabled").job == job.id


@pytest.mark.parametrize(("limit", "disabled"), [(1, True), (2, False), (0, False)])
def test_so_many_failures_in_a_row_disable(limit: int, disabled: bool) -> None:
    task = secondly(disable_after=limit)
    make_due(task, ago=1)
    (job,) = claim_all(mine := terms())
    claims.finish(mine, [end_of(job, "failed")])
    task.refresh_from_db()
    assert (task.disabled, task.failures) == (disabled, 1)


def test_an_edit_during_a_failing_run_stands() -> None:
    task = secondly()
    make_due(task, ago=1)
    (job,) = claim_all(mine := terms())
    task.refresh_from_db()
    task.arguments = {"mended": True}
    task.save()
    claims.finish(mine, [end_of(job, "failed")])
    task.refresh_from_db()
    assert not task.disabled
    assert task.arguments == {"mended": True}


def test_a_deleted_task_stays_deleted() -> None:
    task = secondly()
    make_due(task, ago=1)
    (job,) = claim_all(mine := terms())
    task.delete()
    assert claims.finish(mine, [end_of(job, "failed")]) == []
    assert BackgroundTask.objects.count() == 0
    row = Job.objects.get()
    assert (row.task, row.state) == (None, "failed")


@pytest.mark.parametrize("trigger", ["retry", "request"])
@pytest.mark.parametrize("is_bulk", [False, True])
def test_nothing_waits_for_a_deleted_task(trigger: str, is_bulk: bool) -> None:
    task, other = secondly(), secondly("b")
    for each in (task, other):
        now = clock.db_now()
        Job.objects.create(task=each, procedure=each.procedure, trigger=trigger, state="waiting",
                           due_at=now, available_at=now)  # fmt: skip
    if is_bulk:
        BackgroundTask.objects.filter(pk=task.pk).delete()
    else:
        task.delete()
    dropped, kept = Job.objects.get(task=None), Job.objects.get(task=other)
    assert (dropped.state, kept.state) == ("cancelled", "waiting")
    assert agenda.peek_waiting("default", terms().owner, clock.db_now(), 10)[0].id == kept.pk
    told = Decision.objects.get(kind="cancelled")
    assert (told.job, told.reason, told.task) == (dropped.pk, "its task was deleted", None)


def test_a_failed_attempt_waits_for_the_next() -> None:
    task = secondly(max_attempts=2, retry_delay=100.0)
    make_due(task, ago=1)
    (job,) = claim_all(mine := terms())
    claims.finish(mine, [end_of(job, "failed")])
    task.refresh_from_db()
    assert not task.disabled
    waiting = Job.objects.get(state="waiting")
    assert (waiting.attempt, waiting.due_at, waiting.trigger) == (2, job.due_at, "retry")
    assert waiting.available_at is not None
    delay = (waiting.available_at - clock.db_now()).total_seconds()
    assert 70 < delay < 126
    later = clock.db_now() + timedelta(seconds=200)
    found = agenda.peek_waiting("default", mine.owner, later, 10)
    (second,) = claims.claim_waiting(mine, found, 1)
    assert (second.attempt, second.fence, second.state) == (2, 1, "running")
    claims.finish(mine, [end_of(second, "failed")])
    task.refresh_from_db()
    assert task.disabled
    assert Job.objects.filter(state="waiting").count() == 0


def test_a_waiting_job_is_taken_once() -> None:
    task = secondly(max_attempts=2, retry_delay=0.001)
    make_due(task, ago=1)
    (job,) = claim_all(mine := terms())
    claims.finish(mine, [end_of(job, "failed")])
    later = clock.db_now() + timedelta(seconds=5)
    one, two = terms(), terms()
    seen = [agenda.peek_waiting("default", each.owner, later, 10) for each in (one, two)]
    assert [len(each) for each in seen] == [1, 1]
    assert len(claims.claim_waiting(one, seen[0], 1)) == 1
    assert claims.claim_waiting(two, seen[1], 1) == []


def expire() -> None:
    Job.objects.filter(lease_until__isnull=False).update(
        lease_until=clock.db_now() - timedelta(seconds=1)
    )


def test_a_claimed_job_of_a_dead_owner_is_taken_over_and_fenced() -> None:
    make_due(secondly(), ago=1)
    (job,) = claim_all(dead := terms(), slots=0)
    expire()
    (taken,) = claims.reclaim(mine := terms(), clock.db_now())
    assert (taken.id, taken.fence, taken.state) == (job.id, 2, "claimed")
    assert claims.gate(dead, [job], clock.db_now()) == []
    assert claims.gate(mine, [taken], clock.db_now()) == [taken]


def test_a_running_job_of_a_dead_owner_is_lost_and_its_outcome_refused() -> None:
    task = secondly()
    make_due(task, ago=1)
    (job,) = claim_all(dead := terms())
    expire()
    assert claims.reclaim(terms(), clock.db_now()) == []
    row = Job.objects.get()
    assert (row.state, row.active_task, row.fence) == ("lost", None, 2)
    ended = end_of(job)
    assert claims.finish(dead, [ended]) == [ended]
    task.refresh_from_db()
    assert not task.disabled
    assert Decision.objects.filter(kind="lost").count() == 1


def test_a_lost_job_runs_again_where_its_task_allows_it() -> None:
    task = secondly(rerun_lost=True, max_attempts=2)
    make_due(task, ago=1)
    claim_all(terms())
    expire()
    claims.reclaim(mine := terms(), clock.db_now())
    row = Job.objects.get()
    assert (row.state, row.attempt, row.active_task, row.owner) == ("waiting", 2, None, None)
    found = agenda.peek_waiting("default", mine.owner, clock.db_now(), 10)
    (again,) = claims.claim_waiting(mine, found, 1)
    assert (again.id, again.attempt, again.fence) == (row.pk, 2, 3)
    expire()
    claims.reclaim(terms(), clock.db_now())
    assert Job.objects.get().state == "lost"


def rerun(**values: Any) -> BackgroundTask:
    """A task whose job was lost and waits for its second attempt."""
    task = secondly(rerun_lost=True, max_attempts=3, **values)
    make_due(task, ago=1)
    claim_all(terms())
    expire()
    claims.reclaim(terms(), clock.db_now())
    return task


@pytest.mark.parametrize("max_attempts", [3, 1])
def test_an_instant_whose_lost_job_runs_again_has_no_second_one(max_attempts: int) -> None:
    """Its row has left the key (task, instant, first attempt); also when no other is allowed."""
    task, other = rerun(), secondly("other")
    job = Job.objects.get()
    make_due(other, ago=1)
    BackgroundTask.objects.filter(pk=task.pk).update(
        next_run_at=job.due_at, max_attempts=max_attempts, rerun_lost=max_attempts > 1
    )
    assert [each.task_id for each in claim_all(terms())] == [other.pk]
    assert Job.objects.get(task=task).pk == job.pk
    task.refresh_from_db()
    assert task.next_run_at is not None
    assert task.next_run_at > job.due_at
    assert Decision.objects.get(kind="already_run").task == task


@pytest.mark.parametrize("max_attempts", [1, 3])
def test_only_who_was_set_back_is_asked_about(
    max_attempts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = secondly(max_attempts=max_attempts)
    make_due(task, ago=25)
    claims.finish(mine := terms(), [end_of(job) for job in claim_all(mine)])
    asked = []
    real = claims._refuse_repeated

    def refuse_repeated(batch: Any, candidates: Any) -> None:
        asked.extend(each.is_set_back for each in candidates)
        real(batch, candidates)

    monkeypatch.setattr(claims, "_refuse_repeated", refuse_repeated)
    last = Job.objects.get()
    make_due(task, ago=2)
    assert len(claim_all(mine)) == 1
    claims.finish(mine, [end_of(replace(job)) for job in leases.held(mine)])
    BackgroundTask.objects.filter(pk=task.pk).update(next_run_at=last.due_at)
    assert claim_all(mine) == []
    assert asked == [False, True]


def test_the_ledger_keeps_the_attempt_that_the_row_forgets() -> None:
    rerun()
    line = Decision.objects.get(kind="lost")
    assert line.job == Job.objects.get().pk
    assert line.reason.endswith("attempt 1 of 3, the next one follows")


def test_a_lost_job_that_somebody_cancelled_does_not_begin_again() -> None:
    make_due(secondly(rerun_lost=True, max_attempts=3), ago=1)
    (job,) = claim_all(terms())
    assert claims.cancel("default", job.id, "anna")
    expire()
    claims.reclaim(terms(), clock.db_now())
    row = Job.objects.get()
    assert (row.state, row.attempt, row.active_task, row.available_at) == ("lost", 1, None, None)


def test_nor_does_one_that_its_own_daemon_gives_up_at_the_stop() -> None:
    for name in "ab":
        make_due(secondly(name, rerun_lost=True, max_attempts=3), ago=1)
    cancelled, other = claim_all(mine := terms())
    claims.cancel("default", cancelled.id)
    ends = [end_of(job, "lost", error="stopped with the daemon") for job in (cancelled, other)]
    assert claims.finish(mine, ends) == []
    assert Job.objects.get(pk=cancelled.id).state == "lost"
    assert Job.objects.get(pk=other.id).state == "waiting"


def test_what_was_cancelled_before_it_began_is_not_given_back() -> None:
    for name in "ab":
        make_due(secondly(name), ago=1)
    cancelled, other = claim_all(mine := terms())
    claims.cancel("default", cancelled.id)
    claims.give_back(mine, [cancelled, other])
    row = Job.objects.get(pk=cancelled.id)
    assert (row.state, row.active_task, row.start_time) == ("cancelled", None, None)
    assert Job.objects.get(pk=other.id).state == "waiting"


def check_dropped_with_its_task(job: Claimed) -> None:
    row = Job.objects.get()
    assert (row.state, row.active_task, row.start_time, row.available_at) == (
        "cancelled", None, None, None,
    )  # fmt: skip
    line = Decision.objects.get(kind="cancelled")
    assert (line.job, line.due_at, line.reason) == (job.id, job.due_at, "its task was deleted")


@pytest.mark.parametrize("slots", [0, 1])
@pytest.mark.parametrize("is_read_again", [False, True])
def test_what_is_given_back_after_its_task_was_deleted_is_cancelled(
    slots: int, is_read_again: bool
) -> None:
    task = secondly()
    make_due(task, ago=1)
    (job,) = claim_all(mine := terms(), slots=slots)
    task.delete()
    claims.give_back(mine, leases.held(mine) if is_read_again else [job])
    check_dropped_with_its_task(job)


def test_work_without_a_task_is_given_back_as_ever() -> None:
    procedure = secondly().procedure
    BackgroundTask.objects.all().delete()
    now = clock.db_now()
    Job.objects.create(
        procedure=procedure, due_at=now, trigger="enqueue", state="waiting", available_at=now
    )
    mine = terms()
    for _time in range(2):
        found = agenda.peek_waiting("default", mine.owner, clock.db_now(), 10)
        (job,) = claims.claim_waiting(mine, found, 0)
        claims.give_back(mine, [job])
        assert Job.objects.get().state == "waiting"


@pytest.mark.skipif(connection.vendor == "sqlite", reason="there, one transaction writes at a time")
def test_nothing_is_given_back_in_the_midst_of_a_deletion() -> None:
    """Then it would begin to wait behind the look at what waits."""
    task = secondly()
    make_due(task, ago=1)
    (job,) = claim_all(mine := terms(), slots=0)

    def give_back() -> None:
        transactions.bound_session("default")
        claims.give_back(mine, [job])
        connections["default"].close()

    def give_back_elsewhere(**kwargs: Any) -> None:
        thread = threading.Thread(target=give_back)
        thread.start()
        thread.join(30)

    # Receivers hear it in the order in which they were connected: this one behind linod's.
    pre_delete.connect(give_back_elsewhere, sender=BackgroundTask)
    try:
        task.delete()
    finally:
        pre_delete.disconnect(give_back_elsewhere, sender=BackgroundTask)
    assert job.is_held_up
    claims.give_back(mine, [job])
    check_dropped_with_its_task(job)


def test_what_is_dropped_twice_at_one_moment_is_noted_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    task, now = rerun(), clock.db_now()
    monkeypatch.setattr(clock, "source", lambda connection: now)
    for number in range(2):
        if number:
            Job.objects.create(
                task=task, procedure=task.procedure, due_at=now, trigger="retry", state="waiting",
                available_at=now,
            )  # fmt: skip
        with transaction.atomic():
            claims.drop_waiting("default", task.pk)
    cancelled = Decision.objects.filter(kind="cancelled").values_list("job", flat=True)
    assert sorted(cancelled) == sorted(Job.objects.values_list("pk", flat=True))


def test_nothing_that_waits_runs_when_its_task_is_disabled() -> None:
    task = rerun()
    task.refresh_from_db()
    task.disable("not now", user="anna")
    row = Job.objects.get()
    assert (row.state, row.available_at) == ("cancelled", None)
    line = Decision.objects.get(kind="cancelled")
    assert (line.job, line.who, line.reason) == (row.pk, "anna", "its task was disabled")
    task.enable()
    assert agenda.peek_waiting("default", uuid.uuid4(), clock.db_now(), 10) == []


def test_nor_when_somebody_ticks_that_box() -> None:
    task = rerun()
    task.refresh_from_db()
    task.disabled = True
    task.save()
    assert Job.objects.get().state == "cancelled"


def test_nor_when_a_failure_of_another_job_disables_it() -> None:
    task = rerun(disable_after=1)
    mine = terms()
    job = claims.claim_now(mine, task, None)
    claims.finish(mine, [replace(end_of(job, "failed"), job=replace(job, attempt=3))])
    task.refresh_from_db()
    assert task.disabled
    assert sorted(Job.objects.values_list("state", flat=True)) == ["cancelled", "failed"]


@pytest.mark.parametrize("end", ["failed", "lost"])
def test_what_ends_after_its_task_was_disabled_has_no_further_attempt(end: str) -> None:
    task = secondly(rerun_lost=True, max_attempts=3)
    make_due(task, ago=1)
    (job,) = claim_all(mine := terms())
    task.refresh_from_db()
    task.disable("not now")
    if end == "failed":
        claims.finish(mine, [end_of(job, end)])
    else:
        expire()
        claims.reclaim(terms(), clock.db_now())
    assert Job.objects.get().state == end


def test_nor_when_its_owner_read_it_again_behind_that() -> None:
    task = secondly(max_attempts=3)
    make_due(task, ago=1)
    claim_all(mine := terms())
    task.refresh_from_db()
    task.disable("not now")
    (job,) = leases.held(mine)
    claims.finish(mine, [end_of(job, "failed")])
    assert Job.objects.get().state == "failed"


def test_nor_a_further_attempt_that_its_owner_read_again() -> None:
    task = secondly(max_attempts=3)
    make_due(task, ago=1)
    (job,) = claim_all(mine := terms())
    claims.finish(mine, [end_of(job, "failed")])
    later = clock.db_now() + timedelta(days=1)
    claims.claim_waiting(mine, agenda.peek_waiting("default", mine.owner, later, 10), 0)
    task.refresh_from_db()
    task.disable("not now")
    (again,) = leases.held(mine)
    assert claims.gate(mine, [again], clock.db_now())
    claims.finish(mine, [end_of(again, "failed")])
    assert sorted(Job.objects.values_list("state", flat=True)) == ["failed", "failed"]


@pytest.mark.parametrize("end", ["failed", "lost"])
def test_a_request_s_further_attempt_runs_a_disabled_task_too(end: str) -> None:
    task = secondly(rerun_lost=True, max_attempts=3, disabled=True)
    task.request_run()
    (job,) = claim_all(mine := terms())
    claims.finish(mine, [end_of(job, "failed")])
    later = clock.db_now() + timedelta(days=1)
    waiting = agenda.peek_waiting("default", mine.owner, later, 10)
    (again,) = claims.claim_waiting(mine, waiting, 1)
    claims.finish(mine, [end_of(again, end)])
    (last,) = agenda.peek_waiting("default", mine.owner, later, 10)
    assert last.attempt == 3


def test_a_request_s_further_attempt_outlives_the_disabling() -> None:
    task = secondly(max_attempts=3)
    task.request_run()
    (job,) = claim_all(mine := terms())
    claims.finish(mine, [end_of(job, "failed")])
    task.refresh_from_db()
    task.disable("not now")
    assert Job.objects.waiting().get().attempt == 2


@pytest.mark.parametrize("end", ["failed", "lost"])
def test_a_request_runs_a_disabled_task_with_all_its_attempts(end: str) -> None:
    task = secondly(rerun_lost=True, max_attempts=3, disabled=True)
    task.request_run()
    (job,) = claim_all(mine := terms())
    claims.finish(mine, [end_of(job, end)])
    later = clock.db_now() + timedelta(days=1)
    (again,) = agenda.peek_waiting("default", mine.owner, later, 10)
    assert again.attempt == 2


def test_a_request_that_was_given_back_outlives_the_disabling() -> None:
    task = secondly()
    task.request_run()
    jobs = claim_all(mine := terms())
    claims.give_back(mine, jobs)
    task.disable("not by itself")
    assert Job.objects.get().state == "waiting"


def test_an_end_whose_log_was_stored_before_keeps_all_it_says() -> None:
    """The piece was committed, its answer was lost; then the body ended."""
    make_due(secondly(), ago=1)
    (job,) = claim_all(mine := terms())
    pieces.tend(mine, [(job, 0, "one\n", None)])
    assert claims.finish(mine, [end_of(job, log="one\ntwo\n", result=7)]) == []
    row = Job.objects.get()
    assert (row.state, row.result, row.error, row.message) == (
        "succeeded", 7, "", "one\ntwo\n",
    )  # fmt: skip


def test_nobody_reclaims_what_is_alive_or_its_own() -> None:
    make_due(secondly(), ago=1)
    claim_all(mine := terms())
    claims.reclaim(terms(), clock.db_now())
    assert Job.objects.get().state == "running"
    expire()
    claims.reclaim(mine, clock.db_now())
    assert Job.objects.get().state == "running"


def test_a_heartbeat_renews_all_my_leases_and_no_other() -> None:
    for name in "ab":
        make_due(secondly(name), ago=1)
    mine, other = terms(), terms()
    now = clock.db_now()
    first, second = agenda.peek("default", mine.owner, now, 10)
    claims.claim(mine, [first], 1, now)
    claims.claim(other, [second], 1, now)
    expire()
    assert leases.heartbeat(mine) == 1
    alive = Job.objects.filter(lease_until__gt=clock.db_now())
    assert [job.owner for job in alive] == [mine.owner]


def test_what_is_given_back_waits_for_whoever_has_a_slot() -> None:
    make_due(secondly(), ago=1)
    (job,) = claim_all(mine := terms(), slots=0)
    claims.give_back(mine, [job])
    assert claims.gate(mine, [job], clock.db_now()) == []
    other = terms()
    found = agenda.peek_waiting("default", other.owner, clock.db_now(), 10)
    (taken,) = claims.claim_waiting(other, found, 1)
    assert (taken.id, taken.attempt, taken.state) == (job.id, 1, "running")


def taken_again(mine: Terms, slots: int = 1, **values: Any) -> tuple[Claimed, Claimed]:
    """A job that its owner gave back and got once more: as that held it before, and as it does."""
    make_due(secondly(**values), ago=1)
    (before,) = claim_all(mine, slots=slots)
    claims.give_back(mine, [before])
    found = agenda.peek_waiting("default", mine.owner, clock.db_now(), 10)
    (held,) = claims.claim_waiting(mine, found, slots)
    assert (before.state, before.fence, held.fence) == (held.state, 1, 3)
    return before, held


def check_still_held(job: Claimed) -> None:
    row = Job.objects.get()
    assert (row.state, row.attempt, row.owner, row.fence, row.active_task) == (
        job.state, job.attempt, job.owner, job.fence, job.task_id,
    )  # fmt: skip
    assert leases.held(Terms("default", job.owner, 30.0)) == [job]


@pytest.mark.parametrize("slots", [0, 1])
@pytest.mark.parametrize("is_cancelled", [False, True])
def test_a_former_hold_is_not_given_back(slots: int, is_cancelled: bool) -> None:
    before, held = taken_again(mine := terms(), slots)
    if is_cancelled:
        # As if somebody had asked for it: a body that runs is to end by itself.
        Job.objects.update(cancel_requested_at=clock.db_now())
    claims.give_back(mine, [before])
    check_still_held(held)


def test_nobody_takes_what_others_had_since_it_was_seen_to_wait() -> None:
    make_due(secondly(), ago=1)
    claims.give_back(one := terms(), claim_all(one, slots=0))
    (seen,) = agenda.peek_waiting("default", one.owner, clock.db_now(), 10)
    claims.give_back(other := terms(), claims.claim_waiting(other, [seen], 0))
    assert claims.claim_waiting(one, [seen], 1) == []
    row = Job.objects.get()
    assert (row.state, row.owner, row.fence) == ("waiting", None, 4)


@pytest.mark.parametrize("end", ["succeeded", "failed", "lost"])
def test_what_came_of_a_former_hold_is_refused(end: str) -> None:
    """Lost, it would run once more beside itself."""
    before, held = taken_again(mine := terms(), rerun_lost=True, max_attempts=3)
    ended = end_of(before, end)
    assert claims.finish(mine, [ended]) == [ended]
    check_still_held(held)


def test_the_same_end_of_a_former_hold_is_not_taken_for_recorded() -> None:
    before, held = taken_again(mine := terms())
    ended = end_of(held)
    assert claims.finish(mine, [ended]) == []
    stale = replace(ended, job=before)
    assert claims.finish(mine, [stale]) == [stale]


def test_what_a_former_hold_said_is_dropped() -> None:
    before, held = taken_again(mine := terms())
    progress = {"done": 1, "total": 2, "text": ""}
    pieces.tend(mine, [(before, 0, "before\n", progress)])
    # Another may take it over between the look at the fence and this.
    with transactions.write_batch("default") as batch:
        pieces._show_progress(batch, mine, [(before, 0, "", progress)])
    row = Job.objects.get()
    assert (row.message, row.progress) == ("", None)
    pieces.tend(mine, [(held, 0, "held\n", progress)])
    row = Job.objects.get()
    assert (row.message, row.progress) == ("held\n", progress)


def test_who_looked_before_it_was_taken_over_takes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two see the same expired lease; the slower one comes when the job has a new fence."""
    for name, slots, attempts in (("claimed", 0, 1), ("running", 1, 1), ("again", 1, 3)):
        make_due(secondly(name, rerun_lost=True, max_attempts=attempts), ago=1)
        claim_all(terms(), slots=slots)
    expire()
    original = agenda.from_row

    def from_row(row: dict[str, Any], owner: uuid.UUID) -> Claimed:
        found = original(row, owner)
        Job.objects.filter(pk=found.id).update(fence=found.fence + 2)
        return found

    monkeypatch.setattr(agenda, "from_row", from_row)
    assert claims.reclaim(terms(), clock.db_now()) == []
    assert sorted(Job.objects.values_list("state", "fence")) == [
        ("claimed", 3), ("running", 3), ("running", 3),
    ]  # fmt: skip


def test_a_group_of_different_instants_is_one_group(monkeypatch: pytest.MonkeyPatch) -> None:
    """Moments compare as moments in the joined rows, so that no group falls apart needlessly."""
    for n, name in enumerate("abcd"):
        make_due(secondly(name, every=10 + n), ago=n + 1)
    monkeypatch.setattr(claims, "_settle_claim", lambda *args: pytest.fail("one by one"))
    mine = terms()
    jobs = claim_all(mine, slots=4)
    assert len(jobs) == 4
    monkeypatch.setattr(claims, "_is_recorded", lambda *args: pytest.fail("one by one"))
    ended = [replace(end_of(job), error=f"e{n}", result=n or None) for n, job in enumerate(jobs)]
    assert claims.finish(mine, ended) == []
    assert sorted(Job.objects.values_list("error", flat=True)) == ["e0", "e1", "e2", "e3"]


def test_logs_of_a_job_that_is_not_mine_are_dropped() -> None:
    make_due(secondly(), ago=1)
    (job,) = claim_all(mine := terms())
    pieces.tend(mine, [(job, 0, "first\n", {"done": 1, "total": 2, "text": ""})])
    Job.objects.update(owner=uuid.uuid4())
    pieces.tend(mine, [(job, 1, "second\n", None)])
    row = Job.objects.get()
    assert row.message == "first\n"
    assert row.progress == {"done": 1, "total": 2, "text": ""}


def test_a_piece_that_waited_for_the_database_is_stored_after_the_end() -> None:
    make_due(secondly(), ago=1)
    (job,) = claim_all(mine := terms())
    claims.finish(mine, [end_of(job, log="last\n", pieces=1)])
    pieces.tend(mine, [(job, 0, "first\n", {"done": 1, "total": 2, "text": ""})])
    row = Job.objects.get()
    assert row.message == "first\nlast\n"
    assert row.progress is None


def test_a_request_is_claimed_before_what_is_due_and_keeps_the_rule() -> None:
    due, asked = secondly("due"), secondly("asked", disabled=True)
    make_due(due, ago=5)
    asked.request_run()
    requested_at = asked.requested_at
    jobs = claim_all(terms(), slots=1)
    assert [(job.task_id, job.trigger) for job in jobs] == [
        (asked.pk, "request"), (due.pk, "schedule"),
    ]  # fmt: skip
    assert jobs[0].due_at == requested_at
    asked.refresh_from_db()
    assert asked.requested_at is None
    assert asked.disabled


def test_unknown_procedures_are_passed_by_and_stay() -> None:
    task = secondly()
    due_at = make_due(task, ago=1)
    BackgroundTask.objects.filter(pk=task.pk).update(procedure="of_a_newer_release")
    assert claim_all(terms()) == []
    assert agenda.agenda("default", uuid.uuid4()).next_run_at is None
    task = BackgroundTask.objects.get()
    assert task.next_run_at == due_at
    assert task.status == "Unknown procedure"


def test_run_after_waits_for_the_earlier_one() -> None:
    make_task(noop, "first", every_unit="secondly", every=10)
    from linod.procedures import declare

    def behind() -> None:
        """Come second."""

    procedure = declare(behind, "second", run_after="first")
    BackgroundTask.objects.create(procedure=procedure, every_unit="secondly", every=10)
    for task in BackgroundTask.objects.all():
        make_due(task, ago=1)
    (first,) = claim_all(mine := terms())
    assert first.procedure.name == "first"
    assert claim_all(mine) == []
    claims.finish(mine, [end_of(first)])
    (second,) = claim_all(mine)
    assert second.procedure.name == "second"


def test_the_agenda_is_one_query(django_assert_num_queries: Any) -> None:
    secondly()
    with django_assert_num_queries(1):
        found = agenda.agenda("default", uuid.uuid4())
    assert abs((found.now - clock.db_now()).total_seconds()) < 5
    assert found.next_run_at is not None


@pytest.mark.skipif(connection.vendor != "sqlite", reason="SQLite only")
def test_sqlite_transactions_lock_with_whatever_comes_first() -> None:
    with transactions.write("default") as writer:
        Job.objects.exists()
        other = writer.copy("other")
        other.settings_dict = {**other.settings_dict, "OPTIONS": {"timeout": 0}}
        with pytest.raises(OperationalError), other.cursor() as cursor:
            cursor.execute("UPDATE linod_backgroundtask SET message = 'x'")
        other.close()


def test_the_guard_holds_inside_the_bodys_transaction() -> None:
    make_due(secondly(), ago=1)
    (job,) = claim_all(terms())
    with transaction.atomic():
        assert leases.guard("default", job)
    Job.objects.update(fence=2)
    with transaction.atomic():
        assert not leases.guard("default", job)
