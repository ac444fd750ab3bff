"""Leases: what an owner holds, for how long, and whether it still does. No state changes here."""

from __future__ import annotations

import uuid
from datetime import timedelta
from functools import lru_cache

from linod import agenda, clock, transactions
from linod.conf import config
from linod.history import Job
from linod.prepared import Prepared
from linod.records import Claimed, Terms


def heartbeat(terms: Terms) -> int:
    """Renew the lease of all jobs that this owner holds; returns how many.

    A row that a body has locked (``ar.guard()``) is passed by: nobody can take it over, either.
    """
    with transactions.write(terms.using) as connection:
        rows = Job.objects.using(terms.using).filter(owner=terms.owner, lease_until__isnull=False)
        if connection.features.has_select_for_update_skip_locked:
            rows = rows.select_for_update(skip_locked=True)
        ids = list(rows.values_list("pk", flat=True))
        if not ids:
            return 0
        until = clock.db_now(terms.using) + timedelta(seconds=terms.lease)
        return (
            Job.objects.using(terms.using)
            .filter(pk__in=ids, owner=terms.owner, lease_until__isnull=False)
            .update(lease_until=until)
        )


def renew(using: str, job: Claimed) -> None:
    """Renew the lease of a job whose row its body has locked: the heartbeat had to pass it by."""
    mine = Job.objects.using(using).filter(pk=job.id, owner=job.owner, fence=job.fence)
    until = clock.db_now(using) + timedelta(seconds=config().LEASE)
    mine.filter(state=Job.State.RUNNING).update(lease_until=until)


def held(terms: Terms) -> list[Claimed]:
    """All jobs that this owner holds, as the rows have it."""
    rows = _held_jobs(terms.using, terms.owner).all()
    return [agenda.from_row(row, terms.owner) for row in rows]


@lru_cache(maxsize=8)
def _held_jobs(using: str, owner: uuid.UUID) -> Prepared:
    rows = Job.objects.using(using).filter(owner=owner, lease_until__isnull=False)
    return Prepared.of(rows, *agenda.JOB_COLUMNS)


def guard(using: str, job: Claimed) -> bool:
    """Whether the job is still its owner's; locks its row until the caller's transaction ends."""
    mine = Job.objects.using(using).filter(pk=job.id, owner=job.owner, fence=job.fence)
    return bool(mine.filter(state=Job.State.RUNNING).update(fence=job.fence))
