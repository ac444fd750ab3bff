"""One websocket's share of the events: bounded, and sent only as fast as its page takes them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections import deque
from collections.abc import Awaitable, Callable

from linod import events
from linod.events import Event

#: Most events that wait for one page; when more come it has to load everything anew.
WAITING = 500
#: A ping goes out after so many frames or characters; two may be unanswered, then nothing is sent.
FRAMES, CHARACTERS, UNANSWERED = 100, 64 * 1024, 2
#: Seconds after which a page that does not answer is given up.
SILENCE = 60.0
#: Seconds between two ``resync``, at least.
RESYNC = 2.0


class Gone(Exception):
    """The page has not answered for ``SILENCE`` seconds."""


class Viewer:
    """What one page has still to be sent.

    :param user: whose page it is.
    :param send: sends a frame.
    :param may_read_logs: whether it gets what only readers of logs may see.
    """

    def __init__(
        self, user: object, send: Callable[[str], Awaitable[None]], *, may_read_logs: bool
    ) -> None:
        self.user = user
        self.may_read_logs = may_read_logs
        #: The job whose log the page wants.
        self.job: str | None = None
        self._send = send
        self._waiting: deque[Event] = deque()
        self._is_torn = False
        self._next_resync = 0.0
        self._news = asyncio.Event()
        self._answer = asyncio.Event()
        self._frames = self._characters = self._pings = self._pongs = 0

    @property
    def wants_logs(self) -> bool:
        """Whether it has to hear what jobs say."""
        return self.may_read_logs and self.job is not None

    def hear(self, event: Event) -> None:
        """Send this when its turn comes, if it is for this page."""
        if event["type"] == "log" and not (self.wants_logs and event["job"] == self.job):
            return
        self._waiting.append(event if self.may_read_logs else events.without_logs(event))
        if len(self._waiting) > WAITING:
            self.tear()
        self._news.set()

    def greet(self, hello: Event) -> None:
        """Let this be the first frame: what came before it is known to the page anyway."""
        self._waiting.clear()
        self._is_torn = False
        self.hear(hello)

    def tear(self) -> None:
        """Something was lost: the page has to load everything anew."""
        # What waits is older than what the page is going to load.
        kept = [e for e in self._waiting if e["type"] in ("hello", "live", "subscribed")]
        self._waiting = deque(kept)
        self._is_torn = True
        self._news.set()

    def answered(self, n: object) -> None:
        """A pong came."""
        if isinstance(n, int) and self._pongs < n <= self._pings:
            self._pongs = n
            self._answer.set()

    async def run(self) -> None:
        """Send until cancelled; raises :class:`Gone`."""
        while True:
            await self._write(await self._next())
            if self._frames >= FRAMES or self._characters >= CHARACTERS:
                self._pings += 1
                await self._write({"type": "ping", "n": self._pings})
                self._frames = self._characters = 0
                await self._wait_for_answer()

    async def _next(self) -> Event:
        while True:
            self._news.clear()
            if self._is_torn and time.monotonic() >= self._next_resync:
                self._is_torn = False
                self._next_resync = time.monotonic() + RESYNC
                return {"type": "resync"}
            if self._waiting:
                return self._waiting.popleft()
            left = self._next_resync - time.monotonic() if self._is_torn else None
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), left)

    async def _write(self, event: Event) -> None:
        frame = json.dumps(event, separators=(",", ":"))
        self._frames += 1
        self._characters += len(frame)
        await self._send(frame)

    async def _wait_for_answer(self) -> None:
        deadline = time.monotonic() + SILENCE
        while self._pings - self._pongs >= UNANSWERED:
            self._answer.clear()
            try:
                await asyncio.wait_for(self._answer.wait(), deadline - time.monotonic())
            except TimeoutError as error:
                raise Gone("the page does not answer") from error
