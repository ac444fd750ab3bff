"""The channel layer as linod uses it: names, and what to do about a layer that does not answer.

No module but ``consumers`` and ``routing`` imports channels; here a layer is whatever has these
methods. Nothing that schedules work waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Protocol

from linod import chance
from linod.conf import config

logger = logging.getLogger("linod")

#: Where the pages' websocket is, below the root of the site.
WEBSOCKET = "WS/"
#: Seconds that a layer gets for one message.
PATIENCE = 1.0
#: Seconds without a message after which a channel is listened to anew: a connection may have died
#: without a word.
IDLE = 10.0
#: Seconds between two tries while it does not answer: from, to.
BACK_OFF = (0.1, 0.8)

Message = dict[str, Any]


class Layer(Protocol):
    """The part of a channel layer that linod uses."""

    async def new_channel(self) -> str:
        """A channel of this process."""

    async def receive(self, channel: str) -> Message:
        """The next message of a channel."""

    async def group_add(self, group: str, channel: str) -> None:
        """Let a channel get what is sent to the group."""

    async def group_discard(self, group: str, channel: str) -> None:
        """The opposite."""

    async def group_send(self, group: str, message: Message) -> None:
        """Send to all channels of the group."""


def websocket_address() -> str | None:
    """Where a page listens; None where channels are not used."""
    return f"/{WEBSOCKET}" if config().USE_CHANNELS else None


def command_channel(site: str) -> str:
    """The channel of commands for the daemons of a site."""
    return f"linod_{site}"


def live_group(site: str) -> str:
    """The group that hears of jobs and tasks."""
    return f"broadcast_{site}"


def log_group(site: str) -> str:
    """The group that hears what jobs say."""
    return f"logs_{site}"


class Trouble:
    """A layer that fails: said once, waited for with growing pauses, and said when it is over."""

    def __init__(self, what: str) -> None:
        self.what = what
        self._delay = 0.0

    @contextlib.asynccontextmanager
    async def bounded(self, seconds: float | None = PATIENCE) -> AsyncIterator[None]:
        """Give the body so many seconds; an error becomes a log line and a pause."""
        try:
            async with asyncio.timeout(seconds):
                yield
        except Exception as error:  # noqa: BLE001 - each layer has errors of its own; it is logged
            if not self._delay:
                why = str(error) or type(error).__name__
                logger.warning("%s: the channel layer does not answer: %s", self.what, why)
            self._delay = min(max(self._delay * 2, BACK_OFF[0]), BACK_OFF[1])
            await asyncio.sleep(self._delay * chance.between(0.5, 1.0))
        else:
            if self._delay:
                logger.warning("%s: the channel layer answers again", self.what)
            self._delay = 0.0

    @property
    def is_over(self) -> bool:
        """Whether the last try succeeded, or there was none."""
        return not self._delay


async def hear(
    layer: Layer, channel: str, take: Callable[[Message], Awaitable[None]], what: str
) -> None:
    """Give each message of a channel to ``take``, until cancelled; a layer may fail meanwhile."""
    trouble = Trouble(what)
    while True:
        message: Message | None = None
        async with trouble.bounded(None):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(IDLE):
                    message = await layer.receive(channel)
        if message is None:
            continue
        try:
            await take(message)
        except Exception:
            logger.exception("%s: a message could not be taken", what)
