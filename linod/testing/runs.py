"""What a test asks for: run what is due, run everything, live through a year."""

from __future__ import annotations

from datetime import datetime

from django.db.models import Q

from linod.agenda import Agenda
from linod.history import Job
from linod.models import BackgroundTask
from linod.testing.clock import Length, Moment, active, destination, travel
from linod.testing.engine import Engine


def run_due_jobs(now: Moment | None = None) -> list[Job]:
    """Run what is due or requested, as a daemon would that looks at this moment.

    :param now: the moment, as :func:`linod.testing.clock.travel` takes it; default: now.
    :return: the jobs that ran, in their order. Their errors are theirs: look at ``job.state``.

    It works inside a transaction. Code that awaits calls it by ``sync_to_async``.
    """
    if now is not None:
        with travel(to=now):
            return run_due_jobs()
    engine = Engine()
    engine.run_due()
    return engine.jobs()


def run_all() -> list[Job]:
    """Run every enabled task now, whether it is due or not; returns the jobs in their order."""
    engine = Engine()
    for task in BackgroundTask.objects.using(engine.terms.using).enabled().known():
        task.request_run()
    engine.run_due()
    return engine.jobs()


def simulate(by: Length | None = None, *, until: Moment | None = None) -> list[Job]:
    """Live through a time as a daemon that never sleeps: the clock goes from instant to instant.

    :param by: how long; :param until: or to which moment; as :func:`linod.testing.clock.travel`.
    :return: the jobs that ran, in their order.

    It needs a clock that stands still (``with clock.freeze():``) and leaves it at the end of that
    time. The history is not cleaned up on the way. Raises RuntimeError outside of such a block,
    and when something is due that can never begin.
    """
    virtual = active()
    if virtual is None:
        raise RuntimeError("simulate() moves the clock: call it inside clock.freeze()")
    if (by is None) == (until is None):
        raise TypeError('simulate() takes a length of time ("1 week") or a moment (until=...)')
    end = destination(virtual.now, by, until)
    engine = Engine()
    while True:
        coming = _next(engine, engine.run_due())
        if coming is None or coming > end:
            break
        virtual.move(to=max(coming, virtual.now))
    virtual.move(to=max(end, virtual.now))
    return engine.jobs()


def _next(engine: Engine, seen: Agenda) -> datetime | None:
    """When there is something to do again."""
    moments = [
        seen.requested_at, seen.next_run_at, seen.available_at, seen.disabled_until,
        seen.lease_until,
    ]  # fmt: skip
    if seen.is_due(seen.now) and not seen.is_due(engine.seeker.only_before or seen.now):
        return seen.now  # a procedure took its time
    later = [moment for moment in moments if moment is not None and moment > seen.now]
    if not later and seen.is_due(seen.now):
        able = BackgroundTask.objects.using(engine.terms.using).known().idle()
        stuck = able.filter(Q(next_run_at__lte=seen.now) | Q(requested_at__lte=seen.now))
        raise RuntimeError(f"Due, and cannot begin: {', '.join(map(str, stuck))}")
    return min(later, default=None)
