"""P4: there is no leader, so there is no gap when any daemon fails."""

from __future__ import annotations

import time

from django.db import connection

from tests.faults import schedules
from tests.faults.fleet import Process
from tests.faults.journal import BEGIN
from tests.faults.world import Finding, World, at_most, none, once_per_instant, percentile

TITLE = "When a daemon dies or freezes, the others go on at once"
DATABASES = ("postgresql", "mariadb", "sqlite")
FAULTS, EVERY = 60, 4.0
A_SECOND = 12
DAEMONS = 3
#: How long a daemon freezes: past its lease.
FROZEN = 3.0
KINDS = ("kill", "freeze", "kill in its claim", "freeze in its claim")
P99, MOST = 1.5, 3.0


def run(world: World) -> list[Finding]:
    faults = world.times(FAULTS, least=4)
    counts, by_chance = dict.fromkeys(KINDS, 0), 0
    with world.fleet.running(DAEMONS):
        begin, seconds = schedules.soon(6), int(faults * EVERY) + 6
        # Each task is due once: no instant waits for an earlier job of its task.
        world.schedule(schedules.singles(begin, seconds, A_SECOND, arguments={"seconds": 0.05}))
        for number in range(faults):
            at = begin - world.epoch + 2 + (number + world.rng.random() * 0.2) * EVERY
            time.sleep(max(at - time.monotonic(), 0))
            kind = KINDS[number % len(KINDS)]
            by_chance += _inject(world, kind)
            counts[kind] += 1
            while len(world.fleet.alive) < DAEMONS:
                world.fleet.start()
        world.settle()
        fallen = len(world.fleet.fallen)
        codes = world.fleet.stop_all()
    verdict = world.verdict()
    world.tell(verdict)
    delays = _delays(world)
    usual = percentile(delays, 50)
    added = [max(delay - usual, 0.0) for delay in delays]
    return [
        Finding("faults", ", ".join(f"{count} times {kind}" for kind, count in counts.items())),
        *([Finding("of them by chance with the lock", str(by_chance))] * (world.kind == "sqlite")),
        *once_per_instant(verdict),
        Finding("usual delay", f"{usual:.3f} s"),
        at_most("added delay p99", percentile(added, 99), P99),
        at_most("longest", max(added, default=0.0), MOST),
        Finding("jobs lost", str(verdict.states["lost"])),
        none("daemons that fell or hung", fallen + sum(map(bool, codes))),
    ]  # fmt: skip


def _inject(world: World, kind: str) -> bool:
    """Kill or freeze one; returns whether that one kept by chance all others out of SQLite."""
    fleet = world.fleet
    if "claim" not in kind:
        victim = world.rng.choice(fleet.ready)
        if kind == "kill":
            victim.kill()
            return False
        since = time.monotonic()
        victim.freeze()
        has_lock = world.kind == "sqlite" and _has_lock(victim)
        time.sleep(since + FROZEN - time.monotonic())
        victim.thaw()
        return has_lock
    point = "claim-before-commit"
    fleet.set_trap(point, kind.split(maxsplit=1)[0].replace("freeze", "stop"))
    deadline = time.monotonic() + 3
    while (caught := fleet.sprung(point)) is None:
        if time.monotonic() > deadline and fleet.take_trap(point):
            raise TimeoutError("nobody claims anything")
        time.sleep(0.01)
    victim, since = caught
    if kind.startswith("kill"):
        victim.popen.wait()
        return False
    victim.is_frozen = True
    time.sleep(since + FROZEN - time.monotonic())
    victim.thaw()
    return False


def _has_lock(victim: Process) -> bool:
    """Whether it keeps others from writing to SQLite."""
    from linod import writelock

    deadline = time.monotonic() + 0.1  # another one may be about to let it go on
    while not writelock.is_stopped(victim.pid) and time.monotonic() < deadline:
        time.sleep(0.001)
    return victim.pid in writelock.holders(connection.settings_dict["NAME"])


def _delays(world: World) -> list[float]:
    """From the instant to the begin, of the jobs that were not claimed by whoever failed."""
    lost = {job.id for job in world.jobs() if job.state == "lost" or job.fence > 1}
    begins = [line for line in world.lines() if line.event == BEGIN and line.job not in lost]
    return sorted(world.delays(begins))
