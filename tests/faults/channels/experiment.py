"""The experiment: a daemon at work, a server, a page, and a Redis that is frozen and killed.

Measured are the delays from due instants to begins, the seconds after which the page is right
again, and the memory of the daemon and of the web server.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.live.redis_server import RedisServer
from tests.live.websocket import WebSocket
from tests.waiting import wait_until

#: The promise.
DELAY, HEALED, MEMORY = 0.050, 3.0, 5 * 1024
#: KiB that the server may have sent to a page that does not answer.
UNREAD = 512
#: Tasks that run each second.
TASKS = 10
#: Events in a second for a page that does not read.
FLOOD = 500


@dataclass
class Finding:
    """Something that was measured, and whether it is within its limit."""

    what: str
    value: float
    limit: float
    unit: str

    @property
    def held(self) -> bool:
        """Whether it is."""
        return self.value <= self.limit

    def __str__(self) -> str:
        mark = "ok  " if self.held else "FAIL"
        return f"{mark} {self.what}: {self.value:.3f} {self.unit} (limit {self.limit:g})"


class World:
    """The processes of one experiment."""

    def __init__(self, folder: Path, capacity: int) -> None:
        self.folder = folder
        self.redis = RedisServer()
        self.redis.start()
        self.env = os.environ | {
            "P10_FOLDER": str(folder),
            "LINOD_TEST_SITE": "p10",
            "LINOD_TEST_REDIS": self.redis.url,
            "LINOD_TEST_CAPACITY": str(capacity),
            "DJANGO_SETTINGS_MODULE": "tests.faults.channels.settings",
        }
        self.daemon: subprocess.Popen[bytes] | None = None
        self.server: Any = None

    def open(self) -> None:
        """Make the tables and rows, and start the processes."""
        from django.contrib.auth.models import User

        from linod.models import BackgroundTask
        from tests.live.server import Daphne, log_in

        BackgroundTask.objects.all().delete()
        for n in range(TASKS):
            BackgroundTask.objects.create(
                procedure="tick", name=f"tick {n}", every_unit="secondly", every=1
            )
        self.marker = BackgroundTask.objects.create(procedure="marker")
        user, _made = User.objects.get_or_create(username="ann", is_superuser=True)
        self.cookie = log_in(user)
        self.start_daemon()
        self.server = Daphne(self.env, "tests.faults.channels.settings")

    def start_daemon(self) -> None:
        """Start it and wait until it works."""
        from linod.history import Job

        before = Job.objects.count()
        log = (self.folder / "daemon.log").open("ab")
        command = [sys.executable, "-m", "django", "linod"]
        self.daemon = subprocess.Popen(command, env=self.env, stdout=log, stderr=log)
        log.close()
        wait_until(lambda: Job.objects.count() > before, "the daemon works")

    def close(self) -> None:
        """End all of them."""
        if self.server is not None:
            self.server.stop()
        if self.daemon is not None:
            self.daemon.terminate()
            try:
                self.daemon.wait(20)
            except subprocess.TimeoutExpired:
                self.daemon.kill()
                self.daemon.wait()
        self.redis.thaw_and_kill()


@contextmanager
def world(capacity: int) -> Iterator[World]:
    """A world of its own, in a folder that is removed; Django is set up for it in this process."""
    folder = Path(tempfile.mkdtemp(prefix="p10-"))
    found = World(folder, capacity)
    os.environ.update(found.env)
    try:
        import django
        from django.core.management import call_command

        django.setup()
        call_command("migrate", verbosity=0)
        found.open()
        yield found
    finally:
        found.close()
        shutil.rmtree(folder, ignore_errors=True)


def run(outages: int, capacity: int, seed: int) -> list[Finding]:
    """So many outages, each after a time of peace; capacity: messages that a channel holds."""
    from tests.faults.channels.page import Page

    luck = random.Random(seed)
    with world(capacity) as here:
        page = Page(here.server.port, here.cookie, load_tasks)
        assert here.daemon is not None
        try:
            wait_until(lambda: page.is_live, "the page is live")
            rounds = [Round(here, page, number, luck) for number in range(2 * outages)]
            memory = resident(here.daemon.pid)
            for each in rounds:
                each.run()
            grown = resident(here.daemon.pid) - memory
            server_memory = resident(here.server.process.pid)
            unread = flood(here, seconds=min(outages, 20.0))
            server_grown = resident(here.server.process.pid) - server_memory
            is_alive = here.daemon.poll() is None
        finally:
            page.close()
        say(f"      the page heard {page.counts}")
        peace = sorted(d for each in rounds if not each.is_outage for d in each.delays())
        war = sorted(d for each in rounds if each.is_outage for d in each.delays())
    # Of a handful of jobs the 99th percentile is the one that had bad luck.
    part = 0.99 if outages >= 10 else 0.5
    for what, delays in (("in peace", peace), ("beside outages", war)):
        figures = ", ".join(f"{quantile(delays, p) * 1000:.0f}" for p in (0.5, 0.95, 0.99, 1))
        say(f"      {len(delays)} jobs {what}: p50, p95, p99, most: {figures} ms")
    change = quantile(war, part) - quantile(peace, part)
    healed = [each.healed for each in rounds if each.is_outage]
    return [
        Finding(f"delays, p{part * 100:.0f}, change", change, DELAY, "s"),
        Finding("page right after return, slowest", max(healed), HEALED, "s"),
        Finding("memory of the daemon, growth", grown, MEMORY, "KiB"),
        Finding("memory of the server, growth by a page that stands", server_grown, MEMORY, "KiB"),
        Finding("unread by that page", unread / 1024, UNREAD, "KiB"),
        Finding("daemon has ended", 0 if is_alive else 1, 0, ""),
    ]


class Round:
    """Some seconds in which something changes: every other one while Redis is frozen or dead."""

    def __init__(self, here: World, page: Any, number: int, luck: random.Random) -> None:
        self.here = here
        self.page = page
        self.is_outage = number % 2 == 1
        self.is_frozen = number % 4 == 1
        self.pauses = luck.uniform(0.2, 2.0), luck.uniform(0.2, 2.0)
        self.healed = 0.0

    def run(self) -> None:
        """Break it, change something, mend it, and wait until the page is right."""
        from linod import clock

        marker, redis = self.here.marker, self.here.redis
        self.began = clock.db_now()
        if self.is_outage:
            (redis.freeze if self.is_frozen else redis.kill)()
        time.sleep(self.pauses[0])
        marker.disable(f"at {time.monotonic()}")
        time.sleep(self.pauses[1])
        if self.is_outage:
            (redis.thaw if self.is_frozen else redis.start)()
        returned = time.monotonic()
        wanted = (True, marker.disabled_reason)
        wait_until(lambda: shown(self.page, marker.pk) == wanted, "the page is right")
        self.healed = time.monotonic() - returned
        # And what happens from now on arrives as before.
        marker.enable()
        wait_until(lambda: shown(self.page, marker.pk) == (False, ""), "the page goes on")
        self.ended = clock.db_now()

    def delays(self) -> list[float]:
        """The seconds from due instant to begin of the jobs that began meanwhile."""
        from linod.history import Job

        jobs = Job.objects.filter(procedure="tick", start_time__range=(self.began, self.ended))
        moments = jobs.values_list("start_time", "due_at")
        return [(start - due).total_seconds() for start, due in moments]


def shown(page: Any, pk: int) -> tuple[Any, Any]:
    """What the page shows of a task."""
    task = page.tasks.get(pk, {})
    return task.get("disabled"), task.get("disabled_reason")


def load_tasks() -> dict[int, dict[str, Any]]:
    """All tasks, as the JSON view has them."""
    from django.db import connection

    from linod.events import task_data
    from linod.models import BackgroundTask

    try:
        return {task.pk: task_data(task, None) for task in BackgroundTask.objects.all()}
    finally:
        connection.close()


def flood(here: World, seconds: float) -> int:
    """Send events to a page that does not read; returns the bytes that it could have read."""
    from asgiref.sync import async_to_sync
    from channels.layers import channel_layers

    socket = WebSocket(here.server.port, cookie=here.cookie, receive_buffer=4096)
    assert socket.status == 101

    async def send() -> None:
        layer = channel_layers.make_backend("default")
        events = [
            {"type": "job", "job": {"id": str(n), "error": "x" * 100}} for n in range(FLOOD // 10)
        ]
        until, n = time.monotonic() + seconds, 0
        while time.monotonic() < until:
            n += 1
            message = {"type": "live.events", "owner": "flood", "n": n, "events": events}
            await layer.group_send("broadcast_p10", message)
            time.sleep(0.1)  # noqa: ASYNC251 - nothing else runs in this loop
        await layer.close_pools()

    async_to_sync(send)()
    unread = socket.drain()
    socket.close()
    return unread


def resident(pid: int) -> int:
    """KiB of memory that a process holds."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise ValueError(f"no VmRSS of {pid}")


def quantile(values: list[float], part: float) -> float:
    """The value that this part of all (sorted) values does not exceed."""
    return values[min(int(len(values) * part), len(values) - 1)]


def say(text: str) -> None:
    """For whoever watches."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
