"""What happened in the workshop before you came: a day of runs, and a task that is paused."""

import random
import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta

from django.utils import timezone

from linod import BackgroundTask, Job

#: Of each procedure: minutes between two runs, and how many seconds a run takes at most.
RUNS = {
    "import_orders": (20, 200),
    "resize_pictures": (45, 900),
    "ask_suppliers": (30, 60),
    "check_links": (60, 300),
    "count_stock": (60, 5),
    "back_up": (360, 2400),
}
PAUSED = "print_catalogue"


def load() -> None:
    """Write the history, unless there is some."""
    now = timezone.now()
    for task in BackgroundTask.objects.filter(procedure__in=RUNS):
        if not task.jobs.exists():
            Job.objects.bulk_create(history(task, now))
    paused = BackgroundTask.objects.get(procedure=PAUSED)
    if not paused.disabled:
        paused.disable("the printer is on holiday", until=now + timedelta(days=3))


def history(task: BackgroundTask, now: datetime) -> Iterator[Job]:
    """The runs of a day, until an hour ago."""
    chance = random.Random(task.procedure.name)
    step, longest = RUNS[task.procedure.name]
    hour = now.replace(minute=0, second=0, microsecond=0)
    for number in range(60 // step or 1, 24 * 60 // step):
        due = hour - timedelta(minutes=number * step)
        start = due + timedelta(milliseconds=chance.randint(5, 60))
        failed = chance.random() < 0.06
        yield Job(
            id=key(start),
            task=task,
            procedure=task.procedure,
            due_at=due,
            trigger=Job.Trigger.SCHEDULE,
            state=Job.State.FAILED if failed else Job.State.SUCCEEDED,
            start_time=start,
            end_time=start + timedelta(seconds=longest * chance.uniform(0.3, 1)),
            error="ConnectionError: the line was cut" if failed else "",
            host="workshop",
        )


def key(moment: datetime) -> uuid.UUID:
    """A key such as linod would have made at that moment (RFC 9562, version 7)."""
    number = int(moment.timestamp() * 1000) << 80 | random.getrandbits(76)
    return uuid.UUID(int=number & ~(0xF << 76) & ~(0x3 << 62) | (0x7 << 76) | (0x2 << 62))
