"""Running a task here and now, in the caller's process: ``BackgroundTask.run()`` and its twin."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from datetime import datetime, timedelta
from types import FrameType
from typing import Any, TypeVar

from asgiref.sync import sync_to_async
from django.db import OperationalError, connections
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from linod import capture, claims, leases, leftovers, pieces, transactions
from linod.conf import config
from linod.exceptions import InsideTransaction, JobCancelled, JobStopped, JobTimedOut
from linod.execution import Execution
from linod.heartbeat import Heartbeat
from linod.history import Job
from linod.models import BackgroundTask
from linod.procedures import Procedures
from linod.records import Finished, Terms
from linod.requests import BaseRequest

logger = logging.getLogger("linod")
Value = TypeVar("Value")

#: Seconds between two writes of a running job's log and progress.
WRITE_EVERY = 1.0
#: Times that a statement is tried which may work in a moment.
TRIES = 8


def run(
    task: BackgroundTask,
    ar: BaseRequest,
    lgr: logging.Logger | None = None,
    *,
    watch: Callable[[Execution], None] | None = None,
) -> Job:
    """See :meth:`linod.models.BackgroundTask.run`.

    :param watch: is given the execution just before its body begins, to follow or to stop it.
    """
    terms = _terms(task)
    execution = _begin(task, ar, lgr, terms)
    if watch is not None:
        watch(execution)
    with _kept_alive(execution, terms), bounded(execution), _heeding_ctrl_c(execution) as pressed:
        outcome = execution.call()
    job = _end(task, terms, execution.finished(outcome))
    if pressed:
        raise KeyboardInterrupt
    return job


async def arun(task: BackgroundTask, ar: BaseRequest, lgr: logging.Logger | None = None) -> Job:
    """See :meth:`linod.models.BackgroundTask.arun`.

    A caller that is cancelled cancels the job, and waits until that is recorded.
    """
    terms = _terms(task)
    # Behind async_to_sync() waits a thread with a connection, perhaps a transaction, of its own.
    await sync_to_async(_refuse_inside_transaction)(task, terms.using)
    execution: Execution | None = None
    is_cancelled = False

    async def run_whole() -> Job:
        nonlocal execution
        execution = await in_own_thread(lambda: _begin(task, ar, lgr, terms))
        if is_cancelled:
            _cancel(execution, _("its caller was cancelled"))
        with _kept_alive(execution, terms), bounded(execution):
            if execution.job.procedure.is_async:
                outcome = await execution.acall()
            else:
                outcome = await in_own_thread(execution.call)
        finished = execution.finished(outcome)
        return await in_own_thread(lambda: _end(task, terms, finished))

    whole = asyncio.create_task(run_whole())
    try:
        return await asyncio.shield(whole)
    except asyncio.CancelledError:
        is_cancelled = True
        if execution is not None:
            _cancel(execution, _("its caller was cancelled"))
        await asyncio.wait({whole})
        raise


def _terms(task: BackgroundTask) -> Terms:
    using = task._state.db or config().DATABASE
    _refuse_inside_transaction(task, using)
    Procedures.find(task.procedure.name)
    return Terms(using, uuid.uuid4(), config().LEASE, socket.gethostname())


def _refuse_inside_transaction(task: BackgroundTask, using: str) -> None:
    if connections[using].in_atomic_block:
        raise InsideTransaction(gettext_noop("%(task)s: call it outside of atomic()"), task=task)


def _begin(
    task: BackgroundTask, ar: BaseRequest, lgr: logging.Logger | None, terms: Terms
) -> Execution:
    user_id = getattr(ar.user, "pk", None)
    job = _insist(terms.using, lambda: claims.claim_now(terms, task, user_id))
    execution = Execution(
        job,
        terms.using,
        _moment(job.due_at),
        user=ar.user,
        logger=lgr or ar.logger,
        task=task,
        held=leftovers.open_transactions(),
    )
    capture.install(min(execution.log.level, logging.INFO))
    return execution


def _moment(now: datetime) -> Callable[[], datetime]:
    """The database's time from here on, by the monotonic clock."""
    began = time.monotonic()
    return lambda: now + timedelta(seconds=time.monotonic() - began)


def _end(task: BackgroundTask, terms: Terms, finished: Finished) -> Job:
    for refused in _insist(terms.using, lambda: _record(terms, finished)):
        logger.warning("%s", refused.refusal)
    task.reread()
    return Job.objects.using(terms.using).get(pk=finished.job.id)


def _record(terms: Terms, finished: Finished) -> list[Finished]:
    refused = claims.finish(terms, [finished])
    if finished.is_held_up:
        raise OperationalError(f"{finished.job.label}: somebody else has locked its row for long")
    return refused


def _insist(using: str, action: Callable[[], Value]) -> Value:
    """Do it, again when it failed for a reason that may pass; the last failure is raised."""
    for attempt in range(TRIES):
        try:
            return action()
        except Exception as error:
            if attempt == TRIES - 1 or not transactions.is_passing(error):
                raise
            connections[using].close()
            time.sleep(0.05 * 2**attempt)
    raise AssertionError("unreachable")


@contextmanager
def _kept_alive(execution: Execution, terms: Terms) -> Iterator[None]:
    """Renew the lease, write the log and hear cancellations while the body runs."""
    renewed = time.monotonic()

    def beat() -> None:
        nonlocal renewed
        if execution.cancellation.is_set():
            execution.interrupt()  # it had the time from one beat to the next to notice
        if time.monotonic() - renewed >= terms.lease / 3:
            leases.heartbeat(terms)
            renewed = time.monotonic()
        piece = execution.take_piece()
        try:
            cancelled = pieces.tend(terms, [piece] if piece is not None else [])
        except Exception:
            if piece is not None:
                execution.take_back(piece)
            raise
        if cancelled:
            _cancel(execution, _("somebody cancelled it"))

    heart = Heartbeat(
        beat,
        using=terms.using,
        interval=min(WRITE_EVERY, terms.lease / 3),
        patience=terms.lease * 5 / 6,
        distrust=lambda: execution.stop(_("its lease could not be renewed"), JobStopped),
    )
    heart.start()
    try:
        yield
    finally:
        heart.stop()


def _cancel(execution: Execution, reason: str) -> None:
    """Ask the body to stop; an async one hears it at its next await."""
    execution.stop(reason)
    if execution.job.procedure.is_async:
        execution.interrupt()


@contextmanager
def bounded(execution: Execution) -> Iterator[None]:
    """Interrupt the body when its time is over."""
    if execution.job.timeout is None:
        yield
        return

    def time_out() -> None:
        reason = _("it ran longer than %s s") % f"{execution.job.timeout:g}"
        execution.stop(reason, JobTimedOut)
        execution.interrupt()

    timer = threading.Timer(execution.job.timeout, time_out)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@contextmanager
def _heeding_ctrl_c(execution: Execution) -> Iterator[list[int]]:
    """In a shell, Ctrl-C cancels the job: it is no failure of the procedure.

    Yields a list that holds the signal when it came. Where somebody else handles it, they do.
    """
    pressed: list[int] = []
    is_shell = threading.current_thread() is threading.main_thread() and (
        signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
    if not is_shell:
        yield pressed
        return

    def heed(number: int, frame: FrameType | None) -> None:
        pressed.append(number)
        execution.stop(_("from the terminal"))
        execution.body.strike(JobCancelled)

    signal.signal(signal.SIGINT, heed)
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


async def in_own_thread(action: Callable[[], Value]) -> Value:
    """Run something that waits in a thread of its own, whose database connections end with it.

    Not ``sync_to_async``: its thread-sensitive mode queues all callers in one thread.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Value] = loop.create_future()
    context = copy_context()

    def work() -> None:
        try:
            value: Any = context.run(action)
        except BaseException as error:  # noqa: BLE001 - raised again in the awaiting task
            loop.call_soon_threadsafe(_settle, future.set_exception, error)
        else:
            loop.call_soon_threadsafe(_settle, future.set_result, value)
        finally:
            connections.close_all()

    def _settle(setter: Callable[[Any], None], value: Any) -> None:
        if not future.done():
            setter(value)

    threading.Thread(target=work, name="linod-inline", daemon=True).start()
    return await future
