"""The ledger's answers: every "why did it not run at 20:00?" has one."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.db import connection
from django.test.utils import CaptureQueriesContext

from linod import agenda, answers, claims, evidence, forecast, ledger
from linod.answers import NoMoment
from linod.exceptions import UnknownProcedure
from linod.history import Daemon, Decision, Job
from linod.ledger import Answer
from linod.models import BackgroundTask
from linod.procedures import declare
from linod.records import Claimed, Finished, Terms
from linod.testing import clock, run_due_jobs, simulate
from tests.daemons import make_task, only_these_procedures

pytestmark = pytest.mark.django_db

#: Noon in Brussels, on a Sunday.
NOON = datetime(2026, 11, 22, 11, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _site() -> Iterator[None]:
    with only_these_procedures(), clock.freeze(NOON):
        BackgroundTask.objects.all().delete()
        a_daemon("2026-11-22 11:00", "2027-01-01 00:00")
        yield


def a_daemon(since: str, until: str, host: str = "web1") -> None:
    first, last = (clock.destination(NOON, None, moment) for moment in (since, until))
    Daemon.objects.create(
        owner=uuid.uuid4(), host=host, pid=7, version="1", started_at=first, last_seen_at=last,
        state="stopped",
    )  # fmt: skip


def noop() -> None:
    """Do nothing."""


def daily(body: Any = noop, name: str = "", **values: Any) -> BackgroundTask:
    """Each day at 20:00."""
    return make_task(body, name, **{"every_unit": "daily", "start_time": time(20), **values})


def edit(task: BackgroundTask, who: Any = None, **values: Any) -> None:
    """Change the row as somebody does who has just read it."""
    row = BackgroundTask.objects.get(pk=task.pk)
    for name, value in values.items():
        setattr(row, name, value)
    row.edited_by = who
    row.save()


def user(name: str) -> Any:
    return get_user_model().objects.create_user(name)


def why(task: BackgroundTask, at: str | None = None) -> list[Answer]:
    """The answers, read from the rows anew."""
    moment = None if at is None else clock.destination(NOON, None, at)
    return ledger.why(BackgroundTask.objects.get(pk=task.pk), moment)


def said(task: BackgroundTask, at: str) -> str:
    """The one answer about a moment."""
    answer, _coming = why(task, at)
    assert answer.due_at == clock.destination(NOON, None, at)
    return str(answer)


# What ran


def test_what_ran_newest_first_and_what_comes_next() -> None:
    task = daily()
    simulate("3 days")
    *past, coming = why(task)
    assert [answer.due_at.day for answer in past if answer.due_at] == [24, 23, 22]
    assert [answer.headline for answer in past] == ["succeeded after 0.0 s"] * 3
    assert [answer.detail for answer in past] == [""] * 3
    assert [answer.job for answer in past] == list(Job.objects.order_by("-due_at"))
    assert coming == Answer(datetime(2026, 11, 25, 19, tzinfo=UTC), "runs")


def test_the_last_instants_are_told_and_no_more() -> None:
    task = make_task(noop, every_unit="minutely")
    simulate("1 hour")
    assert len(why(task)) == 21
    with CaptureQueriesContext(connection) as few:
        assert len(ledger.why(task, limit=3)) == 4
    with CaptureQueriesContext(connection) as many:
        assert len(ledger.why(task, limit=40)) == 41
    assert len(many) == len(few) < 20


def test_where_there_is_too_much_the_newest_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence, "MOST", 5)
    task = make_task(noop, every_unit="minutely")
    simulate("1 hour")
    *past, _coming = why(task)
    assert [answer.job for answer in past] == list(Job.objects.order_by("-due_at")[:5])
    assert {answer.headline for answer in past} == {"succeeded after 0.0 s"}


def test_a_moment_long_ago_and_what_there_is_now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence, "MOST", 5)
    task = make_task(noop, every_unit="minutely")
    task.disable("moving house", user="anna")
    clock.move("2 minutes")
    task.enable("ben")
    simulate("1 hour")
    task.disable("moving back", user="anna")
    task.enable("ben")
    Job.objects.filter(pk=Job.objects.latest("due_at").pk).update(
        state="running", active_task=task.pk, end_time=None
    )
    (disabled,) = why(task, "2026-11-22 12:01")[:-1]
    assert disabled.headline == "the task was disabled by anna: moving house"
    assert disabled.detail.endswith("enabled by ben at 2026-11-22 12:02:00")
    answer, coming = why(task, "2026-11-22 12:05")
    assert answer.headline == "succeeded after 0.0 s"
    assert coming.detail.startswith("still running: the job of 2026-11-22 13:02:00, since")


def test_a_failure_says_its_last_line_and_disables() -> None:
    def fail() -> None:
        raise ValueError("no such account")

    task = daily(fail)
    simulate("2 days")
    second, first, coming = why(task)
    assert first.headline == "failed after 0.0 s: ValueError: no such account"
    assert first.detail == "the task was disabled by that"
    assert first.decision == Decision.objects.get(kind="disabled")
    assert str(second) == (
        "the task was disabled: after a failure: ValueError: no such account"
        " (since 2026-11-22 20:00:00)"
    )
    assert str(coming) == (
        "nothing: the task is disabled: ValueError: no such account (since 2026-11-22 20:00:00)"
    )


def test_attempts_are_told_one_after_another() -> None:
    def fail() -> None:
        raise ValueError("not yet")

    task = daily(fail, max_attempts=2, retry_delay=3600.0)
    simulate(until="2026-11-22 20:10")
    answer, coming = why(task)
    assert answer.headline.startswith("attempt 2 waits until 2026-11-22 2")
    assert "attempt 1 failed after 0.0 s: ValueError: not yet" in answer.detail
    assert coming.headline == answer.headline
    simulate("2 hours")
    answer, _coming = why(task)
    assert answer.headline.startswith("failed after")


def test_the_next_instant_comes_before_an_attempt_that_waits_longer() -> None:
    def fail() -> None:
        raise ValueError("not yet")

    task = daily(fail, max_attempts=2)
    simulate(until="2026-11-22 20:00:10")
    waiting = Job.objects.filter(state="waiting")
    waiting.update(available_at=NOON + timedelta(days=1, hours=9))
    assert why(task)[-1] == Answer(datetime(2026, 11, 23, 19, tzinfo=UTC), "runs")
    waiting.update(available_at=NOON + timedelta(days=1, hours=7))
    assert why(task)[-1].headline == "attempt 2 waits until 2026-11-23 19:00:00"


def test_a_request_tells_who_asked() -> None:
    task = daily()
    task.request_run(user("robin"))
    pending, coming = why(task)
    assert str(pending) == "is about to begin (requested by robin)"
    assert coming.headline == "runs as soon as possible: requested by robin"
    run_due_jobs()
    answer, _coming = why(task)
    assert str(answer) == "succeeded after 0.0 s (requested by robin)"


def test_a_request_that_waits() -> None:
    Daemon.objects.all().delete()
    task = daily()
    task.request_run(user("robin"))
    clock.move("1 hour")
    expected = "has not begun yet (requested by robin; no daemon has run yet)"
    assert str(why(task)[0]) == str(why(task, "2026-11-22 12:00")[0]) == expected


def test_a_request_that_was_taken_back() -> None:
    task = daily()
    task.request_run()
    clock.move("1 minute")
    task.cancel_request(user("robin"))
    answer, _coming = why(task)
    assert str(answer) == "requested, and taken back by robin at 2026-11-22 12:01:00"


# What did not run


def test_disabled_by_whom_and_why_and_until_when() -> None:
    task = daily()
    task.disable("moving house", user=user("anna"))
    simulate("2 days")
    task.enable(user("ben"))
    expected = (
        "the task was disabled by anna: moving house"
        " (since 2026-11-22 12:00:00; enabled by ben at 2026-11-24 12:00:00)"
    )
    assert said(task, "2026-11-22 20:00") == said(task, "2026-11-23 20:00") == expected
    assert why(task)[-1].due_at == datetime(2026, 11, 24, 19, tzinfo=UTC)


def test_paused_until() -> None:
    task = daily()
    task.disable("on holiday", until=NOON + timedelta(days=3), user=user("anna"))
    pause = "the task is disabled by anna until 2026-11-25 12:00:00: on holiday"
    assert why(task)[-1] == Answer(
        NOON + timedelta(days=3, hours=8), "runs", pause, decision=Decision.objects.get()
    )
    simulate("1 day")
    assert said(task, "2026-11-22 20:00") == (
        "the task was disabled by anna: on holiday"
        " (since 2026-11-22 12:00:00; until 2026-11-25 12:00:00)"
    )
    simulate("3 days")
    assert said(task, "2026-11-22 20:00").endswith(
        "enabled at 2026-11-25 12:00:00: its pause was over)"
    )
    assert said(task, "2026-11-25 20:00") == "succeeded after 0.0 s"


def test_after_a_pause_that_ends_with_an_instant_the_next_one_comes() -> None:
    task = daily()
    until = NOON + timedelta(days=1, hours=8)
    task.disable("on holiday", until=until)
    coming = why(task)[-1]
    assert coming.due_at == until + timedelta(days=1)
    foretold = forecast.runs(task, NOON, until + timedelta(days=1))
    assert [run.moment for run in foretold] == [coming.due_at]
    simulate("3 days")
    assert Job.objects.earliest("due_at").due_at == coming.due_at


def test_a_pause_that_no_daemon_has_ended() -> None:
    Daemon.objects.all().delete()
    a_daemon("2026-11-22 11:00", "2026-11-22 12:00")
    task = daily()
    task.disable("on holiday", until=NOON + timedelta(hours=2))
    clock.move("1 day")
    gone = "no daemon has run since 2026-11-22 12:00:00 (web1:7)"
    assert [str(each) for each in why(task)] == [
        "the task was disabled: on holiday"
        f" (since 2026-11-22 12:00:00; until 2026-11-22 14:00:00; {gone})",
        f"runs (the task is disabled until 2026-11-22 14:00:00: on holiday; {gone})",
    ]


def test_after_a_pause_that_outlasts_the_rule_nothing_comes() -> None:
    task = daily(end_date=NOON.date())
    task.disable("on holiday", until=NOON + timedelta(days=3), user=user("anna"))
    assert str(why(task)[-1]) == (
        "nothing (its rule names no instant after 2026-11-22 20:00:00;"
        " the task is disabled by anna until 2026-11-25 12:00:00: on holiday)"
    )


def test_who_disabled_it_anew_is_told() -> None:
    task = daily()
    task.disable("moving house", user=user("anna"))
    clock.move("1 hour")
    task.disable("for good", user=user("ben"))
    clock.move("1 day")
    assert said(task, "2026-11-22 20:00") == (
        "the task was disabled by ben: for good (since 2026-11-22 13:00:00)"
    )


def test_who_enabled_it_did_not_disable_it() -> None:
    task = daily()
    task.disable("moving house", user=user("anna"))
    task.enable(user("ben"))
    BackgroundTask.objects.update(disabled=True, disabled_reason="", next_run_at=None)
    assert why(task)[-1] == Answer(None, "nothing: the task is disabled")


def test_disabled_in_the_form() -> None:
    task = daily()
    task.edited_by = user("anna")
    task.disabled, task.disabled_reason = True, "not needed"
    task.save()
    clock.move("1 day")
    assert said(task, "2026-11-22 20:00").startswith("the task was disabled by anna: not needed")


def test_a_row_that_was_made_disabled() -> None:
    task = daily(disabled=True, disabled_reason="Declared wrongly: every: 0")
    clock.move("1 day")
    assert said(task, "2026-11-22 20:00") == "the task was disabled: Declared wrongly: every: 0"
    task.enable()
    clock.move("1 day")
    assert said(task, "2026-11-22 20:00").startswith("the task was disabled (enabled at")


def test_still_running_which_job_since_when_and_where() -> None:
    def slow() -> None:
        clock.move("25 hours")

    task = daily(slow, missed="skip")
    simulate(until="2026-11-23 22:00")
    answer = said(task, "2026-11-23 20:00")
    assert answer.startswith(
        "skipped: it could not begin in time (1 skipped: missed instants are not made"
    )
    assert (
        "the job of 2026-11-22 20:00:00 was still running, until 2026-11-23 21:00:00, on test"
        in answer
    )


def test_still_running_right_now() -> None:
    task = daily()
    job = claimed(task)
    Job.objects.filter(pk=job.pk).update(state="running", start_time=job.claimed_at)
    clock.move(to="2026-11-23 20:10")
    second, first, coming = why(task)
    text = "still running: the job of 2026-11-22 20:00:00, since 2026-11-22 20:00:00, on web2"
    assert str(second) == f"has not begun yet ({text})"
    assert second.job == job
    assert first.headline == "running since 2026-11-22 20:00:00 on web2"
    assert str(coming) == f"is due ({text})"


def claim(slots: int, lease: float = 86400.0) -> tuple[Terms, list[Claimed]]:
    """What a daemon of its own claims now: ``slots`` jobs running, the others claimed."""
    terms = Terms("default", uuid.uuid4(), lease, "web2")
    now = clock.active().now  # type: ignore[union-attr]
    return terms, claims.claim(terms, agenda.peek("default", terms.owner, now, 10), slots, now)


def finish(terms: Terms, job: Claimed) -> None:
    """The job ends now."""
    now = clock.active().now  # type: ignore[union-attr]
    assert job.start_time
    claims.finish(terms, [Finished(job, "succeeded", job.start_time, now)])


def claimed(task: BackgroundTask) -> Job:
    """The job of 20:00, claimed by a daemon of its own."""
    clock.move(to="2026-11-22 20:00")
    claim(slots=0, lease=30.0)
    return Job.objects.get(task=task)


def test_an_attempt_that_was_lost_is_told_when_the_next_one_succeeded() -> None:
    task = daily(rerun_lost=True, max_attempts=2)
    lost = claimed(task)
    Job.objects.filter(pk=lost.pk).update(state="running", start_time=lost.claimed_at)
    clock.move("1 minute")
    run_due_jobs()
    run_due_jobs()
    answer = said(task, "2026-11-22 20:00")
    assert answer.startswith("succeeded after")
    assert "lost before: its daemon was silent for a lease while the job ran; attempt 1" in answer


def test_an_attempt_that_waited_when_its_task_was_disabled() -> None:
    def fail() -> None:
        raise ValueError

    task = daily(fail, max_attempts=2)
    clock.move(to="2026-11-22 20:00")
    run_due_jobs()
    BackgroundTask.objects.get(pk=task.pk).disable("broken", user="anna")
    assert said(task, "2026-11-22 20:00").startswith(
        "cancelled by anna before it began: its task was disabled"
    )


def test_claimed_cancelled_and_given_back() -> None:
    task = daily()
    job = claimed(task)
    assert said(task, "2026-11-22 20:00").startswith("taken at 2026-11-22 20:00:00 on web2, about")
    assert why(task)[-1].detail == "the job of 2026-11-22 20:00:00 is about to begin, on web2"
    job.cancel(user("anna"))
    assert said(task, "2026-11-22 20:00") == "cancelled by anna before it began"


def test_running_and_asked_to_stop() -> None:
    task = daily()
    clock.move(to="2026-11-22 20:00")
    terms, (job,) = claim(slots=1)
    clock.move("10 minutes")
    Job.objects.get().cancel(user("anna"))
    asked = "asked to stop by anna at 2026-11-22 20:10:00"
    assert said(task, "2026-11-22 20:00") == f"running since 2026-11-22 20:00:00 on web2 ({asked})"
    finish(terms, job)
    assert said(task, "2026-11-22 20:00") == f"succeeded after 10 min ({asked})"


def test_a_short_run_in_between_is_no_reason_for_days() -> None:
    task = daily()
    clock.move(to="2026-11-22 23:00")
    task.request_run()
    terms, (job,) = claim(slots=1)
    finish(terms, job)
    clock.move(to="2026-11-23 12:00")
    run_due_jobs()
    text = "succeeded after 0.0 s (it began 16 h late)"
    assert said(task, "2026-11-22 20:00") == str(why(task)[1]) == text


def test_of_a_backlog_each_run_is_no_reason_for_the_next() -> None:
    task = make_task(noop, every_unit="minutely", missed="all", start_time=time(12))
    clock.move("10 minutes")
    simulate("1 second")
    assert said(task, "2026-11-22 12:04") == "succeeded after 0.0 s (it began 6 min late)"


def test_a_request_that_came_later_and_went_first() -> None:
    task = daily()
    clock.move(to="2026-11-22 20:02")
    task.request_run()
    terms, (job,) = claim(slots=1)
    clock.move("1 hour")
    finish(terms, job)
    run_due_jobs()
    text = (
        "succeeded after 0.0 s (it began 1 h 2 min late: the job of 2026-11-22 20:02:00"
        " ran first, from 2026-11-22 20:02:00 until 2026-11-22 21:02:00, on web2)"
    )
    assert said(task, "2026-11-22 20:00") == str(why(task)[1]) == text


def test_coalesced_and_into_which_job() -> None:
    Daemon.objects.all().delete()
    a_daemon("2026-11-21 10:00", "2026-11-22 19:00")
    a_daemon("2026-11-25 09:00", "2026-11-30 09:00", "web2")
    task = daily()
    clock.move(to="2026-11-25 09:00")
    (job,) = run_due_jobs()
    third, second, first, _coming = why(task)
    assert (third.job, second.job, first.job) == (job, job, job)
    gap = "no daemon ran from 2026-11-22 19:00:00 (web1:7) until 2026-11-25 09:00:00 (web2:7)"
    assert third.detail == f"it began 13 h late: {gap}; it stands for 2 missed instants as well"
    assert str(second) == str(first)
    assert str(first) == (
        f"made up by the job of 2026-11-24 20:00:00: one run for 3 instants ({gap})"
    )


def test_what_will_become_of_all_that_waits() -> None:
    Daemon.objects.all().delete()
    task = daily()
    clock.move(to="2026-11-24 20:00:30")
    told = "no daemon has run yet; one run will stand for the 3 instants that wait"
    *past, coming = why(task)
    assert [str(answer) for answer in past] == [f"has not begun yet ({told})"] * 3
    assert (coming.due_at, str(coming)) == (past[0].due_at, f"is due ({told})")
    BackgroundTask.objects.update(missed="skip")
    third, second, first, coming = why(task)
    assert str(third) == "has not begun yet (no daemon has run yet)"
    left_out = "is going to be skipped: it could not begin in time (no daemon has run yet)"
    assert str(first) == str(second) == left_out
    assert coming.due_at == third.due_at


def test_what_will_be_skipped_and_what_comes_after_it() -> None:
    Daemon.objects.all().delete()
    task = daily(missed_within=600, max_events=3)
    clock.move(to="2026-11-23 21:00")
    *_past, coming = why(task)
    about = "2 instants that wait are going to be skipped; no daemon has run yet"
    assert (coming.due_at, str(coming)) == (
        datetime(2026, 11, 24, 19, tzinfo=UTC), f"runs ({about})",
    )  # fmt: skip
    clock.move("1 day")
    assert str(why(task)[-1]) == (
        "nothing (its rule names no instant after 2026-11-24 20:00:00;"
        " 3 instants that wait are going to be skipped)"
    )


def test_coalesced_and_what_became_of_that_run() -> None:
    def fail() -> None:
        raise ValueError("not yet")

    task = daily(fail, max_attempts=2)
    clock.move(to="2026-11-23 21:00")
    run_due_jobs()
    made_up = "made up by the job of 2026-11-23 20:00:00: one run for 2 instants"
    told = said(task, "2026-11-22 20:00")
    assert told.startswith(f"{made_up} (what became of that: attempt 2 waits until 2026-11-23 21:0")
    assert "it stands for 1 missed instant as well" in said(task, "2026-11-23 20:00")
    simulate("1 hour")
    assert said(task, "2026-11-22 20:00") == (
        f"{made_up} (what became of that: failed after 0.0 s: ValueError: not yet)"
    )


def test_skipped_with_its_policy() -> None:
    task = daily(missed="once", missed_within=600)
    clock.move(to="2026-11-23 09:00")
    run_due_jobs()
    skipped = "skipped: it could not begin in time"
    assert said(task, "2026-11-22 20:00") == (
        f"{skipped} (1 skipped: due longer ago than missed_within allows)"
    )
    BackgroundTask.objects.update(missed="skip")
    clock.move(to="2026-11-24 09:00")
    run_due_jobs()
    assert said(task, "2026-11-23 20:00") == (
        f"{skipped} (1 skipped: missed instants are not made up)"
    )


def test_no_daemon_alive() -> None:
    Daemon.objects.all().delete()
    task = daily()
    clock.move(to="2026-11-22 20:05")
    assert said(task, "2026-11-22 20:00") == "has not begun yet (no daemon has run yet)"
    a_daemon("2026-11-22 19:00", "2026-11-22 19:59:30")
    assert said(task, "2026-11-22 20:00") == (
        "has not begun yet (no daemon has run since 2026-11-22 19:59:30 (web1:7))"
    )
    assert str(why(task)[-1]) == ("is due (no daemon has run since 2026-11-22 19:59:30 (web1:7))")
    Daemon.objects.update(state="running", last_seen_at="2026-11-22T18:59:45Z")
    clock.move(to="2026-11-22 20:00:00")
    assert (
        said(task, "2026-11-22 20:00") == "is about to begin"
    )  # its last sign of life is 15 s old


def test_a_daemon_is_there_and_does_not_begin_it() -> None:
    task = daily()
    others = [daily(name=name, start_time=time(19)) for name in ("first", "second")]
    clock.move(to="2026-11-22 20:00:30")
    claim(slots=3)
    Job.objects.filter(task=task).delete()
    BackgroundTask.objects.filter(pk=task.pk).update(next_run_at=NOON + timedelta(hours=8))
    assert said(task, "2026-11-22 20:00") == "is about to begin"
    clock.move("5 minutes")
    told = "a daemon is there (web1:7), 2 jobs are running: maybe no place is free"
    assert [str(each) for each in why(task)] == [f"has not begun yet ({told})", f"is due ({told})"]
    Job.objects.filter(task=others[0].pk).delete()
    assert "(web1:7), 1 job is running" in said(task, "2026-11-22 20:00")
    Job.objects.all().delete()
    assert why(task)[-1].detail == ("a daemon is there (web1:7) and does not begin it: see its log")


def test_daemons_that_could_not_stay_do_not_hide_the_one_that_lives() -> None:
    Daemon.objects.all().delete()
    first = datetime(2026, 11, 22, 19, tzinfo=UTC)
    Daemon.objects.bulk_create(
        Daemon(
            owner=uuid.uuid4(), host="web1", pid=n, version="1", state="running",
            started_at=first + timedelta(seconds=5 * n),
            last_seen_at=first + timedelta(seconds=5 * n + 4),
        )
        for n in range(600)
    )  # fmt: skip
    a_daemon("2026-11-23 20:00", "2026-11-24 00:00", "web2")
    task = daily()
    clock.move(to="2026-11-23 20:00:30")
    assert [answer.headline for answer in why(task)] == [
        "is about to begin", "is about to begin", "is due",
    ]  # fmt: skip


def test_nothing_is_said_of_daemons_that_were_too_many_to_be_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(evidence, "MOST", 2)
    Daemon.objects.all().delete()
    for day in (22, 23, 24, 25):
        a_daemon(f"2026-11-{day} 12:00", f"2026-11-{day} 18:00", f"web{day}")
    task = daily()
    clock.move(to="2026-11-25 18:00")
    (job,) = run_due_jobs()
    third, second, first, _coming = why(task)
    text = f"made up by the job of 2026-11-24 20:00:00: one run for {job.missed + 1} instants"
    assert (str(first), str(second)) == (text, text)
    assert third.detail.startswith(
        "it began 22 h late: no daemon ran from 2026-11-24 18:00:00 (web24:7)"
        " until 2026-11-25 12:00:00 (web25:7)"
    )


def test_an_unknown_procedure() -> None:
    task = daily()
    clock.move(to="2026-11-22 21:00")
    run_due_jobs()
    BackgroundTask.objects.filter(pk=task.pk).update(procedure="of_a_newer_release")
    clock.move("1 day")
    expected = "the procedure of_a_newer_release is unknown here"
    assert said(task, "2026-11-22 20:00") == "succeeded after 0.0 s (it began 1 h late)"
    assert said(task, "2026-11-23 20:00") == f"has not begun yet ({expected})"
    assert why(task)[-1].detail == expected


def after(first: str, name: str) -> BackgroundTask:
    """Each day at 20:00, behind another procedure."""
    procedure = declare(lambda: None, name, run_after=first)
    return BackgroundTask.objects.create(
        procedure=procedure, every_unit="daily", start_time=time(20)
    )


def test_waiting_for_the_one_that_goes_before() -> None:
    first, second = daily(name="first"), after("first", "second")
    third = after("second", "third")
    clock.move(to="2026-11-22 20:00:00.300")
    terms, (job,) = claim(slots=1)
    clock.move(to="2026-11-22 20:10")
    run_due_jobs()
    since = "first goes before it, running since 2026-11-22 20:00:00, on web2"
    assert said(second, "2026-11-22 20:00") == f"has not begun yet ({since})"
    assert why(second)[-1].detail == since
    assert said(third, "2026-11-22 20:00") == (
        "has not begun yet (second goes before it and is due as well)"
    )
    finish(terms, job)
    assert {job.task for job in run_due_jobs()} == {second, third}
    assert said(second, "2026-11-22 20:00") == (
        "succeeded after 0.0 s (it began 10 min late:"
        " first goes before it and ran until 2026-11-22 20:10:00, on web2)"
    )
    assert said(first, "2026-11-22 20:00") == "succeeded after 9 min 59 s"


def test_what_is_not_due_yet_waits_for_nobody() -> None:
    daily(name="first", start_time=time(19))
    second = after("first", "second")
    clock.move(to="2026-11-22 19:00")
    claim(slots=1)
    assert str(why(second)[-1]) == "runs"


def test_a_request_that_was_there_first() -> None:
    task = daily()
    clock.move(to="2026-11-22 19:59:59")
    task.request_run(user("robin"))
    clock.move("1 second")
    terms, (job,) = claim(slots=1)
    clock.move("1 hour")
    finish(terms, job)
    run_due_jobs()
    assert said(task, "2026-11-22 20:00") == (
        "succeeded after 0.0 s (it began 1 h late: the job of 2026-11-22 19:59:59 ran first,"
        " from 2026-11-22 20:00:00 until 2026-11-22 21:00:00, on web2)"
    )


def test_lost_with_its_daemon_and_taken_over() -> None:
    task = daily()
    lost = claimed(task)
    Job.objects.filter(pk=lost.pk).update(state="running", start_time=lost.claimed_at)
    clock.move("1 minute")
    run_due_jobs()
    assert said(task, "2026-11-22 20:00") == (
        "lost on web2: its daemon was silent for a lease while the job ran"
    )
    other = daily(name="other")
    BackgroundTask.objects.filter(pk=other.pk).update(next_run_at=NOON + timedelta(hours=8))
    claimed(other)
    clock.move("1 minute")
    run_due_jobs()
    assert "another daemon took it over: its daemon was silent" in said(other, "2026-11-22 20:00")


def test_a_rule_that_cannot_be_used() -> None:
    task = daily()
    BackgroundTask.objects.filter(pk=task.pk).update(every=0)
    clock.move(to="2026-11-22 20:00")
    run_due_jobs()
    clock.move("1 hour")
    answer = said(task, "2026-11-22 20:00")
    assert answer.startswith("it could not run, and the task was disabled: every: give a whole")


def test_a_rule_that_cannot_be_used_says_so_wherever_it_is_asked_for() -> None:
    task = daily(name="summary")
    BackgroundTask.objects.update(every=0)
    fault = "every: give a whole number from 1 on"
    head, coming = answers.answers("default", "summary", None).splitlines()
    assert head == f"{task}: its rule cannot be used: {fault} (Europe/Brussels)"
    assert coming == f"next: 2026-11-22 20:00:00  cannot run: {fault}"
    assert str(why(task, "2026-11-22 11:00")[0]) == (
        f"nothing was due (its rule cannot be used: {fault})"
    )


# Changed rules, changed clocks


def test_edited_by_whom_before_and_after_the_instant() -> None:
    task = daily()
    edit(task, user("anna"), start_time=time(21))
    clock.move(to="2026-11-22 22:00")
    early = "the rule was changed by anna before, at 2026-11-22 12:00:00: Start time"
    assert said(task, "2026-11-22 20:00") == early
    run_due_jobs()
    assert said(task, "2026-11-22 20:00") == early
    ran = "succeeded after 0.0 s (it began 1 h late)"
    assert said(task, "2026-11-22 21:00") == ran
    clock.move("1 day")
    edit(task, start_time=time(23))
    late = "it waited when the rule was changed at 2026-11-23 22:00:00: Start time"
    assert said(task, "2026-11-23 21:00") == late
    edits = [answer for answer in why(task) if answer.due_at is None]
    assert [str(edit) for edit in edits] == [
        "the rule was changed: Start time", "the rule was changed by anna: Start time",
    ]  # fmt: skip
    answers = why(task, "2026-11-22 19:00")
    assert "what it named before is known only where it left a trace" in str(answers)
    simulate("2 days")
    assert [(f"{each.due_at:%d %H}", str(each)) for each in why(task)[:-1] if each.due_at] == [
        ("24 22", "succeeded after 0.0 s"), ("23 22", "succeeded after 0.0 s"), ("23 20", late),
        ("22 20", ran), ("22 19", early),
    ]  # fmt: skip


def test_what_an_edit_let_go_of_is_not_made_up_by_a_later_job() -> None:
    task = daily()
    simulate("1 day")
    edit(task, "anna", every_unit="weekly")
    clock.move("8 days")
    (job,) = run_due_jobs()
    assert job.missed == 0
    assert said(task, "2026-11-23 20:00") == (
        "the rule was changed by anna before, at 2026-11-23 12:00:00: Recurrence"
    )


def test_what_the_new_rule_names_as_well_was_let_go_of_by_nobody() -> None:
    task = daily()
    edit(task, user("anna"), every_unit="hourly", start_time=time(8))
    clock.move(to="2026-11-22 20:00:00")
    assert "one run will stand for the 8 instants that wait" in said(task, "2026-11-22 20:00")
    clock.move("1 hour")
    run_due_jobs()
    assert said(task, "2026-11-22 20:00").startswith("made up by the job of 2026-11-22 21:00:00")
    edit(task, user("ben"), every_unit="daily", start_time=time(19))
    assert said(task, "2026-11-22 20:00") == (
        "the rule was changed by anna before, at 2026-11-22 12:00:00: Recurrence, Start time"
    )


def test_edited_while_it_was_disabled_and_enabled_before_the_instant() -> None:
    task = daily()
    task.disable("moving house")
    edit(task, "anna", start_time=time(21))
    task.enable()
    clock.move(to="2026-11-22 20:30")
    before = "the rule was changed by anna before, at 2026-11-22 12:00:00: Start time"
    assert said(task, "2026-11-22 20:00") == before
    edit(task, "ben", start_time=time(22))
    assert said(task, "2026-11-22 20:00") == (
        "nothing is kept of it (the rule was changed by ben at 2026-11-22 20:30:00 (Start time);"
        " what it named before is known only where it left a trace)"
    )


def test_several_edits_one_after_another() -> None:
    task = daily()
    for who, hour in (("anna", 21), ("ben", 22), ("carl", 20)):
        clock.move("1 minute")
        edit(task, who, start_time=time(hour))
    simulate("1 day")
    assert [(each.due_at and each.due_at.hour, str(each)) for each in why(task)[:-1]] == [
        (21, "the rule was changed by carl before, at 2026-11-22 12:03:00: Start time"),
        (20, "the rule was changed by ben before, at 2026-11-22 12:02:00: Start time"),
        (19, "succeeded after 0.0 s"),
        (None, "the rule was changed by carl: Start time"),
        (None, "the rule was changed by ben: Start time"),
        (None, "the rule was changed by anna: Start time"),
    ]


def test_it_waited_when_a_form_disabled_it() -> None:
    task = daily()
    clock.move(to="2026-11-22 20:30")
    edit(task, user("anna"), disabled=True, disabled_reason="not needed")
    assert said(task, "2026-11-22 20:00") == (
        "it waited when the task was disabled by anna at 2026-11-22 20:30:00: not needed"
    )


def test_it_waited_once_more_after_it_had_been_dropped() -> None:
    task = daily()
    edit(task, "anna", disabled=True)
    edit(task, "anna", disabled=False)
    edit(task, "ben", start_time=time(22))
    edit(task, "ben", start_time=time(20))
    clock.move(to="2026-11-22 20:30")
    edit(task, "carl", start_time=time(19))
    assert said(task, "2026-11-22 20:00") == (
        "it waited when the rule was changed by carl at 2026-11-22 20:30:00: Start time"
    )


def test_it_waited_when_a_request_failed() -> None:
    faults: list[str] = []

    def body() -> None:
        if faults:
            raise ValueError(faults)

    task = daily(body)
    simulate("1 day")
    faults.append("full")
    clock.move(to="2026-11-23 20:30")
    task.request_run()
    run_due_jobs()
    assert said(task, "2026-11-23 20:00") == (
        "it waited when the task was disabled at 2026-11-23 20:30:00:"
        " after a failure: ValueError: ['full']"
    )


def test_a_failure_lets_go_of_nothing_that_had_its_time() -> None:
    faults: list[str] = []

    def body() -> None:
        if faults:
            raise ValueError(faults)

    task = daily(body)
    simulate("2 days")
    faults.append("full")
    simulate("1 day")
    Job.objects.filter(due_at=NOON + timedelta(days=1, hours=8)).delete()
    assert said(task, "2026-11-23 20:00").startswith("nothing is kept of it")


def test_no_clock_change_moved_what_a_former_rule_named() -> None:
    task = daily()
    simulate("1 day")
    task.disable("moving house", user=user("anna"))
    simulate("1 day")
    edit(task, "ben", start_time=time(22))
    task.enable()
    simulate("1 day")
    assert said(task, "2026-11-22 20:00") == "succeeded after 0.0 s"
    assert said(task, "2026-11-23 20:00") == (
        "the task was disabled by anna: moving house"
        " (since 2026-11-23 12:00:00; enabled at 2026-11-24 12:00:00)"
    )
    assert said(task, "2026-11-24 22:00") == "succeeded after 0.0 s"


def test_a_clock_change_is_not_told_of_a_time_that_another_rule_named() -> None:
    Daemon.objects.update(last_seen_at="2028-01-01T00:00Z")
    task = daily(start_time=time(3, 30))
    clock.move(to="2027-03-27 12:00")
    run_due_jobs()
    simulate("1 day")
    edit(task, start_time=time(2, 30))
    assert said(task, "2027-03-28 03:30") == "succeeded after 0.0 s"


def test_it_waited_when_it_was_enabled_anew() -> None:
    task = daily()
    clock.move(to="2026-11-22 20:30")
    task.enable(user("anna"))
    assert said(task, "2026-11-22 20:00") == (
        "it waited when the task was enabled anew by anna at 2026-11-22 20:30:00"
    )


def test_it_waited_when_it_was_disabled() -> None:
    task = daily()
    clock.move(to="2026-11-22 20:30")
    task.disable("not today", user=user("anna"))
    clock.move("1 hour")
    assert said(task, "2026-11-22 20:00") == (
        "it waited when the task was disabled by anna at 2026-11-22 20:30:00: not today"
    )


def test_moved_by_the_clocks_in_spring() -> None:
    Daemon.objects.update(last_seen_at="2028-01-01T00:00Z")
    task = daily(start_time=time(2, 30))
    clock.move(to="2027-03-27 12:00")
    run_due_jobs()
    simulate("1 day")
    answer, _coming = why(task, "2027-03-28 03:30")
    moved = "moved by a clock change: the clocks leave out 02:30:00"
    assert str(answer) == f"succeeded after 0.0 s ({moved})"
    # 02:30 does not exist; before the change it would have been the same moment.
    assert str(why(task, "2027-03-28 02:30")[0]) == str(answer)


def test_once_only_when_the_clocks_show_it_twice() -> None:
    Daemon.objects.update(last_seen_at="2028-01-01T00:00Z")
    task = daily(start_time=time(2, 30))
    clock.move(to="2027-10-30 12:00")
    run_due_jobs()
    simulate("1 day")
    twice = "a clock change shows this time twice: the first one counts"
    assert said(task, "2027-10-31T02:30+02:00") == f"succeeded after 0.0 s ({twice})"
    answers = why(task, "2027-10-31T02:30+01:00")
    assert answers[0].headline == "nothing was due"
    assert answers[0].detail.startswith(twice)


def test_twice_by_a_rule_of_elapsed_time() -> None:
    Daemon.objects.update(last_seen_at="2028-01-01T00:00Z")
    task = make_task(noop, every_unit="minutely", every=30, start_time=time(12))
    clock.move(to="2027-10-31 00:00")
    run_due_jobs()
    simulate("5 hours")
    twice = "the clocks show this time twice: this is the %s"
    assert said(task, "2027-10-31T02:30+02:00") == f"succeeded after 0.0 s ({twice % 'first'})"
    assert said(task, "2027-10-31T02:30+01:00") == f"succeeded after 0.0 s ({twice % 'second'})"
    nothing = why(task, "2027-10-31T02:15+01:00")[1]
    assert str(nothing) == "nothing was due (its rule is: every 30 minutes)"


@pytest.mark.parametrize(
    ("cron", "spring", "autumn"),
    [
        ("0,30 2 * * *", "moved by a clock change: the clocks leave out 02:30:00",
         "a clock change shows this time twice: the first one counts"),
        ("*/30 * * * *", "", "the clocks show this time twice: this is the first"),
    ],
)  # fmt: skip
def test_cron_and_the_clocks(cron: str, spring: str, autumn: str) -> None:
    task = make_task(noop, every_unit="cron", cron=cron)
    assert why(task, "2027-03-28 03:00")[0].detail == spring
    assert why(task, "2027-10-31T02:30+02:00")[0].detail == autumn


def test_a_clock_change_at_midnight_moves_to_the_next_day() -> None:
    task = make_task(noop, every_unit="cron", cron="30 23 * * *", time_zone="America/Scoresbysund")
    answer = why(task, "2027-03-28T00:00-01:00")[0]
    assert str(answer) == (
        "is still to come (moved by a clock change: the clocks leave out 23:30:00)"
    )


def test_the_clock_of_the_database_jumped() -> None:
    task = daily()
    clock.move(to="2026-11-22 20:30")
    Decision.objects.record(Decision.Kind.CLOCK_JUMPED, reason="it jumped by +1800.0 s")
    run_due_jobs()
    assert said(task, "2026-11-22 20:00") == (
        "succeeded after 0.0 s (it began 30 min late: it jumped by +1800.0 s)"
    )


# What is no instant


def test_nothing_was_due_then_and_what_was_before_and_after() -> None:
    task = daily()
    simulate("2 days")
    after, nothing, before, _coming = why(task, "2026-11-23 12:00")
    assert str(nothing) == "nothing was due (its rule is: every day at 20:00)"
    assert [each.due_at.day for each in (before, after) if each.due_at] == [22, 23]


def test_before_the_rule_began_after_now_and_without_a_rule() -> None:
    task = daily()
    assert "its rule begins at 2026-11-22 20:00:00" in str(why(task, "2026-11-01 20:00")[0])
    assert said(task, "2026-12-24 20:00") == "is still to come"
    task.disable("for good")
    assert said(task, "2026-12-24 20:00") == "is still to come, but the task is disabled"
    never = make_task(noop, "never")
    answer, coming = why(never, "2026-11-22 11:00")
    assert answer.detail == "the task has no recurrence"
    assert str(coming) == "nothing (the task has no recurrence)"


def test_a_task_that_was_made_after_the_asked_time() -> None:
    task = daily(start_date=date(2026, 1, 1))
    is_new = "nothing is known of it (nothing has happened to the task so far: it may be new)"
    assert said(task, "2026-11-20 20:00") == is_new
    assert [str(each) for each in why(task, "2026-11-20 21:00")] == [is_new, "runs"]
    simulate("1 day")
    first = "what is known of the task begins at 2026-11-22 20:00:00: it may have been made then"
    assert said(task, "2026-11-20 20:00") == f"nothing is known of it ({first})"
    assert [str(each) for each in why(task, "2026-11-20 21:00")] == [
        "succeeded after 0.0 s", f"nothing is known of it ({first})", "runs",
    ]  # fmt: skip
    kept = "nothing is kept of that time; the history goes back 30 days"
    assert said(task, "2026-10-20 20:00") == f"nothing is known of it ({kept})"
    task.disable("moving house")
    assert said(task, "2026-11-20 20:00") == f"nothing is known of it ({first})"


def test_what_is_still_to_come_after_a_pause() -> None:
    task = daily()
    task.disable("on holiday", until=NOON + timedelta(days=1, hours=8))
    off = "is still to come, but the task is disabled"
    assert said(task, "2026-11-22 20:00") == off
    # The end of the pause is too late for its own instant.
    assert said(task, "2026-11-23 20:00") == off
    assert said(task, "2026-11-24 20:00") == "is still to come"


def test_what_will_not_come_because_of_an_edit() -> None:
    task = daily()
    edit(task, user("anna"), start_time=time(21))
    assert said(task, "2026-11-22 20:00") == (
        "the rule was changed by anna before, at 2026-11-22 12:00:00: Start time"
    )
    assert said(task, "2026-11-22 21:00") == "is still to come"
    assert [str(each) for each in why(task)] == ["the rule was changed by anna: Start time", "runs"]


def test_a_clock_change_that_is_still_to_come() -> None:
    task = daily(start_time=time(2, 30))
    assert said(task, "2027-03-28 03:30") == (
        "is still to come (moved by a clock change: the clocks leave out 02:30:00)"
    )


@pytest.mark.parametrize("end", [{"max_events": 2}, {"end_date": date(2026, 11, 23)}])
def test_an_ended_rule(end: dict[str, Any]) -> None:
    task = daily(**end)
    over = "its rule names no instant after 2026-11-23 20:00:00"
    assert str(why(task, "2026-12-01 20:00")[0]) == f"nothing is due ({over})"
    simulate("3 days")
    *past, coming = why(task)
    assert [answer.headline for answer in past] == ["succeeded after 0.0 s"] * 2
    assert str(coming) == f"nothing ({over})"
    assert str(why(task, "2026-11-24 20:00")[0]) == f"nothing was due ({over})"


def test_a_row_without_its_next_run_is_no_ended_rule() -> None:
    task = daily()
    BackgroundTask.objects.update(next_run_at=None)
    assert str(why(task)[-1]) == (
        "nothing (its row lacks the next run, which would be at 2026-11-22 20:00:00:"
        " somebody has to enable it anew)"
    )
    task.enable()
    assert str(why(task)[-1]) == "runs"


def test_rows_that_are_gone_are_admitted() -> None:
    task = daily()
    simulate("3 days")
    Job.objects.filter(due_at=NOON + timedelta(days=1, hours=8)).delete()
    assert said(task, "2026-11-23 20:00").startswith("nothing is kept of it")
    BackgroundTask.objects.update(missed="skip")
    clock.move(to="2026-11-26 20:00:10")
    run_due_jobs()
    assert said(task, "2026-11-25 20:00").startswith("skipped: it could not begin in time")
    assert said(task, "2026-11-23 20:00").startswith("nothing is kept of it")
    # It waited for another instant by then.
    task.disable("moving house")
    assert said(task, "2026-11-23 20:00").startswith("nothing is kept of it")
    task.enable()
    assert said(task, "2026-11-23 20:00").startswith("nothing is kept of it")


def test_it_writes_nothing() -> None:
    task = daily()
    simulate("1 day")
    with CaptureQueriesContext(connection) as seen:
        why(task)
    assert {query["sql"].split()[0] for query in seen} == {"SELECT"}


# At the terminal


def test_the_command_s_lines() -> None:
    task = daily(name="send_summary")
    simulate("2 days")
    task.disable("on \x1b[31mholiday", user=user("anna"))
    assert answers.answers("default", "send_summary", None).splitlines() == [
        f"{task}: every day at 20:00 (Europe/Brussels)",
        "2026-11-23 20:00:00  succeeded after 0.0 s",
        "2026-11-22 20:00:00  succeeded after 0.0 s",
        "next: nothing: the task is disabled by anna: on \\x1b[31mholiday"
        " (since 2026-11-24 12:00:00)",
    ]
    at = answers.answers("default", f"#{task.pk}", "20:00").splitlines()
    assert at[1:2] == ["2026-11-23 20:00:00  succeeded after 0.0 s"]
    assert answers.answers("default", str(task.pk), "2026-11-22T19:00Z").splitlines()[1] == (
        "2026-11-22 20:00:00  succeeded after 0.0 s"
    )


def test_a_time_of_day_is_the_task_s_own() -> None:
    task = daily(time_zone="Asia/Tokyo", start_time=time(6))
    simulate("1 day")
    assert answers.answers("default", task.name, "6:00").splitlines() == [
        f"{task}: every day at 06:00 (Asia/Tokyo)",
        "2026-11-23 06:00:00  succeeded after 0.0 s",
        "next: 2026-11-24 06:00:00  runs",
    ]


@pytest.mark.parametrize(
    ("typed", "lines"),
    [
        ("2027-03-28 02:15", [
            "a clock change leaves out 2027-03-28 02:15:00: this is about 2027-03-28 03:15:00",
            "2027-03-28 03:15:00  nothing is due (its rule is: every hour)",
        ]),
        ("2027-10-31 02:00", [
            "a clock change shows 2027-10-31 02:00:00 twice:"
            " this is about the first, not 2027-10-31T02:00:00+01:00",
            "2027-10-31 02:00:00 (UTC+02:00)  is still to come"
            " (the clocks show this time twice: this is the first)",
        ]),
        ("2027-10-31T02:00:00+01:00", [
            "2027-10-31 02:00:00 (UTC+01:00)  is still to come"
            " (the clocks show this time twice: this is the second)",
        ]),
        ("2027-10-31 03:00", ["2027-10-31 03:00:00  is still to come"]),
    ],
)  # fmt: skip
def test_a_time_that_the_clocks_leave_out_or_show_twice(typed: str, lines: list[str]) -> None:
    task = make_task(noop, every_unit="hourly", start_time=time(12))
    _head, *told = answers.answers("default", task.name, typed).splitlines()
    assert told[: len(lines)] == lines


def test_a_time_of_day_that_the_clocks_leave_out_today() -> None:
    task = make_task(noop, every_unit="hourly", start_time=time(12))
    clock.move(to="2027-03-28 12:00")
    assert answers.answers("default", task.name, "2:15").splitlines()[1] == (
        "a clock change leaves out 2027-03-28 02:15:00: this is about 2027-03-28 03:15:00"
    )


def test_every_task_of_that_name_is_told_about() -> None:
    first = daily(name="summary")
    second = BackgroundTask.objects.create(procedure="summary", name="weekly summary")
    heads = [f"{first}: every day at 20:00", f"{second}: the task has no recurrence"]
    told = answers.answers("default", "summary", None)
    assert [head in told for head in heads] == [True, True]
    assert heads[1] in answers.answers("default", "weekly summary", None)
    assert heads[0] not in answers.answers("default", "weekly summary", None)


def test_what_cannot_be_found_is_one_line_with_the_near_name() -> None:
    daily(name="send_summary")
    with pytest.raises(UnknownProcedure, match="'send_sumary', did you mean send_summary"):
        answers.answers("default", "send_sumary", None)
    with pytest.raises(UnknownProcedure, match="no background task '#99999'"):
        answers.answers("default", "#99999", None)


@pytest.mark.parametrize(
    "text",
    ["25:00", "yesterday", "2026-02-30 20:00", "20", "", "0001-01-01T00:00Z", "9999-12-31 23:59"],
)
def test_what_is_no_moment_is_one_line(text: str) -> None:
    daily(name="send_summary")
    with pytest.raises(NoMoment, match="no moment such as 20:00 or 2026"):
        answers.answers("default", "send_summary", text)
    with pytest.raises(NoMoment, match="has no time of day"):
        answers.answers("default", "send_summary", "2026-11-22")


@pytest.mark.parametrize("text", ["0002-01-01T00:00Z", "9999-11-30T23:59Z"])
def test_the_farthest_moments_are_answered(text: str) -> None:
    daily(name="send_summary")
    assert "nothing" in answers.answers("default", "send_summary", text)
