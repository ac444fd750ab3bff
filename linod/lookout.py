"""Finds what changed in the rows, for the live page: tasks that jobs changed, and the ledger.

It has a thread and a connection of its own, and is never waited for. What people change in other
processes comes as a hint (:mod:`linod.wakeup`), or is found within ``POLL`` seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from django.db import Error
from django.db.models import Count, F, Max, Q, Sum

from linod import events
from linod.bridge import Bridge
from linod.events import Event
from linod.history import Decision, Job
from linod.models import BackgroundTask
from linod.transactions import first_line

logger = logging.getLogger("linod")

#: Seconds between two looks when nothing calls, and at least.
POLL, PAUSE = 2.0, 0.2
#: Seconds that a look under way gets when the daemon ends.
PATIENCE = 0.5
#: Most tasks that one look reads, and most lines of the ledger.
ROWS = 200
#: How many lines of the ledger may be committed later than one with a higher number.
OVERLAP = 100


class Lookout:
    """Reads rows and hands what they say to ``add``.

    :param add: takes events.
    :param drop_all: called when more has changed than events can tell.
    """

    def __init__(
        self,
        using: str,
        add: Callable[[Sequence[Event]], None],
        drop_all: Callable[[], None],
    ) -> None:
        self.using = using
        self.add = add
        self.drop_all = drop_all
        self.bridge = Bridge(using, "linod-lookout")
        #: Set when the first look is over: what changes from then on is told.
        self.has_looked = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self._lock = threading.Lock()
        self._changed: set[int] = set()
        self._seen: set[int] = set()
        self._shape: dict[str, Any] | None = None
        self._next_shape = 0.0

    def look(self, task_ids: Iterable[int] = ()) -> None:
        """These tasks have changed, or the ledger; from any thread."""
        with self._lock:
            self._changed.update(task_ids)
        if not self._wake.is_set():
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._wake.set)

    async def run(self) -> None:
        """Look until cancelled; the first look only learns what there is."""
        is_whole = True
        self._wake.set()
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), POLL)
            self._wake.clear()
            with self._lock:
                changed, self._changed = self._changed, set()
            try:
                found = await self.bridge.call(self._read, changed)
            except Error as error:
                logger.log(
                    logging.WARNING if is_whole else logging.DEBUG,
                    "Live page: the database does not answer: %s",
                    first_line(error),
                )
                is_whole = False
            else:
                if not is_whole:
                    self.drop_all()
                is_whole = True
                self.add(found)
            self.has_looked.set()
            await asyncio.sleep(PAUSE if is_whole else 1.0)

    def close(self) -> None:
        """End the thread, without waiting long for what it does."""
        self.bridge.close(PATIENCE)

    # In the bridge's thread

    def _read(self, changed: set[int]) -> list[Event]:
        lines = self._new_decisions()
        changed = changed | {line["task_id"] for line in lines if line["task_id"] is not None}
        if len(lines) == ROWS or len(changed) > ROWS or self._has_new_shape():
            self.drop_all()
        return [*self._jobs(lines), *self._tasks(sorted(changed)[:ROWS])]

    def _new_decisions(self) -> list[dict[str, Any]]:
        last = max(self._seen, default=0)
        rows = Decision.objects.using(self.using).filter(pk__gt=last - OVERLAP).order_by("-pk")
        found: list[Any] = list(rows.values("pk", "task_id", "kind", "due_at", "job")[:ROWS])
        new = [line for line in found if line["pk"] not in self._seen] if self._seen else []
        newest = max((line["pk"] for line in found), default=last)
        self._seen |= {line["pk"] for line in found}
        # 0 stands for "looked before", also when the ledger was empty then.
        self._seen = {pk for pk in self._seen if pk > newest - 2 * OVERLAP} | {0}
        return new

    def _jobs(self, lines: Sequence[dict[str, Any]]) -> list[Event]:
        """The jobs that the ledger speaks of; of a retried one also the next attempt."""
        about = Q(pk__in={line["job"] for line in lines if line["job"] is not None})
        for line in lines:
            if line["kind"] == Decision.Kind.RETRIED:
                about |= Q(task_id=line["task_id"], due_at=line["due_at"])
        if not about.children or not any(line["job"] for line in lines):
            return []
        rows = Job.objects.using(self.using).filter(about).order_by("pk")[:ROWS]
        return [{"type": "job", "job": events.job_data(job)} for job in rows]

    def _tasks(self, ids: Sequence[int]) -> list[Event]:
        if not ids:
            return []
        tasks = BackgroundTask.objects.using(self.using).in_bulk(ids)
        running = running_jobs(self.using, ids)
        return [
            {
                "type": "task",
                "task": events.task_data(tasks[pk], running.get(pk))
                if pk in tasks
                else {"id": pk, "deleted": True},
            }
            for pk in ids
        ]

    def _has_new_shape(self) -> bool:
        """Whether tasks were added, deleted or moved, which the ledger does not tell."""
        if time.monotonic() < self._next_shape:
            return False
        self._next_shape = time.monotonic() + POLL
        former, self._shape = (
            self._shape,
            BackgroundTask.objects.using(self.using).aggregate(
                count=Count("pk"), last=Max("pk"), order=Sum(F("pk") * F("seqno"))
            ),
        )
        return former is not None and former != self._shape


def running_jobs(using: str, task_ids: Sequence[int]) -> dict[int | None, uuid.UUID]:
    """The job of each of these tasks whose body has begun and not ended."""
    jobs = Job.objects.using(using).running().filter(active_task__in=task_ids)
    return dict(jobs.values_list("active_task", "pk"))
