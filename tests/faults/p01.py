"""P1: exactly one job per due instant, whoever is killed."""

from __future__ import annotations

import time

from tests.faults import schedules
from tests.faults.fleet import Process
from tests.faults.world import Finding, World, at_most, once_per_instant

DATABASES = ("postgresql", "mariadb", "sqlite")
TITLE = "Every due instant has exactly one job, or is counted in one"
#: 3,000 instants a minute, at full size: (tasks, every so many seconds).
MIX = ((20, 1), (24, 2), (30, 3), (40, 5))
KILLS, EVERY = 200, 1.25
#: MAX_CONCURRENCY of the tests: so many jobs may be between their commit and their bodies' begin.
PLACES = 10


def run(world: World) -> list[Finding]:
    kills = world.times(KILLS, least=6)
    with world.fleet.running(3):
        begin, seconds = schedules.soon(), int(kills * EVERY) + 2
        tasks = schedules.spread(world.rng, begin, seconds, MIX)
        for number, policy in ((0, "all"), (1, "skip"), (2, "skip"), (50, "all"), (51, "skip")):
            tasks[number] = schedules.replace(tasks[number], policy=policy)
        for number in range(5, len(tasks), 2):
            # Bodies that take a moment are interrupted in the middle more often.
            tasks[number] = schedules.replace(tasks[number], arguments={"seconds": 0.25})
        world.schedule(tasks)
        for number in range(kills):
            at = begin - world.epoch + (number + world.rng.random()) * EVERY
            time.sleep(max(at - time.monotonic(), 0))
            victim = world.rng.choice(_grown(world) or world.fleet.alive)
            victim.kill()
            world.fleet.start()
        settled = world.settle()
    verdict = world.verdict()
    world.tell(verdict)
    unbegun = verdict.lost_unbegun
    most = max(unbegun.values(), default=0)
    return [
        Finding("kills", str(kills)),
        *once_per_instant(verdict),
        Finding("rows", f"{verdict.rows:,} (+ {verdict.coalesced:,} counted as missed,"
                f" {verdict.skipped:,} skipped by policy)"),
        Finding("jobs lost", f"{verdict.states['lost']:,}"),
        Finding("lost before their body began", str(unbegun.total())),
        Finding("most of them of one killed daemon", str(most), str(PLACES), most <= PLACES),
        at_most("until quiet", settled, 30),
    ]  # fmt: skip


def _grown(world: World) -> list[Process]:
    """Mostly those that work already; one in ten may still be coming up."""
    return [] if world.rng.random() < 0.1 else world.fleet.ready
