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
#: Seconds for which the link hangs.
HALF_OPEN = 60.0
DAEMONS = 3
#: Seconds from the database's return to the first begin of a body.
RETURN = 5.0
MIX = ((10, 1), (16, 2), (15, 3))


def run(world: World) -> list[Finding]:
    ended, restarts = world.times(ENDED, least=4), world.times(RESTARTS, least=1)
    commits, hang = world.times(COMMITS, least=6), max(HALF_OPEN * world.size, 4.0)
    proxy = Proxy(world.server.port, world.rng)
    proxy.start()
    world.fleet.environment = world.environment(proxy.port)
    with world.fleet.running(DAEMONS):
        begin = schedules.soon()
        seconds = int(ended * 0.45 + restarts * 5.5 + commits * 0.4 + 2 * (hang + 6)) + 30
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
        for keeps in (True, False):
            proxy.hang()
            time.sleep(hang)
            proxy.go_on(keeps=keeps)
            returned.append(time.monotonic())
            _wait_for_begin(world, returned[-1])
        world.curtail()
        world.settle()
        exited = sum(not process.is_alive for process in world.fleet.all)
        codes = world.fleet.stop_all()
    proxy.stop()
    waits = [(_first_begin(world, back) or back + 99.0) - back for back in returned]
    verdict = world.verdict()
    world.tell(verdict)
    return [
        Finding("outages", f"{ended} times all connections ended, {restarts} immediate restarts,"
                f" {proxy.cuts} cuts at COMMIT, the link hung twice for {hang:.0f} s"),
        *once_per_instant(verdict),
        none("daemons that ended", exited + sum(map(bool, codes))),
        at_most("first begin after the return", max(waits), RETURN),
        Finding("rows", f"{verdict.rows:,} (+ {verdict.coalesced:,} counted as missed)"),
        Finding("jobs lost", str(verdict.states["lost"])),
        Finding("lost before their body began", str(verdict.lost_unbegun)),
    ]  # fmt: skip


def _wait_for_begin(world: World, since: float) -> None:
    """Until bodies begin again, and a moment longer; the limit is a figure of its own."""
    with suppress(TimeoutError):
        wait_until(lambda: _first_begin(world, since), 2 * RETURN, "bodies begin again")
    time.sleep(world.rng.uniform(0.5, 1.5))


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
