"""Links that swallow what is sent: no error comes, and nobody may wait for one."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import OperationalError, connection, connections

from linod import links
from linod.bridge import Bridge
from linod.heartbeat import Heartbeat
from linod.history import Job
from linod.links import SILENT
from tests.daemons import DaemonThread, empty_site, ended_jobs, make_task, running_daemon
from tests.faults.proxy import Proxy
from tests.waiting import DEADLINE, wait_until

pytestmark = pytest.mark.django_db(transaction=True)

#: Seconds that a silent link may keep a daemon from its work: its own six, and to begin anew.
LIMIT = 10.0
#: GRACE, and what a stop may take beyond it on a machine that does other work, too.
GRACE, BEYOND = 3.0, 4.0


def ask() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        return int(cursor.fetchone()[0])


@contextmanager
def opened_by(port: int) -> Iterator[None]:
    """Who connects meanwhile does so at that port."""
    site = connections.settings["default"]
    former, site["PORT"] = site["PORT"], port
    try:
        yield
    finally:
        site["PORT"] = former


def test_a_connection_that_fails_as_it_is_closed_ends_no_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wrapper: Any = type(connections["default"])
    close = wrapper._close

    def fail(self: Any) -> None:
        close(self)
        raise OperationalError("server has gone away")

    def lose() -> None:
        ask()
        monkeypatch.setattr(wrapper, "_close", fail)
        raise OperationalError("lost connection")

    async def act() -> None:
        with pytest.raises(OperationalError, match="lost"):
            await asyncio.wait_for(bridge.call(lose), DEADLINE)
        monkeypatch.undo()
        assert await bridge.call(ask) == 1

    bridge = Bridge("default")
    asyncio.run(act())
    bridge.close()


def test_who_has_no_server_is_never_cut() -> None:
    link = links.Link("default")
    with link.at_work():
        assert [link.look(1), link.look(1)] == [1, 2]
    assert link.look(1) == 0


if connection.vendor != "sqlite":

    @pytest.fixture
    def proxy() -> Iterator[Proxy]:
        connection.ensure_connection()  # the test's own goes straight
        proxy = Proxy(int(connection.settings_dict["PORT"]), random.Random(1))
        proxy.start()
        with opened_by(proxy.port):
            yield proxy
        proxy.stop()

    @pytest.fixture
    def bridge(proxy: Proxy) -> Iterator[Bridge]:
        bridge = Bridge("default")
        yield bridge
        bridge.close()

    async def _asked_in_vain(bridge: Bridge, proxy: Proxy) -> asyncio.Future[int]:
        """An action that waits for an answer."""
        assert await bridge.call(ask) == 1
        proxy.swallow()
        asked = asyncio.ensure_future(bridge.call(ask))
        await asyncio.to_thread(wait_until, lambda: bridge.link.look(SILENT), "it is at work")
        return asked

    def test_a_silent_link_is_cut_and_made_again(bridge: Bridge, proxy: Proxy) -> None:
        async def act() -> None:
            asked = await _asked_in_vain(bridge, proxy)
            looks = [bridge.link.look(SILENT) for _ in range(SILENT - 1)]
            assert looks == list(range(2, SILENT + 1))
            with pytest.raises(OperationalError):
                await asyncio.wait_for(asked, DEADLINE)
            assert not bridge.link.answers
            assert await bridge.call(ask) == 1
            assert bridge.link.answers

        asyncio.run(act())
        assert bridge.failures == 1

    def test_an_answer_is_a_sign_of_life(bridge: Bridge) -> None:
        is_asked, go_on = threading.Event(), threading.Event()

        def ask_between_looks() -> int:
            is_asked.set()
            go_on.wait(DEADLINE)
            ask()
            return bridge.link.look(SILENT)

        async def act() -> None:
            asked = asyncio.ensure_future(bridge.call(ask_between_looks))
            await asyncio.to_thread(is_asked.wait, DEADLINE)
            assert [bridge.link.look(SILENT) for _ in range(3)] == [1, 2, 3]
            go_on.set()
            assert await asked == 1

        asyncio.run(act())

    def test_a_link_that_nobody_waits_for_is_left_alone(bridge: Bridge) -> None:
        async def act() -> None:
            await bridge.call(ask)
            assert [bridge.link.look(1) for _ in range(3)] == [0, 0, 0]
            assert await bridge.call(ask) == 1

        asyncio.run(act())
        assert bridge.failures == 0

    def test_a_connection_that_is_made_within_an_action_is_looked_after(
        bridge: Bridge, proxy: Proxy
    ) -> None:
        def ask_twice() -> int:
            ask()
            connection.close()
            ask()
            proxy.swallow()
            return ask()

        async def act() -> None:
            asked = asyncio.ensure_future(bridge.call(ask_twice))
            while not asked.done():
                bridge.link.look(SILENT)
                await asyncio.sleep(0.05)
            with pytest.raises(OperationalError):
                await asked

        asyncio.run(act())

    def test_a_server_that_accepts_and_says_nothing_is_given_up() -> None:
        bridge = Bridge("default")

        async def act() -> None:
            with pytest.raises(OperationalError):
                await asyncio.wait_for(bridge.call(ask), DEADLINE)

        silent = socket.create_server(("127.0.0.1", 0))
        with silent, opened_by(silent.getsockname()[1]):
            asyncio.run(act())
        bridge.close()

    @pytest.mark.parametrize(
        ("given", "seconds"), [({}, 3), ({"connect_timeout": 7}, 7), ({"pool": True}, 3)]
    )
    def test_a_new_connection_is_not_waited_for_and_leaves_the_site_s_options_alone(
        given: dict[str, Any], seconds: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        site, seen = {**given}, list[Any]()

        def refuse(self: Any, params: dict[str, Any]) -> None:
            seen.append((params["connect_timeout"], "pool" in self.settings_dict["OPTIONS"]))
            raise OperationalError("the server does not answer")

        monkeypatch.setitem(connections.settings["default"], "OPTIONS", site)
        monkeypatch.setattr(type(connections["default"]), "get_new_connection", refuse)
        bridge = Bridge("default")
        with pytest.raises(OperationalError):
            asyncio.run(bridge.call(ask))
        bridge.close()
        assert seen == [(seconds, False)]
        assert site == given

    def test_the_end_does_not_wait_for_a_silent_link(bridge: Bridge, proxy: Proxy) -> None:
        async def act() -> None:
            asked = await _asked_in_vain(bridge, proxy)
            began = time.monotonic()
            bridge.close(patience=DEADLINE)
            assert time.monotonic() - began < DEADLINE / 2
            with pytest.raises(OperationalError):
                await asyncio.wait_for(asked, DEADLINE)

        asyncio.run(act())
        assert not bridge.is_alive

    def test_that_a_beat_hangs_is_told_before_it_is_cut(proxy: Proxy) -> None:
        beats, told = list[int](), list[int]()
        heart = Heartbeat(
            lambda: beats.append(ask()),
            using="default",
            interval=0.05,
            patience=1.0,
            distrust=lambda: told.append(1),
        )
        heart.start()
        wait_until(lambda: beats, "it beats")
        proxy.swallow()
        wait_until(lambda: not heart.is_trusted, "it hangs")
        assert told == []
        heart.look(1000)
        heart.look(1000)
        assert told == [1]
        began = time.monotonic()
        heart.stop()
        assert time.monotonic() - began < DEADLINE / 2
        wait_until(lambda: not heart.is_alive(), "it ends")

    @pytest.fixture
    def _site() -> Iterator[None]:
        with empty_site(LEASE=2.0, BACKGROUND_SLEEP_TIME=0.5, GRACE=GRACE):
            yield

    def _obey(begun: threading.Event) -> Callable[[Any], None]:
        def obey(ar: Any) -> None:
            begun.set()
            while True:
                ar.check_cancelled()
                threading.Event().wait(0.01)

        return obey

    @pytest.mark.usefixtures("_site")
    def test_a_daemon_whose_links_fall_silent_tells_its_jobs_and_makes_new_ones(
        proxy: Proxy, caplog: pytest.LogCaptureFixture
    ) -> None:
        begun = threading.Event()
        make_task(_obey(begun)).request_run()
        next_task = make_task(lambda ar: None, "next")
        with running_daemon():
            assert begun.wait(DEADLINE)
            lease = Job.objects.get().lease_until
            wait_until(lambda: Job.objects.get().lease_until != lease, "it is renewed")
            proxy.swallow()
            silent_since = time.monotonic()
            next_task.request_run()
            wait_until(lambda: "told to stop" in caplog.text, "the leases are not trusted")
            assert "its link is cut" not in caplog.text
            ended_jobs(task=next_task)
            assert time.monotonic() - silent_since < LIMIT
        # It is the database's to say which: its lease was over.
        assert Job.objects.exclude(task=next_task).get().state in {"cancelled", "lost"}

    @pytest.mark.usefixtures("_site")
    @pytest.mark.parametrize("goes_on", [True, False])
    def test_a_stop_does_not_wait_for_silent_links(proxy: Proxy, goes_on: bool) -> None:
        begun, never = threading.Event(), threading.Event()

        def deaf(ar: Any) -> None:
            begun.set()
            while not never.is_set():
                with contextlib.suppress(BaseException):
                    never.wait(DEADLINE)

        make_task(deaf).request_run()
        daemon = DaemonThread().start()
        assert begun.wait(DEADLINE)
        lease = Job.objects.get().lease_until
        wait_until(lambda: Job.objects.get().lease_until != lease, "it is renewed")
        proxy.swallow()
        if not goes_on:
            proxy.hang()
        began = time.monotonic()
        assert daemon.stop() == 0
        never.set()
        assert time.monotonic() - began < GRACE + BEYOND
        if goes_on:
            assert Job.objects.get().state == "lost"
