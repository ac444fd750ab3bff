"""What the live page tells, read from the rows at one moment.

"Late" and "silent" mean what ``manage.py linod --health`` means by them.
"""

from __future__ import annotations

import os
import re
import socket
import statistics
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path

from django.db.models import Count, OuterRef, Q, QuerySet, Subquery

from linod.conf import config
from linod.history import Daemon, Decision, Job
from linod.models import BackgroundTask
from linod.procedures import Procedures
from linod.recent import first_id

#: How many tasks a card names.
NAMED = 5
#: How many failures are shown, and how long ago they may be.
FAILURES, RECENT = 10, timedelta(hours=24)
#: The starts by whose lateness the page says whether the site is on time.
STARTS, STARTS_WITHIN = 50, timedelta(minutes=10)
#: Lines of the site's log, and how much of the file is read for them.
LOG_LINES, LOG_BYTES = 40, 32 * 1024
#: Seconds that the log server gets to answer.
PATIENCE = 0.2

SWITCHES = (
    Decision.Kind.QUARANTINED,
    Decision.Kind.DISABLED,
    Decision.Kind.ENABLED,
    Decision.Kind.EDITED,
)
_LEVEL = re.compile(r"\b(DEBUG|INFO|WARNING|ERROR|CRITICAL)\b")
#: Controls, and marks that turn text round.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
#: What the log server adds for itself: the number of a record, and lines of its own.
_NUMBER = re.compile(r" #[0-9]+-[0-9a-f]{8}:[0-9]+(\+[0-9]+)?$")
_CHECKPOINT = "#linod checkpoint "


class Overview:
    """The state of the site at one moment; what several parts of the page need is read once.

    :param using: the alias of the database that holds linod's rows.
    :param now: the moment, aware.
    """

    def __init__(self, using: str, now: datetime) -> None:
        self.using = using
        self.now = now
        #: Jobs whose body is at work, the newest last.
        self.running = [job for job in self._active_jobs() if job.state == Job.State.RUNNING]

    def _active_jobs(self) -> list[Job]:
        # Only jobs that are held have a lease; their index finds them among all the others.
        held = Job.objects.using(self.using).active().filter(lease_until__isnull=False)
        jobs = list(held.defer("arguments", "error", "result").order_by("id"))
        self.held = {job.task_id for job in jobs if job.task_id is not None}
        return jobs

    @cached_property
    def running_since(self) -> dict[int, datetime]:
        """When the bodies at work began, by their tasks."""
        return {
            job.task_id: job.start_time
            for job in self.running
            if job.task_id is not None and job.start_time is not None
        }

    # Tasks, chosen by adjectives

    def tasks(self) -> QuerySet[BackgroundTask]:
        """All tasks by their number, without the logs of their last runs."""
        return BackgroundTask.objects.using(self.using).order_by("seqno", "pk").defer("message")

    @cached_property
    def is_failing(self) -> Q:
        """Its last run failed for good, or its own fault put it aside."""
        return Q(failures__gt=0) | Q(pk__in=self._put_aside())

    def _put_aside(self) -> list[int]:
        switches = Decision.objects.using(self.using).filter(task=OuterRef("pk"), kind__in=SWITCHES)
        newest = switches.order_by("-at", "-id").values("kind")[:1]
        disabled = self.tasks().filter(disabled=True, disabled_until=None, failures=0)
        found = disabled.exclude(disabled_reason="").annotate(switch=Subquery(newest))
        return list(found.filter(switch=Decision.Kind.QUARANTINED).values_list("pk", flat=True))

    @property
    def is_late(self) -> Q:
        """It could have begun and has not, for longer than a lease and a poll."""
        limit = self.now - timedelta(seconds=config().LEASE + config().BACKGROUND_SLEEP_TIME)
        overdue = Q(next_run_at__lt=limit) | Q(requested_at__lt=limit)
        return overdue & Q(procedure__in=Procedures.known_names()) & ~Q(pk__in=self.held)

    @property
    def is_paused(self) -> Q:
        """It is disabled, and nothing is wrong with it."""
        return Q(disabled=True) & ~self.is_failing

    @property
    def is_running(self) -> Q:
        """A body is at work."""
        return Q(pk__in=list(self.running_since))

    def adjectives(self) -> dict[str, Q]:
        """What the page counts and lets one choose by."""
        return {
            "failing": self.is_failing,
            "late": self.is_late,
            "paused": self.is_paused,
            "running": self.is_running,
        }

    def counts(self) -> dict[str, int]:
        """How many tasks there are (``all``), and of each adjective."""
        wanted = {name: Count("pk", filter=q) for name, q in self.adjectives().items()}
        return BackgroundTask.objects.using(self.using).aggregate(all=Count("pk"), **wanted)

    def next_due(self) -> QuerySet[BackgroundTask]:
        """The idle tasks whose rules name the nearest instants."""
        known = self.tasks().filter(procedure__in=Procedures.known_names())
        idle = known.filter(next_run_at__isnull=False).exclude(pk__in=self.held)
        return idle.order_by("next_run_at", "seqno")[:NAMED]

    def failures(self) -> QuerySet[Job]:
        """The last failures, newest first."""
        ended = Job.objects.using(self.using).failed().filter(id__gte=first_id(self.now - RECENT))
        return ended.defer("arguments", "result", "progress").order_by("-id")[:FAILURES]

    # The site's health

    def daemons(self) -> list[Daemon]:
        """The daemons that have shown themselves within a lease, the oldest first."""
        limit = self.now - timedelta(seconds=config().LEASE)
        seen = Daemon.objects.using(self.using).filter(last_seen_at__gte=limit)
        return list(seen.exclude(state=Daemon.State.STOPPED).order_by("started_at"))

    def last_seen(self) -> datetime | None:
        """When any daemon showed itself last."""
        daemons = Daemon.objects.using(self.using).order_by("-last_seen_at")
        return daemons.values_list("last_seen_at", flat=True).first()

    def lateness(self) -> timedelta | None:
        """The median of the last starts by a rule; None when nothing has started lately."""
        jobs = Job.objects.using(self.using).filter(
            trigger=Job.Trigger.SCHEDULE,
            missed=0,
            start_time__isnull=False,
            id__gte=first_id(self.now - STARTS_WITHIN),
        )
        times = jobs.order_by("-id").values_list("start_time", "due_at")[:STARTS]
        late = [start - due for start, due in times if start is not None]
        return statistics.median_low(late) if late else None


# What a file and a socket tell


@dataclass(frozen=True)
class LogLine:
    """A line of the site's log; ``level`` is a lower-case name, or empty."""

    text: str
    level: str


def log_file() -> Path | None:
    """The site's log file; None when the site has none."""
    folder = config().LOG_DIR
    return None if folder is None else Path(folder) / config().LOG_FILE


def tail(path: Path) -> list[LogLine]:
    """The file's last lines; raises OSError when it cannot be read.

    A line without a level of its own, as those of a traceback, has the level of the line before.
    """
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - LOG_BYTES))
        lines = file.read(LOG_BYTES).decode("utf-8", "replace").splitlines()
    if size > LOG_BYTES:
        lines = lines[1:]  # the first one has lost its beginning
    found, level = [], ""
    for line in lines:
        if line.startswith(_CHECKPOINT):
            continue
        named = None if line.startswith((" ", "\t")) else _LEVEL.search(line, 0, 80)
        level = named[1].lower() if named else level
        found.append(
            LogLine(_CONTROL.sub("\N{REPLACEMENT CHARACTER}", _NUMBER.sub("", line)), level)
        )
    return found[-LOG_LINES:]


def log_server_answers() -> bool:
    """Whether somebody listens on the socket of the site's log server."""
    path = log_file()
    if path is None:
        return False
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(PATIENCE)
        try:
            probe.connect(str(path.with_name("linod.sock")))
        except OSError:
            return False
    return True
