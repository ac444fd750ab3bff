"""Calling a body: capture its log, bound it, say what came of it.

Nothing here knows rows: :class:`linod.requests.BaseRequest` writes through the sink that whoever
runs the job provides, and the outcome is a value for them to record.
"""

from __future__ import annotations

import asyncio
import ctypes
import inspect
import json
import logging
import threading
import traceback
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder

from linod import capture as capturing
from linod.capture import Capture, storable, without_secrets
from linod.exceptions import Interruption, JobCancelled, JobStopped, JobTimedOut, NotMine
from linod.procedures import Procedure
from linod.requests import BaseRequest

#: Longest result that is kept, in characters of JSON.
RESULT_LIMIT = 64 * 1024
#: Whose frames a reader does not want to see: a body's begin behind them.
OUR_FILES = (__file__, Procedure.run.__code__.co_filename)
#: Longest error that is kept, in characters; its end says most.
ERROR_LIMIT = 64 * 1024


@dataclass(slots=True)
class Outcome:
    """What came of a body: a final state of a job, the error's traceback, and the result."""

    state: str
    error: str = ""
    result: Any = None


class Body:
    """One call of a procedure that others may interrupt from outside.

    Cancelling is cooperative first (``ar.check_cancelled()``); :meth:`interrupt` then raises an
    exception inside the body, at its next bytecode when it is a thread, at its next await when it
    is a coroutine. A thread inside a C call notices only when the call returns.
    """

    def __init__(self, procedure: Procedure, ar: BaseRequest, log: Capture) -> None:
        self.procedure = procedure
        self.ar = ar
        self.log = log
        self._lock = threading.Lock()
        self._thread: int | None = None
        self._task: asyncio.Task[Any] | None = None
        self._interruption: type[Interruption] | None = None
        self._is_cancelling = False

    @property
    def was_interrupted(self) -> bool:
        """Whether somebody raised something inside it, or was about to."""
        return self._interruption is not None

    def call(self) -> Outcome:
        """Run a sync body in this thread, an async one in an event loop of its own."""
        token = capturing.current.set(self.log)
        try:
            value = self._call_in_thread()
            # Asked of the value: a decorator that is not async hides a function that is.
            if inspect.iscoroutine(value):
                return asyncio.run(self._await(value))
            return self._succeeded(value)
        except BaseException as error:  # noqa: BLE001 - SystemExit of a body must not end the daemon
            return self._failed(error)
        finally:
            capturing.current.reset(token)

    async def acall(self) -> Outcome:
        """Run an async body in the current event loop."""
        token = capturing.current.set(self.log)
        try:
            return await self._await(self.procedure.run(self.ar))
        finally:
            capturing.current.reset(token)

    async def _await(self, body: Coroutine[Any, Any, Any]) -> Outcome:
        try:
            with self._lock:
                self._task = asyncio.current_task()
                self._check_interruption()
            return self._succeeded(await body)
        except BaseException as error:  # noqa: BLE001 - a body may raise anything; nothing may leave
            return self._failed(error)
        finally:
            body.close()
            with self._lock:
                if self._task is not None and self._is_cancelling:
                    self._task.uncancel()
                self._task = None

    def interrupt(self, kind: type[Interruption]) -> None:
        """Raise ``kind`` inside the body; before it began: as soon as it does; afterwards: nothing.

        Once: a body that is cleaning up is not interrupted again.
        """
        with self._lock:
            if self._interruption is not None:
                return
            self._interruption = kind
            if self._thread is not None:
                _raise_in_thread(self._thread, kind)
            elif self._task is not None:
                self._task.get_loop().call_soon_threadsafe(self._cancel_task)

    def strike(self, kind: type[Interruption]) -> None:
        """:meth:`interrupt` for a signal's handler in the body's own thread: it may wait in C.

        The handler may strike anywhere, also where this thread holds the lock: so none is taken.
        """
        if self._task is not None:
            self._task.get_loop().call_soon_threadsafe(self.interrupt, kind)
        elif self._thread is not None:
            raise kind

    def _cancel_task(self) -> None:
        with self._lock:
            if self._task is not None:
                self._is_cancelling = True
                self._task.cancel()

    def _check_interruption(self) -> None:
        """A body that was to stop before it began never begins."""
        if self._interruption is not None:
            raise self._interruption
        if self.ar.cancellation.is_set():
            raise self.ar.cancellation.kind

    def _call_in_thread(self) -> Any:
        try:
            with self._lock:
                self._thread = threading.get_ident()
                self._check_interruption()
            return self.procedure.run(self.ar)
        finally:
            self._leave_thread()

    def _leave_thread(self) -> None:
        """From here on nothing strikes this thread, whose next job would be hit."""
        while self._thread is not None:
            try:
                with self._lock:
                    if self._interruption is not None and self._thread is not None:
                        _raise_in_thread(self._thread, None)
                    self._thread = None
            except Interruption:  # it came just now, when the body had ended already
                continue

    def _succeeded(self, value: Any) -> Outcome:
        return Outcome("succeeded", result=self._storable_result(value))

    def _storable_result(self, value: Any) -> Any:
        if value is None:
            return None
        try:
            text = json.dumps(value, cls=DjangoJSONEncoder, allow_nan=False)
            if len(text) > RESULT_LIMIT:
                raise ValueError(f"over {RESULT_LIMIT:,} characters of JSON")
            return _storable_json(json.loads(text))
        except (TypeError, ValueError, RecursionError) as error:
            self._say(logging.WARNING, f"The result is not kept: {error}")
            return None

    def _failed(self, error: BaseException) -> Outcome:
        if isinstance(error, asyncio.CancelledError) and self._interruption is not None:
            error = self._interruption().with_traceback(error.__traceback__)
        if isinstance(error, Interruption) and not error.args:
            error.args = (self.ar.cancellation.reason,)
        if isinstance(error, Warning):
            self._say(logging.WARNING, "".join(traceback.format_exception_only(error)).rstrip())
            return Outcome("succeeded")
        if isinstance(error, JobCancelled):
            return self._told_to_stop(error)
        if isinstance(error, JobTimedOut):
            return Outcome("timed_out", error=self._traceback(error))
        if isinstance(error, NotMine):
            return Outcome("lost", error=without_secrets(str(error)))
        return Outcome("failed", error=self._traceback(error))

    def _told_to_stop(self, error: JobCancelled) -> Outcome:
        reason = self.ar.cancellation.reason or str(error) or "cancelled"
        # Not by what it raised: a body that cleans up may raise the cancellation anew.
        if self.ar.cancellation.kind is JobStopped:
            self._say(logging.WARNING, f"Stopped: {reason}")
            return Outcome("lost", error=without_secrets(reason))
        self._say(logging.WARNING, f"Cancelled: {reason}")
        return Outcome("cancelled", error=without_secrets(reason))

    def _traceback(self, error: BaseException) -> str:
        frames = traceback.TracebackException.from_exception(error, compact=True)
        while frames.stack and frames.stack[0].filename in OUR_FILES:
            frames.stack.pop(0)
        text = storable(without_secrets("".join(frames.format())))[-ERROR_LIMIT:]
        self._say(logging.ERROR, text.rstrip("\n"))
        return text

    def _say(self, level: int, text: str) -> None:
        """Put an end's reason into the job's log, even when its level is quieter than that."""
        self.log.add_text(Capture.line_of(level, text))


def _storable_json(value: Any) -> Any:
    """JSON that every database takes (some refuse what :func:`storable` escapes) and may keep."""
    match value:
        case str():
            return storable(without_secrets(value))
        case list():
            return [_storable_json(each) for each in value]
        case dict():
            return {storable(key): _storable_json(each) for key, each in value.items()}
    return value


def _raise_in_thread(ident: int, kind: type[BaseException] | None) -> None:
    ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(ident), ctypes.py_object(kind) if kind is not None else None
    )
