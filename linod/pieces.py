"""What jobs say while they run and when they end: pieces of their logs, and how far they are."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from operator import itemgetter
from typing import Any, TypeVar

from linod import transactions
from linod.bulk import Batch
from linod.history import Job, JobLog
from linod.records import Claimed, Terms

#: What a running job said: the job, the number of the piece, its text, and how far it is.
Piece = tuple[Claimed, int, str, Any]
Item = TypeVar("Item")

#: The pieces of one owner's log of a job: the next owner's begin behind them (``JobLog.n``).
PIECES = 100_000
#: Characters of logs that one message to a server carries, unless a single one is longer: half of
#: what MariaDB takes by default (``max_allowed_packet``, 16 MiB) when each has four bytes.
MOST_TEXT = 2 * 1024 * 1024


def tend(terms: Terms, pieces: Sequence[Piece]) -> list[uuid.UUID]:
    """Store what running jobs said since the last time: (job, piece number, text, progress).

    What belongs to a job that is not this owner's any more is dropped. Returns the jobs of this
    owner that somebody asked to stop.
    """
    mine = Job.objects.using(terms.using).filter(owner=terms.owner)
    for group in in_messages(pieces, itemgetter(2)):
        with transactions.write(terms.using) as connection:
            # Also of a job that has ended: its end may have been recorded while this had to wait.
            rows = mine.filter(pk__in=[job.id for job, *_rest in group])
            fences = dict(rows.values_list("pk", "fence"))
            held = [piece for piece in group if fences.get(piece[0].id) == piece[0].fence]
            said = [(job, n, text) for job, n, text, _progress in held if text]
            drop_stored(terms, said)
            with Batch(connection) as batch:
                store_logs(batch, said)
                _show_progress(batch, terms, held)
    running = mine.filter(state=Job.State.RUNNING).exclude(cancel_requested_at=None)
    return list(running.values_list("pk", flat=True))


def drop_stored(terms: Terms, pieces: Sequence[tuple[Claimed, int, str]]) -> None:
    """Make room for pieces that were stored before: their COMMIT worked, its answer was lost.

    Sent again, a piece may hold more text.
    """
    keys = {(job.id, job.fence * PIECES + n) for job, n, _text in pieces}
    rows = JobLog.objects.using(terms.using).filter(
        job__in={job for job, _n in keys}, n__in={n for _job, n in keys}
    )
    again = [pk for pk, *key in rows.values_list("pk", "job_id", "n") if tuple(key) in keys]
    if again:
        rows.filter(pk__in=again).delete()


def store_logs(batch: Batch, pieces: Sequence[tuple[Claimed, int, str]]) -> None:
    """Insert pieces of logs: (job, piece number, text)."""
    rows = [(job.id, piece_number(job, n), text) for job, n, text in pieces]
    batch.insert(JobLog, ("job", "n", "text"), rows)


def piece_number(job: Claimed, n: int) -> int:
    """``JobLog.n`` of the ``n``-th piece that this owner of the job has stored."""
    return job.fence * PIECES + n


def _show_progress(batch: Batch, terms: Terms, pieces: Sequence[Piece]) -> None:
    """Write how far jobs are; one whose body holds its row (``ar.guard()``) is shown later."""
    shown = {
        job.id: (progress, job.id, job.fence) for job, _n, _text, progress in pieces if progress
    }
    rows = Job.objects.using(terms.using).filter(pk__in=shown, state=Job.State.RUNNING)
    if batch.connection.features.has_select_for_update_skip_locked:
        rows = rows.select_for_update(skip_locked=True)
    free = [shown[pk] for pk in rows.values_list("pk", flat=True)] if shown else []
    batch.update(Job, ("progress",), ("id", "fence"), free)


def in_messages(items: Sequence[Item], text_of: Callable[[Item], str]) -> Iterator[list[Item]]:
    """Groups whose texts together are no longer than a server takes at once."""
    group: list[Item] = []
    length = 0
    for item in items:
        length += len(text_of(item))
        if group and length > MOST_TEXT:
            yield group
            group, length = [], len(text_of(item))
        group.append(item)
    if group:
        yield group
