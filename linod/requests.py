"""The request: what a procedure receives as ``ar``."""

from __future__ import annotations

import copy
import functools
import logging
import math
import sys
import traceback
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from django.core.exceptions import ObjectDoesNotExist

from linod.capture import Capture, storable, without_secrets
from linod.choices import LogLevels
from linod.conf import config
from linod.exceptions import Interruption, JobCancelled
from linod.phrases import did_you_mean

if TYPE_CHECKING:
    from linod.models import BackgroundTask, Job

#: Where a procedure's lines go beside its job's log; they travel up to the site's handlers.
logger = logging.getLogger("linod")
job_logger = logging.getLogger("linod.job")
_HERE = __file__
#: How many users are looked through for a name that was perhaps meant.
LOOKED_AT = 1000


class Sink(Protocol):
    """What whoever runs a job does with what its body says."""

    def progress(self, done: float, total: float | None, text: str) -> None:
        """Show how far the job is; must be quick, may skip."""

    def guard(self) -> None:
        """Raise :class:`linod.exceptions.NotMine` unless the job is still this owner's."""

    def read_task(self) -> BackgroundTask | None:
        """The task's row."""

    def read_job(self) -> Job | None:
        """The job's row."""


class Cancellation:
    """A flag that says: stop, and why."""

    def __init__(self) -> None:
        self._said: tuple[str, type[Interruption]] | None = None

    def set(self, reason: str, kind: type[Interruption] = JobCancelled) -> None:
        """Ask the body to stop; the first reason stands."""
        # One value, set at once: a reader never sees one caller's reason with another's kind.
        self._said = self._said or (reason, kind)

    def is_set(self) -> bool:
        """Whether somebody asked the body to stop."""
        return self._said is not None

    @property
    def reason(self) -> str:
        """Why; empty as long as nobody asked."""
        return self._said[0] if self._said else ""

    @property
    def kind(self) -> type[Interruption]:
        """What the body raises."""
        return self._said[1] if self._said else JobCancelled


class BaseRequest:
    """On whose behalf, for which job and with which arguments a procedure runs; its voice, too.

    :param user: the user that the procedure acts for, or None.
    :param logger: where its lines go beside the job's own log.
    :param log_level: lines below this level (a name of ``LogLevels``) are dropped.
    """

    def __init__(
        self,
        user: Any = None,
        logger: logging.Logger | None = None,
        *,
        task: BackgroundTask | None = None,
        job: Job | None = None,
        due_at: datetime | None = None,
        arguments: Any = None,
        log_level: str = "INFO",
        capture: Capture | None = None,
        sink: Sink | None = None,
        cancellation: Cancellation | None = None,
    ) -> None:
        self.user = user
        self.logger = logger or job_logger
        if task is not None:
            self.task = task
        if job is not None:
            self.job = job
        self.due_at = due_at
        self._arguments: Any = {} if arguments is None else copy.copy(arguments)
        self.log_level = log_level
        self._lowest: int = (LogLevels.get_by_name(log_level) or LogLevels.INFO).num_value
        self.cancellation = cancellation or Cancellation()
        self._capture = capture
        self._sink = sink

    @functools.cached_property
    def task(self) -> BackgroundTask | None:
        """The task's row, read when it is first asked for; None for ad-hoc work."""
        return None if self._sink is None else self._sink.read_task()

    @functools.cached_property
    def job(self) -> Job | None:
        """The job's row, read when it is first asked for; None outside of a job."""
        return None if self._sink is None else self._sink.read_job()

    @property
    def arguments(self) -> dict[str, Any]:
        """What the task's row says to the procedure.

        Raises TypeError when the row holds something else than a JSON object.
        """
        if not isinstance(self._arguments, dict):
            raise TypeError(f"arguments: must be a JSON object, not {self._arguments!r:.80}")
        return self._arguments

    def log(self, level: int, message: object, *args: object, **options: Any) -> None:
        """Say something at a numeric level; ``args`` are merged into the message with ``%``.

        The record reaches the job's log whatever level the logger has: the task's level decides.
        """
        if level < self._lowest:
            return
        filename, line, function, stack = _caller(bool(options.pop("stack_info", False)))
        exc_info = options.pop("exc_info", None)
        if isinstance(exc_info, BaseException):
            exc_info = (type(exc_info), exc_info, exc_info.__traceback__)
        elif exc_info:
            exc_info = sys.exc_info()
        record = self.logger.makeRecord(
            self.logger.name,
            level,
            filename,
            line,
            message,
            args,
            exc_info,
            function,
            options.pop("extra", None),
            stack,
        )
        if options:
            raise TypeError(f"ar.log() knows no option {next(iter(options))!r}")
        record.linod_request = True
        if self._capture is not None:
            self._capture.add(record)
        self.logger.handle(record)

    def debug(self, message: object, *args: object, **options: Any) -> None:
        """Say a detail that only a developer wants."""
        self.log(logging.DEBUG, message, *args, **options)

    def info(self, message: object, *args: object, **options: Any) -> None:
        """Say what is going on."""
        self.log(logging.INFO, message, *args, **options)

    def warning(self, message: object, *args: object, **options: Any) -> None:
        """Say what somebody should know."""
        self.log(logging.WARNING, message, *args, **options)

    def error(self, message: object, *args: object, **options: Any) -> None:
        """Say what went wrong."""
        self.log(logging.ERROR, message, *args, **options)

    def critical(self, message: object, *args: object, **options: Any) -> None:
        """Say what must not wait."""
        self.log(logging.CRITICAL, message, *args, **options)

    def exception(self, message: object, *args: object, **options: Any) -> None:
        """Say what went wrong, with the traceback of the exception being handled."""
        self.log(logging.ERROR, message, *args, **{"exc_info": True, **options})

    async def adebug(self, message: object, *args: object, **options: Any) -> None:
        """:meth:`debug` for a caller that awaits."""
        self.debug(message, *args, **options)

    async def ainfo(self, message: object, *args: object, **options: Any) -> None:
        """:meth:`info` for a caller that awaits."""
        self.info(message, *args, **options)

    async def awarning(self, message: object, *args: object, **options: Any) -> None:
        """:meth:`warning` for a caller that awaits."""
        self.warning(message, *args, **options)

    async def aerror(self, message: object, *args: object, **options: Any) -> None:
        """:meth:`error` for a caller that awaits."""
        self.error(message, *args, **options)

    async def acritical(self, message: object, *args: object, **options: Any) -> None:
        """:meth:`critical` for a caller that awaits."""
        self.critical(message, *args, **options)

    def progress(self, done: float, total: float | None = None, text: str = "") -> None:
        """Show how far the job is: ``done`` of ``total`` (None: unknown), and what it does now.

        Raises TypeError or ValueError when these are no finite numbers.
        """
        self.check_cancelled()
        done, total = _finite(done), None if total is None else _finite(total)
        if self._sink is not None:
            self._sink.progress(done, total, storable(without_secrets(text)))

    def check_cancelled(self) -> None:
        """Raise an :class:`linod.exceptions.Interruption` if somebody asked this job to stop."""
        if self.cancellation.is_set():
            raise self.cancellation.kind(self.cancellation.reason)

    def guard(self) -> None:
        """Inside your own transaction: raise ``NotMine`` unless this job is still yours.

        It updates the job's row on the condition that its owner and fence are unchanged, so a
        taken-over job cannot commit what it wrote in the same transaction.
        """
        if self._sink is not None:
            self._sink.guard()


def _finite(number: float) -> float:
    if not math.isfinite(number):
        raise ValueError(f"ar.progress() takes finite numbers, not {number!r}")
    return number if isinstance(number, int) else float(number)


def _caller(with_stack: bool) -> tuple[str, int, str, str | None]:
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename == _HERE:
        frame = frame.f_back
    stack = None
    if with_stack:
        stack = "Stack (most recent call last):\n" + "".join(traceback.format_stack(frame))
    return frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name, stack


class _CurrentOutput(logging.StreamHandler[TextIO]):
    """Writes to whatever ``sys.stdout`` is at that moment (doctest and pytest replace it)."""

    def __init__(self) -> None:
        super().__init__(sys.stdout)

    @property
    def stream(self) -> TextIO:
        return sys.stdout

    @stream.setter
    def stream(self, value: TextIO) -> None:
        """Ignored: the stream is always the current one."""


@functools.cache
def terminal_logger() -> logging.Logger:
    """A logger that writes plain messages to the current ``sys.stdout`` and nowhere else."""
    # One of its own, which the site's LOGGING does not know and so cannot change.
    logger = logging.Logger("linod.terminal", logging.DEBUG)  # noqa: LOG001
    logger.addHandler(_CurrentOutput())
    return logger


def login(username: str | None = None) -> BaseRequest:
    """A request of that user whose log goes to the current ``sys.stdout``; for the shell and tests.

    Raises the user model's ``DoesNotExist`` when there is no such user, with the nearest name.
    """
    user = None
    if username is not None:
        try:
            user = _user_named(username)
        except ObjectDoesNotExist as error:
            raise type(error)(f"There is no user {username!r}{_near_user(username)}") from None
    return BaseRequest(user, terminal_logger())


def _user_named(username: str) -> Any:
    from django.contrib.auth import get_user_model

    return get_user_model()._default_manager.get_by_natural_key(username)


def _near_user(username: str) -> str:
    from django.contrib.auth import get_user_model

    users = get_user_model()
    field = users.USERNAME_FIELD
    names = users._default_manager.order_by(field).values_list(field, flat=True)[:LOOKED_AT]
    return did_you_mean(str(username), map(str, names))


def daemon_user() -> Any:
    """The user that jobs of the daemon run for: ``DAEMON_USER``; nobody when there is none."""
    name = config().DAEMON_USER
    if name is None:
        return None
    try:
        return _user_named(name)
    except ObjectDoesNotExist:
        logger.warning("LINOD['DAEMON_USER']: there is no user %r; ar.user will be None", name)
        return None
