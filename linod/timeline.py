"""A day of the site as lanes: one for each task, with its runs and its planned instants.

The drawing is measured in minutes from the window's begin, so that a lane is an SVG as wide as the
window has minutes, however wide it is shown. What is shorter than a stroke is drawn as a stroke.
"""

from __future__ import annotations

import uuid
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.utils import timezone

from linod.exceptions import InvalidRecurrence, MissingExtra
from linod.history import Job
from linod.models import BackgroundTask
from linod.planning import comes_after
from linod.recent import first_id

#: What the window shows of the past and of the future; together a day.
PAST, AHEAD = timedelta(hours=18), timedelta(hours=6)
#: The window's width in minutes.
WIDTH = int((PAST + AHEAD) / timedelta(minutes=1))
#: Minutes that the shortest stroke takes; runs that are nearer to one another become one stroke.
STROKE = 4
#: A planned instant is a hollow mark: its middle must be seen.
HOLLOW = 8
#: How many jobs are read at a time; there are two readings at most.
LIMIT = 2000
#: A task with more planned instants than this has a band instead of marks.
MARKS = 60
#: Hours between two lines of the scale.
SCALE = 3

MINUTE = timedelta(minutes=1)
#: States worth a stroke of their own, which tells what it is.
NOTABLE = frozenset({Job.State.FAILED, Job.State.TIMED_OUT, Job.State.LOST, Job.State.CANCELLED})
#: A run that takes this many minutes gets a stroke of its own, too.
LONG = 5


class Run(NamedTuple):
    """A job as the timeline needs it; ``end`` is None while it runs."""

    id: uuid.UUID
    task_id: int
    state: str
    start: datetime
    end: datetime | None


@dataclass(frozen=True)
class Window:
    """The stretch of time that is shown; its bounds are whole minutes."""

    now: datetime

    @classmethod
    def around(cls, moment: datetime) -> Window:
        """The window at ``moment`` (aware)."""
        return cls(moment.replace(second=0, microsecond=0))

    @property
    def begin(self) -> datetime:
        """Its first minute."""
        return self.now - PAST

    @property
    def end(self) -> datetime:
        """Its last minute."""
        return self.now + AHEAD

    def x(self, moment: datetime) -> float:
        """Minutes from the begin, cut at both ends."""
        return min(max((moment - self.begin) / MINUTE, 0.0), float(WIDTH))

    @property
    def x_now(self) -> float:
        """Where the past ends."""
        return self.x(self.now)

    def scale(self) -> list[tuple[float, datetime]]:
        """Every third hour of the site's wall clock: where it stands, and the moment."""
        hours = (self.begin + timedelta(hours=n) for n in range(WIDTH // 60 + 1))
        full = [timezone.localtime(hour).replace(minute=0) for hour in hours]
        return [
            (self.x(hour), hour)
            for hour in full
            if hour.hour % SCALE == 0 and self.begin <= hour <= self.end
        ]


@dataclass(frozen=True)
class Stroke:
    """A stretch of a lane: ``x`` and ``width`` in minutes."""

    x: float
    width: float
    state: str = ""
    run: Run | None = None

    @property
    def is_bad(self) -> bool:
        """Whether it must catch the eye, not by its colour only."""
        return self.state in NOTABLE


@dataclass
class Lane:
    """What is drawn for one task."""

    task: BackgroundTask
    runs: int = 0
    failures: int = 0
    #: Ordinary runs that are too short to be told apart.
    quiet: list[Stroke] = field(default_factory=list)
    #: Runs that are long, have failed or are going on.
    notable: list[Stroke] = field(default_factory=list)
    planned: list[Stroke] = field(default_factory=list)
    #: Planned so often that marks would touch.
    band: Stroke | None = None
    #: Before this its runs are too many to be read.
    unread: Stroke | None = None


def lanes(using: str, tasks: Sequence[BackgroundTask], window: Window) -> list[Lane]:
    """A lane for each task, in their order."""
    runs, unread = read_runs(using, [task.pk for task in tasks], window)
    by_task: dict[int, list[Run]] = defaultdict(list)
    for run in runs:
        by_task[run.task_id].append(run)
    return [draw(task, by_task[task.pk], unread.get(task.pk), window) for task in tasks]


def read_runs(
    using: str, tasks: Sequence[int], window: Window
) -> tuple[list[Run], dict[int, datetime]]:
    """The tasks' runs of the window, newest first.

    When there are too many, those of the tasks that run most often are read as far as the first
    reading went, so that they leave room for the others; the second answer says for which tasks,
    and until when.
    """
    jobs = (
        Job.objects.using(using)
        .filter(task_id__in=tasks, id__gte=first_id(window.begin), start_time__isnull=False)
        .order_by("-id")
        .values_list("id", "task_id", "state", "start_time", "end_time")
    )
    found = _as_runs(jobs[:LIMIT])
    if len(found) < LIMIT:
        return found, {}
    often = {
        task
        for task, number in Counter(run.task_id for run in found).items()
        if number * len(tasks) >= LIMIT
    }
    unread = dict.fromkeys(often, found[-1].start)
    others = [task for task in tasks if task not in often]
    older = jobs.filter(task_id__in=others, id__lt=found[-1].id)[:LIMIT]
    found += _as_runs(older)
    if len(found) == 2 * LIMIT:
        unread |= dict.fromkeys(others, found[-1].start)
    return found, unread


def _as_runs(rows: Iterable[tuple[Any, ...]]) -> list[Run]:
    return [Run(*values) for values in rows]


def draw(
    task: BackgroundTask, runs: Iterable[Run], unread: datetime | None, window: Window
) -> Lane:
    """The lane of one task; ``runs`` in any order."""
    lane = Lane(task)
    for run in sorted(runs, key=lambda run: run.start):
        lane.runs += 1
        lane.failures += run.state in NOTABLE and run.state != Job.State.CANCELLED
        x = window.x(run.start)
        width = max(window.x(run.end or window.now) - x, STROKE)
        if run.state in NOTABLE or run.end is None or width >= LONG:
            lane.notable.append(Stroke(x, width, run.state, run))
        else:
            _append(lane.quiet, x, width)
    if unread is not None:
        lane.unread = Stroke(0.0, window.x(unread))
    _plan(lane, task, window)
    return lane


def _append(strokes: list[Stroke], x: float, width: float) -> None:
    """Add a stroke; one that touches its neighbour makes that longer."""
    if strokes and x <= strokes[-1].x + strokes[-1].width + 1:
        last = strokes.pop()
        x, width = last.x, max(x + width, last.x + last.width) - last.x
    strokes.append(Stroke(x, width))


def _plan(lane: Lane, task: BackgroundTask, window: Window) -> None:
    after = comes_after(task, window.now)
    if after is None or after > window.end or not task.procedure.is_known:
        return
    try:
        rule = task.recurrence
    except (InvalidRecurrence, MissingExtra):
        return  # the table of tasks says so
    moments = rule.between(after, window.end, MARKS + 1)
    if len(moments) > MARKS:
        x = window.x(moments[0])
        lane.band = Stroke(x, WIDTH - x)
    else:
        lane.planned = [Stroke(window.x(moment), HOLLOW) for moment in moments]
