"""Procedures from what a site has already: management commands, and jobs of ``schedule``."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from linod.exceptions import DuplicateProcedure
from linod.procedures import Procedure, Procedures, declare
from linod.rules import is_fraction

if TYPE_CHECKING:
    import schedule

    from linod.requests import BaseRequest


class _Lines:
    """A text stream that says each line through a request's method."""

    encoding = "utf-8"

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._rest = ""

    def write(self, text: str) -> int:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._say(line)
        return len(text)

    def flush(self) -> None:
        """Nothing waits but an unfinished line."""

    def close(self) -> None:
        if self._rest:
            self._say(self._rest)
            self._rest = ""

    def isatty(self) -> bool:
        return False


def command_procedure(
    command: str, *args: str, name: str = "", options: dict[str, Any] | None = None, **keywords: Any
) -> Procedure:
    """Declare a management command as a procedure; what it prints goes into the job's log.

    :param command: its name, as ``manage.py`` knows it; also the procedure's name.
    :param args: its arguments, as on the command line.
    :param options: its options, as ``call_command`` takes them.
    :param keywords: as for :func:`linod.background_task`.
    """

    def run_command(ar: BaseRequest) -> None:
        from django.core.management import call_command

        out = _Lines(lambda line: ar.info("%s", line))
        err = _Lines(lambda line: ar.warning("%s", line))
        given = {"no_color": True, **(options or {}), "stdout": out, "stderr": err}
        try:
            call_command(command, *args, **given)
        finally:
            out.close()
            err.close()

    run_command.__doc__ = f"Run the management command {command}."
    run_command.__name__ = name or command
    run_command.__qualname__ = f"command_procedure({' '.join((command, *args))!r})"
    caller = inspect.currentframe()
    if caller is not None and caller.f_back is not None:
        # Two that want one name are told apart by the module that declares them.
        run_command.__module__ = caller.f_back.f_globals.get("__name__", __name__)
    return declare(run_command, name or command, **keywords)


_UNITS = {
    "seconds": "secondly",
    "minutes": "minutely",
    "hours": "hourly",
    "days": "daily",
    "weeks": "weekly",
}


def adopt_schedule(scheduler: schedule.Scheduler | None = None) -> list[Procedure]:
    """Turn the jobs that the application made with the ``schedule`` package into procedures.

    Call it once, after they were made; the scheduler (default: the package's own) is emptied, so
    that nothing runs twice. Raises ValueError for a job that has no name or no counterpart here
    (a random interval, a fraction, a deadline), and
    :class:`linod.exceptions.DuplicateProcedure` for a name that is taken; nothing is adopted then.
    """
    import schedule

    scheduler = scheduler or schedule.default_scheduler
    wanted: dict[str, tuple[schedule.Job, dict[str, Any]]] = {}
    for job in scheduler.get_jobs():
        name, keywords = _declaration(job)
        other = wanted[name][0] if name in wanted else Procedures.get_by_name(name)
        if other is not None:
            there = other.where if isinstance(other, Procedure) else other
            raise DuplicateProcedure(f"Two procedures want the name {name!r}: {there} and {job}")
        wanted[name] = job, keywords
    procedures = []
    for name, (job, keywords) in wanted.items():
        procedures.append(declare(_caller(job), name, **keywords))
        scheduler.cancel_job(job)
    return procedures


def _caller(job: schedule.Job) -> Callable[[], Any]:
    body: Any = job.job_func

    def call() -> Any:
        return body()

    call.__doc__ = body.func.__doc__
    call.__name__ = body.func.__name__
    call.__module__ = body.func.__module__
    call.__qualname__ = body.func.__qualname__
    return call


def _declaration(job: schedule.Job) -> tuple[str, dict[str, Any]]:
    func = getattr(getattr(job, "job_func", None), "func", None)
    name = getattr(func, "__name__", "")
    if not re.fullmatch(r"[^\W\d]\w*", name):
        raise ValueError(f"{job}: only a named function can be adopted")
    if job.latest is not None or job.cancel_after is not None or job.unit not in _UNITS:
        raise ValueError(f"{job}: a random interval or a deadline cannot be adopted")
    if is_fraction(job.interval):
        raise ValueError(f"{job}: an interval of {job.interval} {job.unit} cannot be adopted")
    keywords: dict[str, Any] = {"every_unit": _UNITS[job.unit], "every": job.interval}
    if job.start_day is not None:
        keywords[job.start_day] = True
    if job.at_time is not None:
        keywords["start_time"] = job.at_time
    zone: Any = job.at_time_zone  # a pytz zone, which the package's types do not know
    if zone is not None:
        keywords["time_zone"] = str(zone)
    return name, keywords
