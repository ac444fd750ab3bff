"""One experiment: a server, a fleet, a journal, tasks, a seed; and what is read at its end."""

from __future__ import annotations

import random
import shutil
import statistics
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.faults import history, journal, schedules
from tests.faults.fleet import Fleet, wait_until
from tests.faults.history import DecisionRow, JobRow, Verdict
from tests.faults.journal import Line
from tests.faults.schedules import Schedule
from tests.faults.servers import Server

#: Ends the line of a figure that is beyond its limit.
BROKEN = "BROKEN"


@dataclass(frozen=True)
class Finding:
    """One figure: what was measured, and whether it is within its limit."""

    what: str
    value: str
    limit: str = ""
    held: bool = True

    def __str__(self) -> str:
        limit = f" (limit {self.limit})" if self.limit else ""
        return f"{self.what} {self.value}{limit}{'' if self.held else f'  {BROKEN}'}"


def none(what: str, count: int) -> Finding:
    """A figure that must be zero."""
    return Finding(what, str(count), "0", count == 0)


def at_most(what: str, value: float, limit: float, unit: str = "s") -> Finding:
    """A figure with an upper limit."""
    return Finding(what, f"{value:.2f} {unit}", f"{limit:g} {unit}", value <= limit)


class World:
    """What a promise's experiment works with.

    :param size: 1 is the full size; CI's is smaller.
    """

    def __init__(self, server: Server, folder: Path, seed: int, size: float) -> None:
        self.server = server
        self.folder = folder
        self.seed = seed
        self.size = size
        self.rng = random.Random(seed)
        self.journal = folder / "journal"
        self.fleet = Fleet(folder, self.environment(), self.journal)
        self.schedules: list[Schedule] = []
        self.note: Callable[[str], None] = lambda text: None
        #: Adds to a monotonic moment to make it one since 1970, by this host's true clock.
        self.epoch = time.time() - time.monotonic()

    @property
    def kind(self) -> str:
        return self.server.kind

    def times(self, full: int, least: int = 1) -> int:
        """So many at full size, fewer at a smaller one."""
        return max(least, round(full * self.size))

    def environment(self, port: int | None = None) -> dict[str, str]:
        """What tells a process where the database is."""
        return self.server.environment(port) | {"LINOD_FAULTS_RUN_DIR": str(self.server.folder)}

    # The rows

    def schedule(self, tasks: Sequence[Schedule]) -> list[Schedule]:
        """Make the rows of tasks, and expect their instants."""
        written = schedules.write_rows(tasks)
        self.schedules += written
        return written

    def curtail(self) -> None:
        """Let no instant come any more: nothing is left to inject.

        A task ends before the instant that it would have next, whoever works on it meanwhile.
        """
        from django.db import connection
        from django.db.models import F

        from linod.models import BackgroundTask

        connection.close()  # a fault may have cut it
        for number, task in enumerate(self.schedules):
            seen = BackgroundTask.objects.filter(pk=task.task)
            while (found := seen.values("version", "next_run_at").get())["next_run_at"]:
                if seen.filter(**found).update(next_run_at=None, version=F("version") + 1):
                    last = int(found["next_run_at"].timestamp()) - 1
                    self.schedules[number] = schedules.replace(task, last=last)

    def settle(self, seconds: float = 60.0) -> float:
        """Wait until no instant is to come and no job is active.

        Returns the seconds that it took since the last instant, or since now if that is past.
        """
        from django.db import connection

        from linod.models import BackgroundTask, Job

        connection.close()  # a fault may have cut it
        began = time.monotonic()
        last = max((task.last for task in self.schedules), default=0) - self.epoch

        def is_quiet() -> bool:
            due = BackgroundTask.objects.filter(next_run_at__isnull=False)
            open_jobs = Job.objects.exclude(state__in=list(history.FINAL))
            if due.exists() or open_jobs.exists():
                time.sleep(0.2)
                return False
            return True

        with suppress(TimeoutError):  # the checker says what has not
            wait_until(is_quiet, max(last - began, 0) + seconds, "everything has ended")
        return time.monotonic() - max(began, last)

    def jobs(self) -> list[JobRow]:
        from linod.models import Job

        columns = ("id", "task_id", "due_at", "trigger", "attempt", "state", "missed", "owner",
                   "fence")  # fmt: skip
        return [
            JobRow(pk.hex, task, due.timestamp(), trigger, attempt, state, missed,
                   owner.hex if owner else "", fence)
            for pk, task, due, trigger, attempt, state, missed, owner, fence
            in Job.objects.values_list(*columns).iterator(5000)
        ]  # fmt: skip

    def decisions(self) -> list[DecisionRow]:
        from linod.models import Decision

        rows = Decision.objects.values_list("task_id", "due_at", "kind", "reason")
        return [
            DecisionRow(task, due.timestamp() if due else None, kind, reason)
            for task, due, kind, reason in rows.iterator(5000)
        ]

    def lines(self) -> list[Line]:
        return journal.read(self.journal)

    def verdict(self) -> Verdict:
        """Compare everything."""
        return history.check(
            self.schedules, self.jobs(), self.decisions(), self.lines(), self.owners()
        )

    def tell(self, verdict: Verdict) -> None:
        """Show what must not be."""
        for line in verdict.shown():
            self.note(line)

    def owners(self) -> dict[int, str]:
        """The owner of each process that came up."""
        from linod.models import Daemon

        rows = Daemon.objects.order_by("started_at").values_list("pid", "owner")
        return {pid: owner.hex for pid, owner in rows}

    def delays(self, lines: Iterable[Line]) -> list[float]:
        """Seconds from the due instants to the begin of their bodies."""
        return [line.at + self.epoch - line.due for line in lines if line.event == journal.BEGIN]

    def forget(self) -> None:
        """Leave no row."""
        from django.db import connection

        from linod.models import BackgroundTask, Daemon, Decision, Job, JobLog

        for model in (JobLog, Decision, Job, BackgroundTask, Daemon):
            model.objects.all()._raw_delete(connection.alias)

    # While it goes on

    @contextmanager
    def watched(self) -> Iterator[Watch]:
        """Look meanwhile who holds jobs."""
        watch = Watch()
        watch.start()
        try:
            yield watch
        finally:
            watch.stop()

    def clean(self) -> None:
        """Remove the files."""
        shutil.rmtree(self.folder, ignore_errors=True)


class Watch(threading.Thread):
    """Notes when each owner was last seen to hold a job that is not final."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.last_held: dict[str, float] = {}
        self._stopping = threading.Event()

    def run(self) -> None:
        from django.db import DatabaseError, InterfaceError, connection

        from linod.models import Job

        while not self._stopping.wait(0.1):
            try:
                asked = time.monotonic()
                held = Job.objects.filter(lease_until__isnull=False).order_by()
                for owner in held.values_list("owner", flat=True).distinct():
                    self.last_held[owner.hex if owner else ""] = asked
            except (DatabaseError, InterfaceError):
                connection.close()
        connection.close()

    def stop(self) -> None:
        self._stopping.set()
        self.join()


def once_per_instant(verdict: Verdict) -> list[Finding]:
    """The figures that every experiment shares."""
    return [
        Finding("instants", f"{verdict.instants:,}"),
        none("missing", verdict.count("missing", "unfinished")),
        none("doubled", verdict.count("doubled", "unexpected")),
        none("bodies twice", verdict.count("body twice", "body unknown", "overlap")),
        none("outcomes that contradict the file", verdict.count("outcome")),
    ]


def percentile(values: Sequence[float], percent: float) -> float:
    """The value that so many percent do not exceed; 0 of nothing."""
    if not values:
        return 0.0
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * percent / 100), len(ordered) - 1)]


def median(values: Sequence[float]) -> float:
    """Their median; 0 of nothing."""
    return statistics.median(values) if values else 0.0
