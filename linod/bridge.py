"""The one way from the event loop to the database: a thread with a connection of its own."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from linod import chance, transactions
from linod.links import Link

logger = logging.getLogger("linod")
Value = TypeVar("Value")

#: Seconds between two tries while the database is away: from, to.
BACK_OFF = (0.05, 2.0)
#: Seconds after which an action counts as held up; as long as a server bears an idle transaction.
LONG = 1.0


class Bridge:
    """Runs functions that use the database, one after another, in one thread.

    Not ``sync_to_async``: its thread-sensitive mode would queue them behind everybody else's.

    :param held_up: called in the event loop when an action has taken ``LONG`` seconds, and again
        after as many; and when it failed for a reason that may pass.
    """

    _held_up: Callable[[], None] | None = None

    def __init__(
        self,
        using: str,
        name: str = "linod-database",
        held_up: Callable[[], None] | None = None,
    ) -> None:
        self.using = using
        self._held_up = held_up
        #: How often an action failed for a reason that may pass: its COMMIT may have worked.
        self.failures = 0
        self.link = Link(using)
        self._work: queue.SimpleQueue[tuple[Any, ...] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether anybody works on what it is given; a lack of memory may end the thread."""
        return self._thread.is_alive()

    async def call(self, action: Callable[..., Value], *args: Any) -> Value:
        """The result of ``action(*args)``; it goes on even when the caller is cancelled."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Value] = loop.create_future()
        self._work.put((loop, future, action, args))
        if self._held_up is None:
            return await future
        timer = loop.call_later(LONG, self._tell, future, self._held_up)
        try:
            return await future
        finally:
            timer.cancel()

    def _tell(self, future: asyncio.Future[Any], held_up: Callable[[], None]) -> None:
        if not future.done():
            asyncio.get_running_loop().call_later(LONG, self._tell, future, held_up)
            held_up()

    async def insist(
        self,
        action: Callable[..., Value],
        *args: Any,
        give_up: Callable[[], bool] = lambda: False,
        is_passing: Callable[[BaseException], bool] = transactions.is_passing,
    ) -> Value:
        """:meth:`call`, again and again while it fails for a reason that may pass."""
        delay = BACK_OFF[0]
        said = False
        while True:
            try:
                value = await self.call(action, *args)
            except Exception as error:
                if not is_passing(error) or give_up():
                    raise
                if self._held_up is not None:
                    self._held_up()
                logger.log(
                    logging.DEBUG if said or delay < 1 else logging.WARNING,
                    "The database does not answer, trying again: %s",
                    transactions.first_line(error),
                )
                said = said or delay >= 1
                await asyncio.sleep(delay * chance.between(0.5, 1.0))
                delay = min(delay * 2, BACK_OFF[1])
            else:
                if said:
                    logger.warning("The database answers again")
                return value

    def close(self, patience: float = 10.0) -> None:
        """End the thread once its queue is empty; its connection is closed."""
        self._work.put(None)
        self.link.part(self._thread, patience)

    def _serve(self) -> None:
        self.link.open()
        try:
            while self._serve_next():
                pass
        finally:
            self.link.close()

    def _serve_next(self) -> bool:
        """In a frame of its own: what was given may hold long logs, and the next may be far."""
        item = self._work.get()
        if item is not None:
            self._do(*item)
        return item is not None

    def _do(
        self,
        loop: asyncio.AbstractEventLoop,
        future: asyncio.Future[Any],
        action: Callable[..., Any],
        args: Sequence[Any],
    ) -> None:
        try:
            with self.link.at_work():
                transactions.bound_session(self.using)
                value = action(*args)
        except BaseException as error:  # noqa: BLE001 - raised again in the awaiting task
            if transactions.is_passing(error):
                self.failures += 1
                self.link.answers = False
                self.link.close()
            _deliver(loop, future, None, error)
        else:
            self.link.answers = True
            _deliver(loop, future, value, None)


def _deliver(
    loop: asyncio.AbstractEventLoop,
    future: asyncio.Future[Any],
    value: Any,
    error: BaseException | None,
) -> None:
    def settle() -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(value)

    # A loop that has been closed has nobody who waits.
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(settle)
