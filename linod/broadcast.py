"""Tells the live page what the outbox gathered; beside the scheduler, never in its way.

Messages carry numbers. Whatever is dropped, here or on the way, leaves a gap in them, and whoever
notices a gap loads everything anew: so nothing has to be sent twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import Callable
from typing import Any

from linod import layers
from linod.events import Event
from linod.layers import Layer, Trouble
from linod.outbox import Outbox

#: Seconds between two messages, at least: what changes meanwhile goes together.
PAUSE = 0.1
#: Seconds between two messages about the daemon itself.
BEAT = 1.0


class Broadcaster:
    """Sends what one daemon has to tell.

    :param about: says how the daemon is; its argument is the lag of the loop in seconds.
    """

    def __init__(
        self, layer: Layer, site: str, owner: uuid.UUID, about: Callable[[float], Event]
    ) -> None:
        self.layer = layer
        self.owner = owner.hex
        self.about = about
        self.groups = {"live.events": layers.live_group(site), "live.logs": layers.log_group(site)}
        self.numbers = dict.fromkeys(self.groups, 0)
        self.trouble = Trouble("Live page")
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self._next_beat = 0.0
        self._lag = 0.0

    def wake(self) -> None:
        """There is something to send; from any thread."""
        if not self._wake.is_set():
            with contextlib.suppress(RuntimeError):  # the loop has ended: nobody is told any more
                self._loop.call_soon_threadsafe(self._wake.set)

    async def run(self, outbox: Outbox) -> None:
        """Send until cancelled."""
        while True:
            left = max(self._next_beat - time.monotonic(), 0.0)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), left)
            self._wake.clear()
            async with self.trouble.bounded():
                await self.tell(outbox)
            began = time.monotonic()
            await asyncio.sleep(PAUSE)
            self._lag = max(time.monotonic() - began - PAUSE, self._lag)

    async def tell(self, outbox: Outbox) -> None:
        """Send what waits, once; what cannot be sent is dropped, and the numbers show it."""
        parcel = outbox.take()
        is_beat = time.monotonic() >= self._next_beat
        if is_beat:
            parcel.events.append({"type": "daemon", "daemon": self.about(self._lag)})
        messages = (
            self._message("live.events", parcel.events, parcel.events_dropped),
            self._message("live.logs", parcel.logs, parcel.logs_dropped),
        )
        for message in messages:
            if message is not None:
                await self.layer.group_send(self.groups[message["type"]], message)
        if is_beat:
            # Only now: a layer that does not answer is tried until it does.
            self._next_beat, self._lag = time.monotonic() + BEAT, 0.0

    def _message(self, kind: str, events: list[Event], is_torn: bool) -> dict[str, Any] | None:
        if is_torn:
            self.numbers[kind] += 1
        if not events and not is_torn:
            return None
        self.numbers[kind] += 1
        return {"type": kind, "owner": self.owner, "n": self.numbers[kind], "events": events}
