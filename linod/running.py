"""Calling a body: capture its log, bound it, say what came of it.

Nothing here knows rows: :class:`linod.requests.BaseRequest` writes through the sink that whoever
runs the job provides, and the outcome is a value for them to record.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import logging
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder

from linod import capture as capturing
from linod.capture import Capture, storable
from linod.exceptions import Interruption, JobCancelled, JobTimedOut, NotMine
from linod.procedures import Procedure
from linod.requests import BaseRequest

#: Longest result that is kept, in characters of JSON.
RESULT_LIMIT = 64 * 1024
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

    def call(self) -> Outcome:
        """Run a sync body in this thread, an async one in an event loop of its own."""
        if self.procedure.is_async:
            return asyncio.run(self.acall())
        return self._observed(self._enter_thread, lambda: self.procedure.run(self.ar))

    async def acall(self) -> Outcome:
        """Run an async body in the current event loop."""
        token = capturing.current.set(self.log)
        try:
            with self._lock:
                self._task = asyncio.current_task()
                if self._interruption is not None:
                    raise self._interruption
            value = await self.procedure.run(self.ar)
            return self._succeeded(value)
        except BaseException as error:  # noqa: BLE001 - a body may raise anything; nothing may leave
            return self._failed(error)
        finally:
            with self._lock:
                if self._task is not None and self._interruption is not None:
                    self._task.uncancel()
                self._task = None
            capturing.current.reset(token)

    def interrupt(self, kind: type[Interruption]) -> None:
        """Raise ``kind`` inside the body; before it began: as soon as it does; afterwards: nothing."""
        with self._lock:
            self._interruption = kind
            if self._thread is not None:
                _raise_in_thread(self._thread, kind)
            elif self._task is not None:
                self._task.get_loop().call_soon_threadsafe(self._task.cancel)

    def _enter_thread(self) -> None:
        with self._lock:
            self._thread = threading.get_ident()
            if self._interruption is not None:
                raise self._interruption

    def _leave_thread(self) -> None:
        with self._lock:
            # An exception that was sent too late must not strike the next job of this thread.
            if self._thread is not None and self._interruption is not None:
                _raise_in_thread(self._thread, None)
            self._thread = None

    def _observed(self, enter: Callable[[], None], body: Callable[[], Any]) -> Outcome:
        token = capturing.current.set(self.log)
        try:
            try:
                enter()
                value = body()
            finally:
                self._leave_thread()
            return self._succeeded(value)
        except BaseException as error:  # noqa: BLE001 - SystemExit of a body must not end the daemon
            return self._failed(error)
        finally:
            capturing.current.reset(token)

    def _succeeded(self, value: Any) -> Outcome:
        return Outcome("succeeded", result=self._storable_result(value))

    def _storable_result(self, value: Any) -> Any:
        if value is None:
            return None
        try:
            text = storable(json.dumps(value, cls=DjangoJSONEncoder, allow_nan=False))
        except (TypeError, ValueError) as error:
            self.ar.warning("The result is not kept: %s", error)
            return None
        if len(text) > RESULT_LIMIT:
            self.ar.warning("The result is not kept: over %d characters of JSON", RESULT_LIMIT)
            return None
        return json.loads(text)

    def _failed(self, error: BaseException) -> Outcome:
        if isinstance(error, asyncio.CancelledError) and self._interruption is not None:
            error = self._interruption()
        if isinstance(error, Warning):
            self._say(logging.WARNING, f"{type(error).__name__}: {error}")
            return Outcome("succeeded")
        if isinstance(error, JobCancelled):
            reason = self.ar.cancellation.reason or "cancelled"
            self._say(logging.WARNING, f"Cancelled: {reason}")
            return Outcome("cancelled", error=reason)
        if isinstance(error, JobTimedOut):
            return Outcome("timed_out", error=self._traceback(error))
        if isinstance(error, NotMine):
            return Outcome("lost", error=str(error))
        return Outcome("failed", error=self._traceback(error))

    def _traceback(self, error: BaseException) -> str:
        frames = traceback.TracebackException.from_exception(error, compact=True)
        # The first frames are ours: the reader's code begins behind them.
        while frames.stack and frames.stack[0].filename in (__file__, _procedures_file):
            frames.stack.pop(0)
        text = storable("".join(frames.format()))[-ERROR_LIMIT:]
        self._say(logging.ERROR, text.rstrip("\n"))
        return text

    def _say(self, level: int, text: str) -> None:
        """Put an end's reason into the job's log, even when its level is quieter than that."""
        self.log.add_text(
            Capture.formatter.format(
                logging.LogRecord("linod.job", level, __file__, 0, text, None, None)
            )
            + "\n"
        )


_procedures_file = Procedure.run.__code__.co_filename


def _raise_in_thread(ident: int, kind: type[BaseException] | None) -> None:
    ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(ident), ctypes.py_object(kind) if kind is not None else None
    )
