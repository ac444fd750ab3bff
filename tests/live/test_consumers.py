"""One websocket: who may connect, what it may say, how much of it there may be."""

from __future__ import annotations

import asyncio
import itertools
import json
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from channels.layers import get_channel_layer
from channels.testing import WebsocketCommunicator
from django.contrib.auth.models import AnonymousUser, Permission, User
from django.db import connections
from django.test import override_settings

from linod import consumers, hub, viewers
from linod.consumers import LinodConsumer, LiveConsumer
from tests.live.server import log_in
from tests.waiting import DEADLINE

pytestmark = pytest.mark.django_db(transaction=True)
IN_MEMORY = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
JOB = str(uuid.UUID(int=7))
#: Every set of rights that matters here.
RIGHTS = [
    set(names)
    for count in range(4)
    for names in itertools.combinations(("view_backgroundtask", "view_job", "view_log"), count)
]


@pytest.fixture(autouse=True)
def _site() -> Iterator[None]:
    with override_settings(LINOD={"SITE": "here", "USE_CHANNELS": True}, CHANNEL_LAYERS=IN_MEMORY):
        yield


@pytest.fixture(autouse=True)
async def _no_open_connection() -> AsyncIterator[None]:
    yield
    await sync_to_async(connections.close_all)()


@sync_to_async
def make_user(name: str, rights: set[str] | None = None, **values: Any) -> User:
    """A user with these rights; None: with all of them."""
    user = User.objects.create_user(name, **values)
    known = Permission.objects.filter(content_type__app_label="linod")
    user.user_permissions.set(known if rights is None else known.filter(codename__in=rights))
    return user


class Page:
    """A page in a test."""

    def __init__(self, user: Any, **scope: Any) -> None:
        self.socket = WebsocketCommunicator(LiveConsumer.as_asgi(), "/WS/")
        self.socket.scope |= {"user": user, **scope}

    async def connect(self) -> bool:
        connected, _protocol = await self.socket.connect(timeout=DEADLINE)
        return connected

    async def send(self, message: Any) -> None:
        await self.socket.send_json_to(message)

    async def receive(self) -> Any:
        return await self.socket.receive_json_from(timeout=DEADLINE)

    async def until(self, kind: str) -> Any:
        while (event := await self.receive())["type"] != kind:
            pass
        return event

    async def closed(self) -> int:
        while True:
            output = await self.socket.receive_output(timeout=DEADLINE)
            if output["type"] == "websocket.close":
                return int(output["code"])


@asynccontextmanager
async def connected(user: Any, **scope: Any) -> AsyncIterator[Page]:
    page = Page(user, **scope)
    assert await page.connect()
    try:
        yield page
    finally:
        await page.socket.disconnect()


async def tell(*events: dict[str, Any], kind: str = "live.events", n: int = 1) -> None:
    """What a daemon would send."""
    group = {"live.events": "broadcast_here", "live.logs": "logs_here"}[kind]
    message = {"type": kind, "owner": "d", "n": n, "events": list(events)}
    await get_channel_layer().group_send(group, message)


def job(state: str = "failed", error: str = "ValueError: canary") -> dict[str, Any]:
    return {"type": "job", "job": {"id": JOB, "state": state, "error": error}}


LOG = {"type": "log", "job": JOB, "n": 1, "lines": ["canary"], "cut": False}


@pytest.mark.parametrize("rights", RIGHTS, ids=lambda rights: "+".join(sorted(rights)) or "none")
async def test_the_matrix_of_rights(rights: set[str]) -> None:
    """Connecting takes two rights; what comes from logs takes a third one."""
    page = Page(await make_user("ben", rights))
    may_connect = {"view_backgroundtask", "view_job"} <= rights
    assert await page.connect() == may_connect
    if not may_connect:
        return
    assert (await page.receive())["logs"] == ("view_log" in rights)
    await page.send({"subscribe": {"job": JOB}})
    if "view_log" in rights:
        await page.until("subscribed")
    await tell(job())
    await tell(LOG, kind="live.logs")
    await tell(job("lost", ""), n=2)
    seen = [await page.until("job")]
    while seen[-1].get("job", {}) != job("lost", "")["job"]:
        seen.append(await page.receive())
    has_log = any(event["type"] == "log" for event in seen)
    assert has_log == ("view_log" in rights)
    assert ("canary" in str(seen)) == ("view_log" in rights)
    await page.socket.disconnect()


@pytest.mark.parametrize("who", ["anonymous", "nobody", "inactive", "superuser"])
async def test_who_connects(who: str) -> None:
    user: Any = {"anonymous": AnonymousUser(), "nobody": None}.get(who)
    if who in ("inactive", "superuser"):
        user = await make_user("ann", is_active=who != "inactive", is_superuser=True)
    page = Page(user)
    assert await page.connect() == (who == "superuser")
    if who == "superuser":
        await page.socket.disconnect()


@pytest.mark.parametrize("how", ["logged out", "right taken", "deactivated", "deleted"])
async def test_rights_are_looked_at_again(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumers, "RECHECK", 0.05)
    user = await make_user("ben")
    session = await sync_to_async(logged_in_session)(user)
    async with connected(user, session=session) as page:
        await page.until("hello")
        await sync_to_async(take_away)(user, session, how)
        assert await page.closed() == consumers.FORBIDDEN


def logged_in_session(user: User) -> Any:
    from django.contrib.sessions.backends.db import SessionStore

    return SessionStore(log_in(user).partition("=")[2])


def take_away(user: User, session: Any, how: str) -> None:
    if how == "logged out":
        session.delete()
    elif how == "right taken":
        user.user_permissions.remove(Permission.objects.get(codename="view_job"))
    elif how == "deactivated":
        User.objects.filter(pk=user.pk).update(is_active=False)
    else:
        user.delete()


async def test_the_right_to_read_logs_may_go_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumers, "RECHECK", 0.05)
    user = await make_user("ben")
    async with connected(user) as page:
        await page.until("hello")
        await page.send({"subscribe": {"job": JOB}})
        await page.until("subscribed")
        readers = await sync_to_async(Permission.objects.get)(codename="view_log")
        await sync_to_async(user.user_permissions.remove)(readers)
        async with asyncio.timeout(DEADLINE):
            (viewer,) = hub_here().viewers
            while viewer.may_read_logs:  # noqa: ASYNC110 - nobody says when
                await asyncio.sleep(0.01)
        await tell(LOG, kind="live.logs")
        await tell(job())
        assert (await page.until("job"))["job"]["error"] == ""


def hub_here() -> hub.Hub:
    return hub.hub_of_this_loop(get_channel_layer(), "here")


async def test_without_a_session_the_user_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumers, "RECHECK", 0.05)
    user = await make_user("ben")
    async with connected(user) as page:
        await page.until("hello")
        await sync_to_async(user.delete)()
        assert await page.closed() == consumers.FORBIDDEN


@pytest.mark.parametrize(
    "text",
    [
        " ", "no json", "[]", "1", "null", '"subscribe"', "{}", '{"subscribe": 1}',
        '{"subscribe": {}}', '{"subscribe": {"job": 7}}', '{"subscribe": {"job": "x"}}',
        '{"run": 8}', '{"type": "live.events"}', '{"pong": "1"}', "[" * 4000, " " * 4097,
    ],
)  # fmt: skip
async def test_what_makes_no_sense_ends_the_connection(text: str) -> None:
    async with connected(await make_user("ben")) as page:
        await page.until("hello")
        await page.socket.send_to(text_data=text)
        assert await page.closed() == consumers.NONSENSE


async def test_bytes_make_no_sense() -> None:
    async with connected(await make_user("ben")) as page:
        await page.socket.send_to(bytes_data=b"\xff" * 10)
        assert await page.closed() == consumers.NONSENSE


async def test_who_says_too_much_is_cut_off() -> None:
    async with connected(await make_user("ben")) as page:
        for _ in range(consumers.RATE + 1):
            await page.send({"pong": 0})
        assert await page.closed() == consumers.TOO_MANY


async def test_so_many_connections_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "CONNECTIONS", 3)
    monkeypatch.setattr(hub, "PER_USER", 2)
    ann, ben = await make_user("ann"), await make_user("ben")
    async with connected(ann), connected(ann) as second:
        assert not await Page(ann).connect()
        async with connected(ben):
            assert not await Page(ben).connect()
        await second.socket.disconnect()
        async with connected(ann):
            assert len(hub_here().viewers) == 2
    assert not hub_here().viewers


async def test_only_the_log_that_is_wanted_comes() -> None:
    other = LOG | {"job": str(uuid.UUID(int=8))}
    async with connected(await make_user("ben")) as page:
        await page.send({"subscribe": {"job": JOB.upper()}})
        assert (await page.until("subscribed"))["job"] == JOB
        await tell(other, LOG, kind="live.logs", n=1)
        assert (await page.receive())["type"] in ("live", "log")
        await page.send({"subscribe": {"job": other["job"]}})
        await page.until("subscribed")
        await tell(other, LOG, kind="live.logs", n=2)
        assert (await page.until("log"))["job"] == other["job"]
        await page.send({"subscribe": None})
        assert (await page.until("subscribed"))["job"] is None
        await tell(other, LOG, kind="live.logs", n=3)
        await tell(job(), n=1)
        assert (await page.receive())["type"] == "job"


async def test_a_page_that_does_not_answer_gets_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(viewers, "FRAMES", 5)
    monkeypatch.setattr(viewers, "WAITING", 10)
    monkeypatch.setattr(viewers, "SILENCE", 0.5)
    async with connected(await make_user("ben")) as page:
        await page.until("hello")
        for n in range(1, 101):
            await tell(job(), n=n)
            await asyncio.sleep(0)
        first, second = await page.until("ping"), await page.until("ping")
        assert (first["n"], second["n"]) == (1, 2)
        assert await page.socket.receive_nothing(timeout=0.1)
        await page.send({"pong": 2})
        assert (await page.receive())["type"] == "resync"
        for n in range(101, 201):
            await tell(job(), n=n)
        assert await page.closed() == consumers.SILENT


async def test_a_gap_in_the_numbers_is_told() -> None:
    async with connected(await make_user("ben")) as page:
        await page.until("hello")
        await tell(job(), n=5)  # of a daemon that was there before the page
        await page.until("job")
        await tell(job(), n=6)
        assert (await page.receive())["type"] == "job"
        await tell(job(), n=8)
        assert (await page.receive())["type"] == "resync"
        assert (await page.receive())["type"] == "job"
        await tell(job("lost"), n=8)  # said twice: heard once
        await tell(job(), n=9)
        assert (await page.receive())["job"]["state"] == "failed"


async def test_silence_is_told_and_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("WATCH", 0.05), ("QUIET", 0.1), ("DEAD", 0.2)):
        monkeypatch.setattr(hub, name, seconds)
    async with connected(await make_user("ben")) as page:
        assert (await page.until("live"))["live"] is False
        await tell(n=3)
        seen = [await page.receive(), await page.receive()]
        assert {"type": "live", "live": True} in seen
        assert {"type": "resync"} in seen
        assert (await page.until("live"))["live"] is False


async def test_a_hub_that_was_forgotten_joins_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "WATCH", 0.05)
    monkeypatch.setattr(hub, "QUIET", 0.1)
    async with connected(await make_user("ben")) as page:
        await tell(n=1)
        await page.until("live")
        get_channel_layer().groups.clear()  # what a Redis that begins anew knows
        async with asyncio.timeout(DEADLINE):
            while not get_channel_layer().groups.get("broadcast_here"):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        await tell(job(), n=3)
        assert (await page.receive())["type"] == "resync"


async def test_nonsense_on_the_layer_does_not_end_the_hub() -> None:
    async with connected(await make_user("ben")) as page:
        await page.until("hello")
        for message in ({"type": "x"}, {"type": "live.events", "owner": 1, "n": "x"}):
            await get_channel_layer().group_send("broadcast_here", message)
        await tell({"no": "type"}, n=1)
        await tell(job(), n=2)
        assert (await page.until("job"))["job"]["id"] == JOB


async def test_a_layer_that_fails_harms_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*args: Any) -> None:
        raise ConnectionError("no Redis")

    layer = get_channel_layer()
    for name in ("group_add", "group_discard", "receive"):
        monkeypatch.setattr(layer, name, fail)
    async with connected(await make_user("ben")) as page:
        await page.until("hello")
        assert (await page.receive()) == {"type": "live", "live": False}


async def test_commands_come_at_a_pace(caplog: pytest.LogCaptureFixture) -> None:
    consumer = LinodConsumer()
    for _ in range(consumers.RATE + 10):
        await consumer.dispatch({"type": "run.background.tasks"})
    assert caplog.text.count("more than 20 in a second") == 1
    await consumer.dispatch({"type": 7})
    await consumer.dispatch(json.loads("{}"))
    assert caplog.text.count("there is no") == 2
