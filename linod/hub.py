"""Where the events of all daemons come in for the websockets of one process.

One channel for all of them, so that a page more costs the channel layer nothing. The hub notices by
itself when the layer has lost something, or its memory of who listens, and joins again.
"""

from __future__ import annotations

import asyncio
import time
from weakref import WeakKeyDictionary

from linod import layers
from linod.events import Event
from linod.layers import Layer, Message, Trouble
from linod.viewers import Viewer

#: Seconds between two looks whether anything comes.
WATCH = 0.5
#: Seconds of silence after which the hub joins again: daemons say something every second.
QUIET = 1.5
#: Seconds of silence after which pages are told that nothing comes.
DEAD = 3.0
#: Seconds between two joins in any case: memberships expire.
MEMBERSHIP = 300.0
#: Most websockets of one process, and of one user in it.
CONNECTIONS, PER_USER = 200, 20
#: Most daemons whose numbers are kept.
SOURCES = 100


class Hub:
    """Hands what comes from the channel layer to the viewers of this process."""

    def __init__(self, layer: Layer, site: str) -> None:
        self.layer = layer
        self.live_group, self.log_group = layers.live_group(site), layers.log_group(site)
        self.viewers: set[Viewer] = set()
        #: Whether events arrive; None while nobody knows yet.
        self.is_live: bool | None = None
        self._channel = ""
        self._trouble = Trouble("Websockets")
        self._numbers: dict[tuple[str, str], int] = {}
        self._opened_at = self._heard_at = self._joined_at = 0.0
        self._tasks: list[asyncio.Task[None]] = []
        self._lock = asyncio.Lock()

    def has_room(self, user: object) -> bool:
        """Whether one more page of this user may connect."""
        his = sum(viewer.user == user for viewer in self.viewers)
        return len(self.viewers) < CONNECTIONS and his < PER_USER

    async def join(self, viewer: Viewer, hello: Event) -> None:
        """From now on this viewer hears what comes; ``hello`` tells it so."""
        self.viewers.add(viewer)
        async with self._lock:
            if not self._tasks:
                await self._open()
        viewer.greet(hello)
        if self.is_live is not None:
            viewer.hear({"type": "live", "live": self.is_live})

    async def leave(self, viewer: Viewer) -> None:
        """It hears no more; without viewers the hub rests."""
        self.viewers.discard(viewer)
        async with self._lock:
            if not self.viewers and self._tasks:
                await self._close()

    async def subscribe(self, viewer: Viewer, job: str | None) -> None:
        """Let a viewer hear the log of that job, and of no other."""
        viewer.job = job
        if viewer.wants_logs:
            await self._join_groups()
        if viewer.may_read_logs:
            viewer.hear({"type": "subscribed", "job": job})

    @property
    def _wants_logs(self) -> bool:
        return any(viewer.wants_logs for viewer in self.viewers)

    async def _open(self) -> None:
        self._opened_at = self._heard_at = time.monotonic()
        self.is_live, self._numbers = None, {}
        self._tasks = [asyncio.create_task(self._watch(), name="linod-hub")]
        self._channel = await self.layer.new_channel()
        hearing = layers.hear(self.layer, self._channel, self._take, "Websockets")
        self._tasks.append(asyncio.create_task(hearing, name="linod-hub-ear"))
        await self._join_groups()
        if not self._trouble.is_over:
            self._set_live(False)

    async def _close(self) -> None:
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=layers.PATIENCE)
        for group in (self.live_group, self.log_group):
            async with self._trouble.bounded():
                await self.layer.group_discard(group, self._channel)

    async def _join_groups(self) -> None:
        async with self._trouble.bounded():
            await self.layer.group_add(self.live_group, self._channel)
            if self._wants_logs:
                await self.layer.group_add(self.log_group, self._channel)
            self._joined_at = time.monotonic()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(WATCH)
            silence = time.monotonic() - self._heard_at
            if silence > DEAD:
                self._set_live(False)
            if silence > QUIET or time.monotonic() - self._joined_at > MEMBERSHIP:
                await self._join_groups()

    def _set_live(self, is_live: bool) -> None:
        if is_live == self.is_live:
            return
        was_dead, self.is_live = self.is_live is False, is_live
        for viewer in self.viewers:
            viewer.hear({"type": "live", "live": is_live})
            if was_dead:
                viewer.tear()

    async def _take(self, message: Message) -> None:
        kind, owner, n = str(message["type"]), str(message["owner"]), int(message["n"])
        self._heard_at = time.monotonic()
        self._set_live(True)
        last = self._numbers.pop((kind, owner), None)
        self._numbers[kind, owner] = n if last is None else max(n, last)
        if len(self._numbers) > SOURCES:
            del self._numbers[next(iter(self._numbers))]
        if last is not None and n <= last:
            return  # layers may repeat themselves
        is_torn = self._is_torn(kind, n, last)
        for viewer in list(self.viewers):
            if is_torn and (kind != "live.logs" or viewer.wants_logs):
                viewer.tear()
            for event in message["events"]:
                viewer.hear(event)

    def _is_torn(self, kind: str, n: int, last: int | None) -> bool:
        """Whether something is missing between this message and the last one of its daemon."""
        if last is not None:
            return n != last + 1
        # A daemon begins with 1; of one that was there before, pages have loaded what it did.
        is_known = kind == "live.logs" or time.monotonic() - self._opened_at < DEAD
        return n != 1 and not is_known


_hubs: WeakKeyDictionary[asyncio.AbstractEventLoop, Hub] = WeakKeyDictionary()


def hub_of_this_loop(layer: Layer, site: str) -> Hub:
    """The hub of the running event loop; a server has one."""
    loop = asyncio.get_running_loop()
    hub = _hubs.get(loop)
    if hub is None or hub.layer is not layer:
        hub = _hubs[loop] = Hub(layer, site)
    return hub
