"""The bodies of the fault tests; each says in the journal when it begins and when it ends."""

from __future__ import annotations

import asyncio
import os
import resource
import threading
import time

from linod import BaseRequest, background_task
from tests.faults import journal
from tests.faults.site import traps

#: Never set: waiting for it is a pause that nothing shortens.
NEVER = threading.Event()


@background_task
def note(ar: BaseRequest) -> None:
    """Take as long as the task says (``seconds``)."""
    journal.write(journal.BEGIN, ar)
    traps.spring("body")
    if seconds := ar.arguments.get("seconds"):
        NEVER.wait(seconds)
    journal.write(journal.END, ar)


@background_task
async def anote(ar: BaseRequest) -> None:
    """The same in the event loop."""
    journal.write(journal.BEGIN, ar)
    if seconds := ar.arguments.get("seconds"):
        await asyncio.sleep(seconds)
    journal.write(journal.END, ar)


@background_task
def leave(ar: BaseRequest) -> None:
    """End the whole process from inside, now and then."""
    journal.write(journal.BEGIN, ar)
    os._exit(3)


@background_task
def devour(ar: BaseRequest) -> None:
    """Take all the memory that this process may have."""
    journal.write(journal.BEGIN, ar)
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()  # noqa: SIM115
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (used + (8 << 20), hard))
    try:
        hoard = []
        while True:
            hoard.append(bytearray(1 << 16))
    finally:
        del hoard
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))


@background_task
def ignore(ar: BaseRequest) -> None:
    """Run for ``seconds`` whatever is raised inside."""
    journal.write(journal.BEGIN, ar)
    until = time.monotonic() + ar.arguments["seconds"]
    while time.monotonic() < until:
        try:
            NEVER.wait(0.05)
        except BaseException:  # noqa: BLE001 - what this body is for
            continue
    journal.write(journal.END, ar)


@background_task
def fail(ar: BaseRequest) -> None:
    """Fail."""
    raise ValueError("This body fails")


@background_task
def talk(ar: BaseRequest) -> None:
    """Log ``megabytes``, loudly enough for the level of the tests' tasks."""
    line = "x" * 1000
    for _ in range(int(ar.arguments["megabytes"] * 1000)):
        ar.warning(line)


@background_task
def nothing() -> None:
    """Do nothing."""


@background_task
def burn(ar: BaseRequest) -> None:
    """Keep a processor busy with Python code for ``seconds``."""
    until = time.monotonic() + ar.arguments["seconds"]
    while time.monotonic() < until:
        sum(range(1000))


@background_task
async def feel(ar: BaseRequest) -> None:
    """For ``seconds``, note how late the event loop wakes who sleeps 20 ms in it."""
    until = time.monotonic() + ar.arguments["seconds"]
    late = []
    while (now := time.monotonic()) < until:
        await asyncio.sleep(0.02)
        late.append(time.monotonic() - now - 0.02)
    journal.write("lag", ar, " ".join(f"{value:.5f}" for value in late))
