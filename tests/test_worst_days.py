"""The protocol on its worst days: lost answers, clocks that are set, rows gone bad."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from linod import agenda, claims, clock, leases, offset, pieces, scheduler, seeking, upkeep
from linod.bridge import Bridge
from linod.conf import config
from linod.daemon import Daemon
from linod.farewell import Farewell
from linod.history import Job, JobLog
from linod.models import BackgroundTask
from linod.offset import Offset
from linod.procedures import Procedures
from linod.records import Terms
from linod.recurrence import Recurrence
from linod.scheduler import Scheduler
from linod.seeking import Seeker
from linod.testing.engine import Engine
from linod.upkeep import Upkeep
from tests.daemons import make_due, make_task, only_these_procedures
from tests.test_claims import claim_all, noop, secondly, terms
from tests.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _registry() -> Iterator[None]:
    with only_these_procedures():
        BackgroundTask.objects.all().delete()
        yield


def loop_of(**values: Any) -> Any:
    """As much of a scheduler as one of its functions needs."""
    return SimpleNamespace(terms=terms(), offset=Offset(clock.db_now()), **values)


def test_a_piece_of_log_whose_commit_was_not_answered_is_stored_once() -> None:
    make_due(secondly(), ago=1)
    (job,) = claim_all(mine := terms())
    pieces.tend(mine, [(job, 0, "one\n", None)])
    pieces.tend(mine, [(job, 0, "one\n", None), (job, 1, "three\n", None)])
    pieces.tend(mine, [(job, 0, "one\ntwo\n", None)])
    assert list(JobLog.objects.order_by("n").values_list("text", flat=True)) == [
        "one\ntwo\n", "three\n",
    ]  # fmt: skip


def test_a_claim_whose_commit_was_not_answered_is_kept_alive() -> None:
    """The daemon does not know of it yet; its heart must beat for it."""
    engine = Engine()
    make_due(secondly(), ago=1)
    claim_all(engine.terms)
    expired = clock.db_now() - timedelta(seconds=1)
    Job.objects.update(lease_until=expired)
    daemon: Any = SimpleNamespace(
        scheduler=engine, terms=engine.terms, using="default", owner=engine.terms.owner
    )
    Daemon._renew(daemon)
    assert Job.objects.get().lease_until == expired  # an idle daemon does not ask
    engine.bridge.failures += 1
    Daemon._renew(daemon)
    assert Job.objects.filter(lease_until__gt=clock.db_now()).exists()


def test_what_passed_the_gate_unheard_begins_only_while_the_leases_are_trusted() -> None:
    """After an outage that was longer than a lease anybody may take it over at any moment."""
    engine = Engine()
    engine.seeker.only_before = clock.db_now()
    make_due(secondly(), ago=1)
    (job,) = claim_all(engine.terms)
    engine.bridge.failures += 1
    engine.is_trusted = lambda: False
    assert engine._turn([], set()).started == []
    engine.is_trusted = lambda: True
    assert [each.id for each in engine._turn([], set()).started] == [job.id]


@pytest.mark.parametrize(
    "values",
    [{"every": 0}, {"end_date": date.min, "end_time": time(1)}, {"every": 7}],
    ids=["no rule", "ends before the calendar", "leads beyond it"],
)
def test_a_rule_that_cannot_be_answered_does_not_end_the_daemon(
    values: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = secondly("bad"), secondly("good")
    now = clock.db_now()
    for task in (bad, good):
        task.disable("holidays", until=now)
    BackgroundTask.objects.filter(pk=bad.pk).update(time_zone="Europe/Tallinn", **values)
    next_after = Recurrence.next_after

    def lead_beyond(rule: Recurrence, moment: datetime) -> datetime | None:
        if rule.every == 7:
            raise OverflowError("date value out of range")
        return next_after(rule, moment)

    monkeypatch.setattr(Recurrence, "next_after", lead_beyond)
    Seeker._enable(loop_of(), now)
    bad.refresh_from_db()
    good.refresh_from_db()
    assert (bad.disabled, bad.disabled_until) == (True, None)
    assert bad.disabled_reason.startswith(("every", "end_date"))
    assert not good.disabled
    assert good.next_run_at is not None


def test_a_pause_that_is_over_is_nothing_to_do_for_a_task_that_is_enabled() -> None:
    now = clock.db_now()
    left, paused = secondly("left"), secondly("paused")
    BackgroundTask.objects.filter(pk=left.pk).update(disabled_until=now - timedelta(days=1))
    assert agenda.agenda("default", uuid.uuid4()).disabled_until is None
    paused.disable("holidays", until=now)
    assert agenda.agenda("default", uuid.uuid4()).disabled_until == now
    Seeker._enable(loop_of(), now)
    assert agenda.agenda("default", uuid.uuid4()).disabled_until is None


def test_who_waits_for_an_earlier_one_does_not_hide_the_others() -> None:
    make_due(secondly("early"), ago=50)
    claim_all(terms())
    late, other = secondly("late"), secondly("other")
    Procedures.registry["late"].run_after = ("early",)
    make_due(late, ago=40)
    make_due(other, ago=30)
    now = clock.db_now()
    found = agenda.peek("default", uuid.uuid4(), now, 1)
    assert [candidate.task_id for candidate in found] == [other.pk]


def test_an_earlier_one_counts_also_when_it_is_beyond_the_look() -> None:
    late, early = secondly("late"), secondly("early")
    Procedures.registry["late"].run_after = ("early",)
    make_due(late, ago=40)
    make_due(early, ago=30)
    now = clock.db_now()
    found = agenda.peek("default", uuid.uuid4(), now, 1)
    assert [candidate.task_id for candidate in found] == [early.pk]


def test_nothing_is_reclaimed_by_a_clock_that_was_just_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make_due(secondly(), ago=1)
    (job,) = claim_all(terms())
    loop = loop_of(_no_reclaim_before=0.0)
    set_clock = clock.source
    monkeypatch.setattr(clock, "source", lambda c: set_clock(c) + timedelta(hours=2))
    assert Upkeep._reclaim(loop) == []
    assert Job.objects.get().state == "running"
    loop.offset = Offset(clock.db_now())  # a lease later the loop knows the new time
    Upkeep._reclaim(loop)
    assert Job.objects.get(pk=job.id).state == "lost"


def test_nothing_is_reclaimed_by_a_clock_that_the_loop_takes_in_just_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The database thread asks for the time while the loop learns that it was set."""
    make_due(secondly(), ago=1)
    claim_all(terms())
    true_time = clock.source
    monkeypatch.setattr(clock, "source", lambda c: true_time(c) + timedelta(hours=2))

    async def reclaim() -> list[Any]:
        loop, bridge = asyncio.get_running_loop(), Bridge("default")
        engine = Scheduler(terms(), config(), bridge, Offset(datetime.now(UTC)))
        engine.upkeep._no_reclaim_before = 0.0  # it is up for long
        seen = await bridge.call(agenda.agenda, "default", engine.terms.owner)
        setting: list[Any] = []

        def ask_meanwhile(connection: Any) -> datetime:
            now = true_time(connection) + timedelta(hours=2)
            if not setting:
                setting.append(asyncio.run_coroutine_threadsafe(engine._set_clock(seen), loop))
                wait_until(lambda: engine.offset.moment() >= seen.now, "the loop takes it in")
            return now

        monkeypatch.setattr(clock, "source", ask_meanwhile)
        got = await bridge.call(engine.upkeep._reclaim)
        await asyncio.wrap_future(setting[0])
        bridge.close()
        return got

    assert asyncio.run(reclaim()) == []
    assert Job.objects.get().state == "running"


def test_who_comes_up_reclaims_nothing_until_all_who_live_have_renewed_their_leases(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The clock was set just before: a new daemon has nothing to compare it with."""
    make_due(secondly(), ago=1)
    claim_all(alive := terms())
    passed, true_time = [0.0], clock.source
    monkeypatch.setattr(
        clock, "source", lambda c: true_time(c) + timedelta(hours=2, seconds=passed[0])
    )
    for module in (scheduler, seeking, offset, upkeep):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: 1000.0 + passed[0]))
    engine, state = Engine(), Job.objects.values_list("state", flat=True)
    for seconds in (0.0, alive.lease * 0.4):
        passed[0] = seconds
        engine.upkeep._reclaim()
        assert state.get() == "running"
    leases.heartbeat(alive)
    for seconds, expected in ((0.6, "running"), (1.6, "lost")):
        passed[0] = alive.lease * seconds
        engine.upkeep._reclaim()
        assert state.get() == expected


def test_whoever_notices_late_that_the_clock_was_set_loses_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What it has claimed by the old clock counts as over until its next heartbeat."""
    make_due(secondly(), ago=1)
    claim_all(late := terms())
    passed, true_time = [0.0], clock.source
    for module in (scheduler, seeking, offset, upkeep):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: 1000.0 + passed[0]))
    engine, state = Engine(), Job.objects.values_list("state", flat=True)
    monkeypatch.setattr(
        clock, "source", lambda c: true_time(c) + timedelta(hours=2, seconds=passed[0])
    )
    engine.upkeep.hold_off()
    engine.offset.measure(clock.db_now(), 1000.0)
    for leases_later, expected in ((1.9, "running"), (2.1, "running"), (3.5, "lost")):
        passed[0] = late.lease * leases_later
        engine.upkeep._reclaim()
        assert state.get() == expected
        if leases_later < 2:
            leases.heartbeat(late)


def test_no_lease_is_written_by_a_clock_that_was_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who claims before it knows would write one that is over: others would take the job."""
    make_due(secondly(), ago=1)
    true_time = clock.source

    async def claim() -> list[bool]:
        bridge = Bridge("default")
        engine = Scheduler(terms(), config(), bridge, Offset(await bridge.call(clock.db_now)))
        monkeypatch.setattr(clock, "source", lambda c: true_time(c) + timedelta(hours=2))
        are_good = []
        for _ in range(2):
            turn = await bridge.call(engine._turn, [], set())
            good = Job.objects.filter(lease_until__gt=datetime.now(UTC) + timedelta(hours=2))
            are_good += [await bridge.call(good.filter(pk=job.id).exists) for job in turn.started]
            if turn.agenda is not None:
                await engine._set_clock(turn.agenda)
        bridge.close()
        return are_good

    assert asyncio.run(claim()) == [True]


def test_a_dead_daemon_s_job_is_given_up_also_by_who_does_not_know_the_procedure() -> None:
    make_due(make_task(noop, "gone", every_unit="secondly", every=10), ago=1)
    claim_all(terms(lease=-1.0))
    del Procedures.registry["gone"]
    claims.reclaim(terms(), clock.db_now())
    job = Job.objects.get()
    assert (job.state, job.active_task) == ("lost", None)


def test_what_passed_the_gate_unheard_is_given_back_at_the_stop() -> None:
    for name in "ab":
        make_due(secondly(name), ago=1)
    mine = terms()
    unheard, begun = claim_all(mine)
    parting: Any = SimpleNamespace(terms=mine)
    Farewell._give_back(parting, {begun.key})
    job = Job.objects.get(pk=unheard.id)
    assert (job.state, job.owner, job.active_task, job.start_time) == ("waiting", None, None, None)
    assert Job.objects.get(pk=begun.id).state == "running"


def test_the_rows_are_asked_again_in_the_lease_after_a_failure_and_not_by_an_idle_daemon(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now, asked = [1000.0], list[float]()

    def held(terms: Terms) -> list[Any]:
        asked.append(now[0])
        return []

    for module in (scheduler, seeking, offset, upkeep):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(leases, "held", held)
    engine = Engine()
    engine.seeker.only_before = clock.db_now()
    step = engine.terms.lease * 0.34

    def turns(count: int) -> None:
        for _ in range(count):
            now[0] += step
            engine._turn([], set())

    turns(6)
    assert asked == []
    engine.bridge.failures += 1
    turns(12)
    first = 1000.0 + 7 * step
    assert asked == pytest.approx([first + n * step for n in range(4)])
