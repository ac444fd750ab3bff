"""The two ends of Channels: commands for the daemons, and websockets for the live page."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import time
import uuid
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from channels.auth import get_user
from channels.consumer import AsyncConsumer
from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.layers import get_channel_layer
from django.contrib.auth import get_user_model
from django.db import Error
from django.utils import timezone

from linod import commands, events, layers, rights, signals
from linod.bridge import Bridge
from linod.broadcast import Broadcaster
from linod.conf import config
from linod.events import Event
from linod.hub import Hub, hub_of_this_loop
from linod.layers import Message
from linod.lookout import Lookout
from linod.outbox import Outbox
from linod.viewers import Gone, Viewer
from linod.wakeup import Listener

if TYPE_CHECKING:
    from linod.daemon import Daemon

logger = logging.getLogger("linod")

#: Frames of a page, or commands, in one second; and the longest frame, in characters.
RATE, FRAME = 20, 4096
#: Seconds after which the user of a websocket is looked at again.
RECHECK = 60.0
#: Seconds that the last message of a daemon gets.
LAST_WORDS = 0.5
#: Seconds that the first look at the rows gets before pages are told that they are live.
FIRST_LOOK = 2.0
#: Why a connection is closed.
NONSENSE, FORBIDDEN, SILENT, TOO_MANY = 4400, 4403, 4408, 4429


class Pace:
    """At most ``RATE`` in a second."""

    def __init__(self) -> None:
        self._moments: deque[float] = deque(maxlen=RATE)

    def is_kept(self) -> bool:
        """Whether one more may come now; it is counted then."""
        now = time.monotonic()
        if len(self._moments) == RATE and now - self._moments[0] < 1.0:
            return False
        self._moments.append(now)
        return True


# The daemon's end


async def accompany(daemon: Daemon) -> None:
    """What a daemon does with the channel layer until it is cancelled; nothing waits for it."""
    site, layer = config().SITE, get_channel_layer()
    broadcaster = Broadcaster(layer, site, daemon.owner, lambda lag: about(daemon, lag))
    outbox = Outbox(daemon.terms.host, broadcaster.wake)
    lookout = Lookout(daemon.using, outbox.add, outbox.drop_all)
    daemon.links.append(lookout.bridge.link)
    asked = LinodConsumer()
    ear = Listener(uuid.uuid4(), lambda _hints: lookout.look())
    ear.open()
    outbox.connect(lookout.look)
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(lookout.run(), name="linod-lookout")
            hearing = layers.hear(layer, layers.command_channel(site), asked.dispatch, "Commands")
            group.create_task(hearing, name="linod-commands")
            # A page loads anew when it hears that it is live. What changed between that and the
            # first look nobody would tell.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(lookout.has_looked.wait(), FIRST_LOOK)
            group.create_task(broadcaster.run(outbox), name="linod-broadcast")
    finally:
        daemon.links.remove(lookout.bridge.link)
        outbox.disconnect()
        ear.close()
        async with broadcaster.trouble.bounded(LAST_WORDS):
            await broadcaster.tell(outbox)
        lookout.close()
        asked.close()


def about(daemon: Daemon, lag: float) -> Event:
    """How a daemon is; ``lag``: seconds by which its loop woke too late."""
    executor = daemon.scheduler.executor
    return {
        "owner": daemon.owner.hex,
        "host": daemon.terms.host,
        "pid": os.getpid(),
        "running": len(executor.running),
        "slots": executor.slots,
        "lag": round(lag, 3),
        "now": events.moment_text(daemon.scheduler.offset.moment()),
    }


class LinodConsumer(AsyncConsumer):
    """Carries out the commands that come on the channel ``linod_<SITE>``.

    They are for a daemon that runs: the same can be had by the rows, which need no channel layer.
    What makes no sense is dropped with a line in the log.
    """

    def __init__(self) -> None:
        self._pace = Pace()
        self._bridge: Bridge | None = None
        self._dropped_at = -60.0

    async def dispatch(self, message: Message) -> None:
        """Carry out one message; it never raises for what the message says."""
        handlers = {
            "run.task": self.run_task,
            "cancel.job": self.cancel_job,
            "log.server": self.log_server,
            "run.background.tasks": self.run_background_tasks,
        }
        handler = handlers.get(str(message.get("type")))
        if handler is None:
            logger.warning("Commands: there is no %.50r", message.get("type"))
        elif self._pace.is_kept():
            await handler(message)
        elif time.monotonic() - self._dropped_at > 60.0:
            self._dropped_at = time.monotonic()
            logger.warning("Commands: more than %d in a second; some were dropped", RATE)

    async def run_task(self, message: Message) -> None:
        """``task`` is an id or a procedure's name, ``user`` (may be absent) the id of who asks."""
        await self._do(commands.run_task, message)

    async def cancel_job(self, message: Message) -> None:
        """``job`` is the id of a job, ``user`` (may be absent) the id of who asks."""
        await self._do(commands.cancel_job, message)

    async def log_server(self, message: Message) -> None:
        """Look now: the daemon keeps its log server by itself."""
        signals.work_arrived.send(LinodConsumer)

    async def run_background_tasks(self, message: Message) -> None:
        """Look now whether anything is due: the daemon runs its tasks without being told."""
        signals.work_arrived.send(LinodConsumer)

    async def _do(self, action: Callable[[str, Message], str], message: Message) -> None:
        using = config().DATABASE
        if self._bridge is None:
            self._bridge = Bridge(using, "linod-commands")
        try:
            logger.info("Commands: %s", await self._bridge.call(action, using, message))
        except commands.Refused as refusal:
            logger.warning("Commands: %s was refused: %s", message["type"], refusal)
        except Error as error:
            why = str(error).strip().partition("\n")[0]
            logger.warning("Commands: %s was dropped, no database: %s", message["type"], why)

    def close(self) -> None:
        """Let go of the database."""
        if self._bridge is not None:
            self._bridge.close(LAST_WORDS)


# The page's end


class LiveConsumer(AsyncWebsocketConsumer):
    """One page's websocket: says what changes, and takes no orders."""

    # The hub listens for all websockets of the process: this one has no channel of its own.
    channel_layer_alias = None

    def __init__(self) -> None:
        super().__init__()
        self.hub: Hub | None = None
        self.viewer: Viewer | None = None
        self._pace = Pace()
        self._tasks: list[asyncio.Task[None]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one connection; whatever ends it, nothing of it stays."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._let_go()

    async def connect(self) -> None:
        """Accept whom the rights allow, while there is room; refuse the handshake otherwise."""
        user = self.scope.get("user")
        may_see, may_read_logs = await judge(user)
        hub = hub_of_this_loop(get_channel_layer(), config().SITE)
        if not may_see or not hub.has_room(user.pk):
            await self.close()
            return
        await self.accept()
        self.hub = hub
        self.viewer = Viewer(user.pk, self._send_text, may_read_logs=may_read_logs)
        now = events.moment_text(timezone.now())
        hello = {"type": "hello", "version": events.VERSION, "now": now, "logs": may_read_logs}
        await hub.join(self.viewer, hello)
        self._tasks = [
            asyncio.create_task(self._write(self.viewer), name="linod-live"),
            asyncio.create_task(self._guard(self.viewer), name="linod-live-guard"),
        ]

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """A page may say which log it wants to follow, and that it keeps up."""
        if not self._pace.is_kept():
            await self.close(TOO_MANY)
            return
        if self.hub is None or self.viewer is None:
            return
        match _parsed(text_data):
            case {"subscribe": {"job": str() as job}} if _is_uuid(job):
                await self.hub.subscribe(self.viewer, str(uuid.UUID(job)))
            case {"subscribe": None} | {"subscribe": {"job": None}}:
                await self.hub.subscribe(self.viewer, None)
            case {"pong": int() as n}:
                self.viewer.answered(n)
            case _:
                await self.close(NONSENSE)

    async def _send_text(self, text: str) -> None:
        await self.send(text_data=text)

    async def _write(self, viewer: Viewer) -> None:
        try:
            await viewer.run()
        except Gone:
            await self.close(SILENT)

    async def _guard(self, viewer: Viewer) -> None:
        """Close when the user has logged out or lost a right."""
        while True:
            await asyncio.sleep(RECHECK)
            try:
                may_see, viewer.may_read_logs = await judge(await current_user(self.scope))
            except Error as error:
                # Without the database nobody can be asked; nothing happens there, either.
                logger.warning("Websockets: the rights could not be checked: %s", error)
                continue
            if not may_see:
                await self.close(FORBIDDEN)
                return

    async def _let_go(self) -> None:
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        if self.hub is not None and self.viewer is not None:
            await self.hub.leave(self.viewer)


@database_sync_to_async
def judge(user: Any) -> tuple[bool, bool]:
    """Whether the user may see the live page, and whether he may read logs there."""
    may_see = rights.may_see(user)
    return may_see, may_see and rights.may_read_logs(user)


async def current_user(scope: dict[str, Any]) -> Any:
    """Whose connection it is now, read again: the session may have ended, rights have changed."""
    session = scope.get("session")
    if session is not None:
        return await get_user({"session": session.__class__(session.session_key)})
    # A site that authenticates without sessions.
    return await get_user_model()._default_manager.filter(pk=scope["user"].pk).afirst()


def _parsed(text: str | None) -> Any:
    if text is None or len(text) > FRAME:
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _is_uuid(text: str) -> bool:
    try:
        return bool(uuid.UUID(text))
    except ValueError:
        return False


class Refusal(AsyncWebsocketConsumer):
    """Whatever is no address here: the handshake is refused."""

    channel_layer_alias = None

    async def connect(self) -> None:
        """Refuse."""
        await self.close()
