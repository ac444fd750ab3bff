"""P8: a database that goes away neither ends nor wedges a daemon."""

from __future__ import annotations

import time
from contextlib import suppress

from tests.faults import schedules
from tests.faults.fleet import wait_until
from tests.faults.journal import BEGIN
from tests.faults.proxy import Proxy
from tests.faults.world import Finding, World, at_most, none, once_per_instant

TITLE = "An outage of the database neither ends nor wedges a daemon"
DATABASES = ("postgresql", "mariadb")
#: How often at full size: all connections ended, the server restarted, cut at a COMMIT.
ENDED, RESTARTS, COMMITS = 100, 12, 200
#: How often all links fall silent for ever while new ones work.
SILENCES = 20
#: Seconds for which the link hangs.
HALF_OPEN = 60.0
DAEMONS = 3
#: Seconds from the database's return to the first begin of a body.
RETURN = 5.0
#: Seconds from the silence of a link to the first begin of a body on a new one; and those in which
#: bodies may begin that were let begin before.
SILENCE, LEFT = 10.0, 1.0
#: GRACE of the tests, and what a stop may take beyond it.
GRACE, BEYOND = 3.0, 2.0
MIX = ((10, 1), (16, 2), (15, 3))


def run(world: World) -> list[Finding]:
    ended, restarts = world.times(ENDED, least=4), world.times(RESTARTS, least=1)
    commits, hang = world.times(COMMITS, least=6), max(HALF_OPEN * world.size, 4.0)
    silences = world.times(SILENCES, least=1)
    proxy = Proxy(world.server.port, world.rng)
    proxy.start()
    world.fleet.environment = world.environment(proxy.port)
    with world.fleet.running(DAEMONS):
        begin = schedules.soon()
        seconds = int(ended * 0.45 + restarts * 5.5 + commits * 0.4 + 3 * (hang + 6)) + 30
        seconds += int(silences * (SILENCE + 2))
        tasks = schedules.spread(world.rng, begin, seconds, MIX, arguments={"seconds": 0.03})
        world.schedule(tasks)
        time.sleep(max(begin + 2 - time.time(), 0))
        returned: list[float] = []
        for _ in range(ended):
            world.server.cut_connections()
            time.sleep(world.rng.uniform(0.3, 0.6))
        for _ in range(commits):
            proxy.cut_at_commit(answer_only=world.rng.random() < 0.5)
            _wait_for_cut(proxy)
        for _ in range(restarts):
            world.server.crash()
            time.sleep(world.rng.uniform(0, 3))
            world.server.start()
            returned.append(time.monotonic())
            _wait_for_begin(world, returned[-1])
        for how in ("kept", "cut", "swallowed"):
            if how == "swallowed":
                proxy.swallow()
            proxy.hang()
            time.sleep(hang)
            proxy.go_on(keeps=how != "cut")
            returned.append(time.monotonic())
            _wait_for_begin(world, returned[-1])
        silent = [_fall_silent(world, proxy) for _ in range(silences)]
        world.curtail()
        world.settle()
        exited = [process for process in world.fleet.all if not process.is_alive]
        proxy.swallow()
        asked = time.monotonic()
        codes = world.fleet.stop_all()
        stopped = time.monotonic() - asked
        for process in world.fleet.all:
            if process in exited or process.popen.returncode:
                world.note(f"{process.name}: {process.popen.returncode} {process.last_words()}")
    proxy.stop()
    waits = [(_first_begin(world, back) or back + 99.0) - back for back in returned]
    verdict = world.verdict()
    world.tell(verdict)
    return [
        Finding("outages", f"{ended} times all connections ended, {restarts} immediate restarts,"
                f" {proxy.cuts} cuts at COMMIT, the link hung three times for {hang:.0f} s,"
                f" {silences} times all links fell silent"),
        *once_per_instant(verdict),
        none("daemons that ended", len(exited) + sum(map(bool, codes))),
        at_most("first begin after the return", max(waits), RETURN),
        at_most("first begin after links fell silent", max(silent), SILENCE),
        at_most("longest stop with silent links", stopped, GRACE + BEYOND),
        Finding("rows", f"{verdict.rows:,} (+ {verdict.coalesced:,} counted as missed)"),
        Finding("jobs lost", str(verdict.states["lost"])),
        Finding("lost before their body began", str(verdict.lost_unbegun.total())),
    ]  # fmt: skip


def _wait_for_begin(world: World, since: float) -> None:
    """Until bodies begin again, and a moment longer; the limit is a figure of its own."""
    with suppress(TimeoutError):
        wait_until(lambda: _first_begin(world, since), 2 * RETURN, "bodies begin again")
    time.sleep(world.rng.uniform(0.5, 1.5))


def _fall_silent(world: World, proxy: Proxy) -> float:
    """Let all links swallow what is sent; returns the seconds until a body begins all the same."""
    proxy.swallow()
    since = time.monotonic()
    with suppress(TimeoutError):
        wait_until(lambda: _first_begin(world, since + LEFT), 2 * SILENCE, "bodies begin again")
    time.sleep(world.rng.uniform(0.5, 1.5))
    return (_first_begin(world, since + LEFT) or since + 99.0) - since


def _first_begin(world: World, since: float) -> float | None:
    """When a body began first after that moment, both on the monotonic clock."""
    begins = (line.at for line in world.lines() if line.event == BEGIN and line.at > since)
    return min(begins, default=None)


def _wait_for_cut(proxy: Proxy) -> None:
    """Until somebody has sent a COMMIT, and a moment longer."""
    before, deadline = proxy.cuts, time.monotonic() + 3
    while proxy.cuts == before and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.2)
