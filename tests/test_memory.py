"""What a long log took is given back when it has been stored."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from unittest import mock

import pytest

from linod import memory, upkeep
from linod.bridge import Bridge
from linod.history import Job
from tests.daemons import (
    empty_site,
    ended_jobs,
    make_task,
    running_daemon,
    wait_until,
)

GROWTH = """
import sys
import threading
from pathlib import Path
from linod import memory

def megabytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6

if sys.argv[1] == "settled":
    memory.settle()
first = b"x" * 2**20
del first  # here glibc would learn that blocks of this size come and go
before = megabytes()
blocks = [number.to_bytes() * 2**20 for number in range(32)]
del blocks[:-1]  # the last one keeps the heap from shrinking
print(megabytes() - before)
"""


PINNED = """
from pathlib import Path
from linod import memory

def megabytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6

blocks = [number.to_bytes(1000) for number in range(20_000)]
del blocks[:-1]  # the last one keeps the heap from shrinking
before = megabytes()
memory.give_back()
print(megabytes() - before)
"""


def growth(how: str) -> float:
    told = subprocess.run(
        [sys.executable, "-c", GROWTH, how], capture_output=True, text=True, check=True
    )
    return float(told.stdout)


only_glibc = pytest.mark.skipif(
    "glibc" not in (os.confstr("CS_GNU_LIBC_VERSION") or "").lower(), reason="glibc only"
)


@only_glibc
def test_large_blocks_are_given_back() -> None:
    assert growth("settled") < 5
    assert growth("as it was") > 20


@only_glibc
def test_what_lies_between_blocks_is_given_back() -> None:
    told = subprocess.run(
        [sys.executable, "-c", PINNED], capture_output=True, text=True, check=True
    )
    assert float(told.stdout) < -15


@pytest.fixture
def site() -> Iterator[None]:
    """Nothing but the test's tasks; each second passes in a twentieth of one."""
    with empty_site(), mock.patch.object(upkeep, "UPKEEP", 0.05):
        yield


@pytest.mark.usefixtures("site")
@pytest.mark.django_db(transaction=True)
def test_a_daemon_gives_back_what_long_logs_took_once_it_is_idle(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given_back: list[float] = []
    monkeypatch.setattr(memory, "give_back", lambda: given_back.append(time.monotonic()))
    brief = make_task(lambda ar: ar.info("briefly"), "brief")
    long = make_task(lambda ar: ar.warning("x" * (upkeep.MUCH + 1)), "long")
    with running_daemon():
        brief.request_run()
        ended_jobs(1)
        between = time.monotonic()
        long.request_run()
        wait_until(lambda: given_back, "memory is given back")
    assert len(given_back) == 1
    assert given_back[0] > between


@pytest.mark.django_db(transaction=True)
def test_nothing_of_a_visit_to_the_database_is_kept_until_the_next() -> None:
    class Log(list[str]):
        """Something that a weak reference can point to."""

    async def visit() -> None:
        gone, loop = asyncio.Event(), asyncio.get_running_loop()
        bridge = Bridge("default")
        try:
            log = Log()
            known = weakref.ref(log, lambda _ref: loop.call_soon_threadsafe(gone.set))
            await bridge.call(len, log)
            del log
            await asyncio.wait_for(gone.wait(), 10)
            assert known() is None
        finally:
            bridge.close()

    gc.disable()
    try:
        asyncio.run(visit())
    finally:
        gc.enable()


@pytest.mark.usefixtures("site")
@pytest.mark.django_db(transaction=True)
def test_a_daemon_that_is_never_idle_gives_it_back_now_and_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given_back: list[float] = []
    monkeypatch.setattr(memory, "give_back", lambda: given_back.append(time.monotonic()))
    monkeypatch.setattr(upkeep, "GIVE_BACK", 0.1)
    go_on = threading.Event()
    make_task(lambda ar: go_on.wait(30), "busy").request_run()
    make_task(lambda ar: ar.warning("x" * (upkeep.MUCH + 1)), "long").request_run()
    with running_daemon():
        try:
            wait_until(lambda: given_back, "memory is given back")
            assert Job.objects.running().count() == 1
        finally:
            go_on.set()
