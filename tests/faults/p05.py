"""P5: only the database's clock counts, and a step of it makes nothing run twice or not at all."""

from __future__ import annotations

import time
from pathlib import Path

from tests.faults import schedules
from tests.faults.journal import BEGIN
from tests.faults.servers import MissingError, Server
from tests.faults.world import Finding, World, none, once_per_instant, percentile

TITLE = "Only the database's clock counts"
DATABASES = ("postgresql", "mariadb")
#: Seconds for which daemons' clocks are wrong, and between two steps of one that is set again.
SECONDS, EVERY = 150, 5.0
OFFSETS = (5, -5, 3600)
STEPS = (600, 0, -600, 0, 7200, 0, -7200, 0)
#: The database's own clock: to these offsets, and how long each stands (seconds).
SERVER_STEPS, STANDS = (600, 0, 1200, 600, 7800), 12.0
#: At a small size: still longer than a lease.
FEW, SHORT = 2, 5.0
#: A body that begins sooner than this before its instant began early (seconds).
EARLY = 0.1
MIX = ((10, 1), (10, 2), (10, 3))
JUMPED = "The database's clock jumped"


def prepare(server: Server) -> None:
    """Let the server's clock be set from outside."""
    clock = server.folder / "server.clock"
    _set(clock, 0)
    server.extra_env = _stepped(clock)


def run(world: World) -> list[Finding]:
    seconds = max(int(SECONDS * world.size), 12)
    clock = world.folder / "daemon.clock"
    _set(clock, 0)
    fleet = world.fleet
    started = [fleet.start(**_faked(f"{offset:+d}")) for offset in OFFSETS]
    started.append(fleet.start(**_stepped(clock)))
    for process in started:
        fleet.wait_for(process)
    begin = schedules.soon()
    world.schedule(schedules.spread(world.rng, begin, seconds, MIX, arguments={"seconds": 0.05}))
    steps = 0
    while time.time() < begin + seconds:
        time.sleep(EVERY)
        _set(clock, STEPS[steps % len(STEPS)])
        steps += 1
    world.settle()
    first = world.verdict()
    world.tell(first)
    delays = world.delays(line for line in world.lines() if line.event == BEGIN)
    # The server's own clock, with the same daemons.
    is_full = world.size >= 1
    server_steps = SERVER_STEPS if is_full else SERVER_STEPS[:FEW]
    stands = STANDS if is_full else SHORT
    begin = schedules.soon()
    last = begin + int(len(server_steps) * stands) + max(server_steps)
    world.schedule(
        [
            schedules.replace(task, last=last)
            for task in schedules.spread(world.rng, begin, 1, MIX, arguments={"seconds": 0.4})
        ]
    )
    for offset in server_steps:
        time.sleep(stands)
        _set(world.server.folder / "server.clock", offset)
    time.sleep(stands)
    _set(world.server.folder / "server.clock", last - begin + 60)
    world.settle()
    fallen = len(fleet.fallen)
    codes = fleet.stop_all()
    verdict = world.verdict()
    world.tell(verdict)
    jumps = sum(decision.kind == "clock_jumped" for decision in world.decisions())
    return [
        Finding("daemons", f"at {', '.join(f'{offset:+d} s' for offset in OFFSETS)}, and one whose"
                f" clock was set {steps} times"),
        none("starts more than 100 ms early", sum(delay < -EARLY for delay in delays)),
        Finding("start after the instant, p99", f"{percentile(delays, 99):.3f} s"),
        none("jobs lost while daemons' clocks were wrong", first.states["lost"]),
        *once_per_instant(verdict),
        Finding("steps of the database's clock", str(len(server_steps) + 1)),
        Finding("of which the ledger tells", str(jumps), "at least one", jumps > 0),
        none("jobs lost by them", verdict.states["lost"] - first.states["lost"]),
        none("daemons that fell or hung", fallen + sum(map(bool, codes))),
    ]  # fmt: skip


def _library() -> str:
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    if not found:
        raise MissingError("libfaketime is missing: apt-get install faketime")
    return str(found[0])


def _faked(offset: str) -> dict[str, str]:
    return {"LD_PRELOAD": _library(), "FAKETIME": offset, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}


def _stepped(clock: Path) -> dict[str, str]:
    return {
        "LD_PRELOAD": _library(),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }


def _set(clock: Path, offset: int) -> None:
    """Set a clock that many seconds beside the true one."""
    new = clock.with_suffix(".new")
    new.write_text(f"{offset:+d}\n")
    new.rename(clock)
