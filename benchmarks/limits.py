"""What the machine and the database allow, measured in the same run without linod's engine."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
import uuid

from django.db import transaction
from django.utils import timezone

from benchmarks.figures import Spread
from linod.models import BackgroundTask, Job


def commits(seconds: float) -> float:
    """Transactions a second that each update one row, through Django."""
    rows = BackgroundTask.objects.filter(pk=_some_task().pk)
    done, began = 0, time.perf_counter()
    while (passed := time.perf_counter() - began) < seconds:
        with transaction.atomic():
            rows.update(message=str(done))
        done += 1
    return done / passed


def inserted_rows(count: int) -> float:
    """Rows a second that ``bulk_create`` inserts into the jobs' table, 500 at a time."""
    task, now = _some_task(), timezone.now()
    jobs = [
        Job(
            id=uuid.uuid4(),
            procedure=task.procedure,
            due_at=now,
            state=Job.State.SUCCEEDED,
            log_level="INFO",
        )
        for _ in range(count)
    ]
    began = time.perf_counter()
    Job.objects.bulk_create(jobs, batch_size=500)
    passed = time.perf_counter() - began
    Job.objects.all().delete()
    return count / passed


def one_row_commit(task: BackgroundTask) -> float:
    """Seconds of a transaction that updates one row."""
    rows = BackgroundTask.objects.filter(pk=task.pk)
    began = time.perf_counter()
    with transaction.atomic():
        rows.update(message=str(began))
    return time.perf_counter() - began


def _some_task() -> BackgroundTask:
    task = BackgroundTask.objects.first()
    assert task is not None, "there are no tasks to measure with"
    return task


def timer_lateness(samples: int) -> Spread:
    """How late the event loop wakes up from sleeps of 10 ms."""

    async def sleep() -> list[float]:
        late = []
        for _ in range(samples):
            due = time.monotonic() + 0.01
            await asyncio.sleep(due - time.monotonic())
            late.append(time.monotonic() - due)
        return late

    return Spread.of(asyncio.run(sleep()))


def hand_off(samples: int) -> Spread:
    """Seconds from the event loop into a waiting thread."""
    work: queue.SimpleQueue[float | None] = queue.SimpleQueue()
    passed: list[float] = []

    def serve() -> None:
        while (began := work.get()) is not None:
            passed.append(time.perf_counter() - began)

    async def feed() -> None:
        for _ in range(samples):
            work.put(time.perf_counter())
            await asyncio.sleep(0.002)

    thread = threading.Thread(target=serve)
    thread.start()
    asyncio.run(feed())
    work.put(None)
    thread.join()
    return Spread.of(passed)
