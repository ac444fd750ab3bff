"""One task, run in the foreground for a person who watches: ``--run NAME``."""

from __future__ import annotations

import logging
import os
import re
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TextIO

from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from linod import inline, terminal
from linod.exceptions import JobCancelled, UnknownProcedure
from linod.execution import Execution
from linod.history import Job
from linod.models import BackgroundTask
from linod.procedures import Procedures
from linod.requests import BaseRequest, daemon_user
from linod.status import decimal_text
from linod.sync import sync
from linod.terminal import visible

logger = logging.getLogger("linod")

#: Seconds between two pictures of the progress: on a terminal, and as plain lines elsewhere.
BAR_EVERY, LINE_EVERY = 0.1, 1.0
#: Characters of the bar itself.
BAR_WIDTH = 24


def find_task(using: str, name: str) -> BackgroundTask:
    """The task of that id ("8", "#8"), or the first by number of the procedure of that name.

    Raises :class:`linod.exceptions.UnknownProcedure`, with near names for a typing error.
    """
    sync(using)
    rows = BackgroundTask.objects.using(using).order_by("seqno", "pk")
    number = re.fullmatch(r"#?(\d{1,18})", name)
    found = (
        rows.filter(pk=int(number[1])) if number else rows.filter(procedure=Procedures.find(name))
    )
    task = found.first()
    if task is None:
        raise UnknownProcedure(gettext_noop("There is no background task %(name)r"), name=name)
    if not task.procedure.is_known:
        message = gettext_noop("%(task)s: its procedure is not declared here")
        raise UnknownProcedure(message, task=task)
    return task


class Screen(terminal.Unheard):
    """A job's lines on ``out`` and how far it is on ``err``: as a bar when that is a terminal."""

    def __init__(self, out: TextIO, err: TextIO) -> None:
        super().__init__(out)
        self.setFormatter(logging.Formatter("%(message)s"))
        self.err = err
        self.has_bar = err.isatty() and os.environ.get("TERM") != "dumb"
        self._bar = ""
        self._progress: tuple[float, float | None, str] | None = None
        self._next = 0.0

    def emit(self, record: logging.LogRecord) -> None:
        self._wipe()
        super().emit(record)
        self._draw()

    def say(self, text: str) -> None:
        """Tell something about the job that is not its own line."""
        with self:
            self._wipe()
            self.write(self.err, visible(text.rstrip("\n")) + "\n")
            self._draw()

    def show(self, done: float, total: float | None, text: str) -> None:
        """Show how far the job is, unless that was done a moment ago."""
        with self:
            self._progress = (done, total, text)
            if time.monotonic() >= self._next or done == total:
                self._picture()

    def close_bar(self) -> None:
        """The last picture, which stays."""
        with self:
            if self._progress is not None:
                self._picture()
            if self._bar:
                self.write(self.err, "\n")
                self._bar = ""

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *details: object) -> None:
        self.release()

    def _picture(self) -> None:
        assert self._progress is not None
        text = visible(progress_text(*self._progress), in_lines=False)
        self._progress = None
        self._next = time.monotonic() + (BAR_EVERY if self.has_bar else LINE_EVERY)
        if self.has_bar:
            self._bar = text[: shutil.get_terminal_size().columns - 1]
            self._draw()
        else:
            self.write(self.err, text + "\n")

    def _wipe(self) -> None:
        if self._bar:
            self.write(self.err, "\r\x1b[K")

    def _draw(self) -> None:
        if self._bar:
            self.write(self.err, f"\r{self._bar}\x1b[K")


def progress_text(done: float, total: float | None, text: str) -> str:
    """How far it is, in a line.

    >>> progress_text(36, 72, "pages"), progress_text(36, None, "")
    ('[############............]  50 % 36/72 pages', '36')
    """
    if total is None or total <= 0:
        return f"{done:.10g} {text}".rstrip()
    share = min(max(done / total, 0.0), 1.0)
    full = int(share * BAR_WIDTH)
    bar = "#" * full + "." * (BAR_WIDTH - full)
    return f"[{bar}] {int(share * 100):3d} % {done:.10g}/{total:.10g} {text}".rstrip()


class Interrupts:
    """What Ctrl-C and SIGTERM do while a job runs in the main thread.

    The first asks the body to stop; the second ends it, at once and recorded as cancelled; the
    third ends the process, and the job is given up when its lease is over.
    """

    def __init__(self, screen: Screen) -> None:
        self.screen = screen
        self.number = 0
        self._execution: Execution | None = None

    def watch(self, execution: Execution) -> None:
        """The body is about to begin."""
        self._execution = execution
        execution.on_progress = self.screen.show
        if self.number:
            self._ask()

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.number += 1
        if self.number == 1:
            self.screen.say(
                _("Cancelling: the procedure is asked to stop; Ctrl-C again ends it now")
            )
            self._ask()
        elif self.number == 2:
            self.screen.say(_("Ended now, by a second signal"))
            raise JobCancelled
        else:
            os._exit(1)

    def _ask(self) -> None:
        if self._execution is None:
            return
        self._execution.stop(_("from the terminal"))
        if self._execution.job.procedure.is_async:
            self._execution.interrupt()


@contextmanager
def _heeding(heed: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    former = {number: signal.signal(number, heed) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def run_task(task: BackgroundTask, out: TextIO, err: TextIO) -> bool:
    """Run a task here and now for a person who watches; whether it succeeded.

    Raises what :meth:`linod.models.BackgroundTask.run` raises.
    """
    screen = Screen(out, err)
    voice = logging.Logger("linod.job", logging.DEBUG)  # noqa: LOG001 - heard on the screen only
    voice.addHandler(screen)
    interrupts = Interrupts(screen)
    with terminal.shown(screen), _heeding(interrupts):
        request = BaseRequest(daemon_user(), voice)
        try:
            job = inline.run(task, request, watch=interrupts.watch)
        except JobCancelled:
            screen.say(_("The job has no outcome; it is given up when its lease is over"))
            return False
        finally:
            screen.close_bar()
    _say_outcome(screen, task, job)
    return job.state == Job.State.SUCCEEDED


def _say_outcome(screen: Screen, task: BackgroundTask, job: Job) -> None:
    if job.state != Job.State.SUCCEEDED and job.error:
        screen.say(job.error)
    seconds = job.duration.total_seconds() if job.duration is not None else 0.0
    ended = {
        "task": task,
        "state": job.get_state_display(),
        "seconds": decimal_text(seconds, 1),
    }
    screen.say(_("%(task)s %(state)s after %(seconds)s s") % ended)
    if job.state != Job.State.SUCCEEDED and task.disabled:
        words = {"task": task, "reason": task.disabled_reason}
        screen.say(_("%(task)s is disabled now: %(reason)s") % words)
