"""P2: a daemon wakes up after its lease: no body begins again, its writes are refused."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass

from tests.faults import schedules
from tests.faults.fleet import REFUSED, Process
from tests.faults.world import Finding, World, none, once_per_instant

TITLE = "A body begins at most once per job, and a stale owner's writes are refused"
DATABASES = ("postgresql", "mariadb", "sqlite")
#: Frozen at each of these, so many times at full size.
POINTS = ("claim", "body", "finish")
EACH = 100
#: How long: past the lease of 2 s.
FROZEN = 2.6
#: How many are frozen at a time. On SQLite whoever freezes in a transaction stops all others.
AT_A_TIME, IN_TRANSACTION = 4, {"sqlite": 1}
#: Seconds that one takes beside: until the trap springs, and until all goes on again.
AROUND, AROUND_ALONE = 0.6, 1.6
MIX = ((12, 1), (16, 2), (15, 3))


@dataclass
class Frozen:
    """A daemon in a trap."""

    process: Process
    kind: str
    since: float


def run(world: World) -> list[Finding]:
    each = world.times(EACH, least=2)
    wanted = Counter(dict.fromkeys(POINTS, each))
    done: Counter[str] = Counter()
    with world.fleet.running(0):
        _start(world, AT_A_TIME + 2)
        begin = schedules.soon()
        at_a_time = IN_TRANSACTION.get(world.kind, AT_A_TIME)
        around = AROUND if at_a_time > 1 else AROUND_ALONE
        seconds = int(each * len(POINTS) * (FROZEN + around) / at_a_time) + 40
        world.schedule(_tasks(world, begin, seconds))
        until = begin - world.epoch + seconds - 4
        frozen: list[Frozen] = []
        point = ""
        while (wanted.total() or frozen) and time.monotonic() < until:
            frozen = [each for each in frozen if not _has_thawed(each, done)]
            if not point and wanted.total() and len(frozen) < at_a_time:
                point = _point(world, wanted)
                world.fleet.set_trap(point, "stop")
            if point and (caught := world.fleet.sprung(point)) is not None:
                caught[0].is_frozen = True
                frozen.append(Frozen(caught[0], point.partition("-")[0], caught[1]))
                wanted[frozen[-1].kind] -= 1
                point = ""
            time.sleep(0.02)
        if point:
            world.fleet.take_trap(point)
        for process in world.fleet.alive:
            process.thaw()
        world.curtail()
        world.settle()
        fallen = len(world.fleet.fallen)
        codes = world.fleet.stop_all()
    verdict = world.verdict()
    world.tell(verdict)
    refused = world.fleet.said(REFUSED)
    return [
        Finding("freezes", ", ".join(f"{count} in mid-{point}" for point, count in done.items()),
                str(each), all(done[point] >= each for point in POINTS)),
        *once_per_instant(verdict),
        Finding("bodies whose job was taken from a frozen owner", f"{verdict.taken:,}"),
        Finding("their late outcomes refused", f"{refused:,}", f"{verdict.taken:,}",
                refused == verdict.taken),
        none("daemons that fell or hung", fallen + sum(map(bool, codes))),
    ]  # fmt: skip


def _start(world: World, count: int) -> None:
    """Start so many; on SQLite each for itself, or one would let another go on too soon."""
    apart = [
        {"LINOD_FAULTS_RUN_DIR": str(world.folder / f"run{number}")}
        if world.kind == "sqlite"
        else {}
        for number in range(count)
    ]
    for process in [world.fleet.start(**each) for each in apart]:
        world.fleet.wait_for(process)


def _tasks(world: World, begin: int, seconds: int) -> list[schedules.Schedule]:
    tasks = schedules.spread(world.rng, begin, seconds, MIX, arguments={"seconds": 0.05})
    again = {"rerun_lost": True, "max_attempts": 3}
    tasks = [
        schedules.replace(task, values=again) if number % 4 == 0 else task
        for number, task in enumerate(tasks)
    ]
    # Their bodies outlive a freeze: the next attempt runs beside the former one's body.
    return tasks + schedules.spread(
        world.rng, begin, seconds, [(6, 6)], arguments={"seconds": FROZEN + 1.5}, values=again
    )


def _point(world: World, wanted: Counter[str]) -> str:
    kind = world.rng.choice(sorted(wanted.elements()))
    return kind if kind == "body" else f"{kind}-{world.rng.choice(('before', 'after'))}-commit"


def _has_thawed(frozen: Frozen, done: Counter[str]) -> bool:
    """Whether this one was frozen long enough; then it goes on."""
    if time.monotonic() - frozen.since < FROZEN:
        return False
    frozen.process.thaw()
    done[frozen.kind] += 1
    return True
