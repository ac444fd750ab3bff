"""P3: no job stays with a dead daemon."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import suppress
from typing import cast

from tests.faults import schedules
from tests.faults.fleet import Process, wait_until
from tests.faults.world import Finding, World, at_most, median, once_per_instant

TITLE = "No job stays with a daemon that died"
DATABASES = ("postgresql", "mariadb", "sqlite")
DEATHS, EVERY = 300, 0.8
DAEMONS = 4
#: kill -9 from outside and in the middle of a transaction; os._exit in a body.
KINDS = (
    ("kill -9", ""),
    ("kill -9", "claim-before-commit"),
    ("kill -9", "claim-after-commit"),
    ("kill -9", "finish-before-commit"),
    ("os._exit in a body", "body"),
)
#: The lease, and how long after its end jobs must be final or somebody else's.
LEASE, TAKEOVER = 2.0, 6.0
#: Seconds in which a trap springs; else the daemon is killed from outside.
PATIENCE = 3.0
MIX = ((16, 1), (20, 2), (15, 3))


def run(world: World) -> list[Finding]:
    deaths = world.times(DEATHS, least=6)
    died: dict[int, float] = {}
    kinds: Counter[str] = Counter()
    with world.fleet.running(DAEMONS), world.watched() as watch:
        begin, seconds = schedules.soon(), int(deaths * (EVERY + 0.6)) + 30
        tasks = _tasks(world, begin, seconds)
        world.schedule(tasks)
        for number in range(deaths):
            at = begin - world.epoch + (number + world.rng.random()) * EVERY
            time.sleep(max(at - time.monotonic(), 0))
            # Somebody must be left who can take over: on a busy machine they come up slowly.
            with suppress(TimeoutError):
                wait_until(lambda: len(world.fleet.ready) > 1, 10, "two daemons work")
            kind, point = world.rng.choice(KINDS)
            if (victim := _let_die(world, kind, point)) is not None:
                died[victim.pid] = victim.ended_at or 0.0
                kinds[kind] += 1
            while len(world.fleet.alive) < DAEMONS:
                world.fleet.start()
        world.curtail()
        settled = world.settle()
        owners = world.owners()
    lines = world.lines()
    devours = {task.task for task in world.schedules if task.body == "devour"}
    kinds["memory limit in a body"] = sum(line.task in devours for line in lines)
    verdict = world.verdict()
    world.tell(verdict)
    silent = [
        max(watch.last_held.get(owners[pid], at) - at, 0.0)
        for pid, at in died.items()
        if pid in owners
    ]
    return [
        Finding("deaths", ", ".join(f"{count} by {kind}" for kind, count in kinds.items()),
                str(deaths), kinds.total() >= deaths),
        *once_per_instant(verdict),
        Finding("jobs lost", f"{verdict.states['lost']:,}"),
        Finding("a dead daemon's jobs held for, median", f"{median(silent):.2f} s"),
        at_most("longest", max(silent, default=0.0), LEASE + TAKEOVER),
        at_most("until quiet", settled, 30),
    ]  # fmt: skip


def _tasks(world: World, begin: int, seconds: int) -> list[schedules.Schedule]:
    tasks = schedules.spread(world.rng, begin, seconds, MIX, arguments={"seconds": 0.2})
    again = {"rerun_lost": True, "max_attempts": 5}
    tasks = [
        schedules.replace(task, values=again) if number % 3 == 0 else task
        for number, task in enumerate(tasks)
    ]
    never_disabled = {"disable_after": 0}
    return tasks + schedules.spread(
        world.rng, begin, seconds, [(1, 5)], body="devour", values=never_disabled
    )


def _let_die(world: World, kind: str, point: str) -> Process | None:
    """Let one die, whoever gets to the point first; None: there is none that works."""
    fleet = world.fleet
    if point:
        fleet.set_trap(point, "exit" if kind.startswith("os._exit") else "kill")
        try:
            victim, at = wait_until(lambda: fleet.sprung(point), PATIENCE, "the trap springs")
        except TimeoutError:
            if not fleet.take_trap(point):
                raise
        else:
            victim.popen.wait()
            victim.ended_at = at
            return cast(Process, victim)
    if not fleet.ready:
        return None
    victim = world.rng.choice(fleet.ready)
    victim.kill()
    return victim
