"""P7: a graceful stop ends in time and leaves nothing behind, whenever it is asked for."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tests.faults import schedules
from tests.faults.fleet import Process
from tests.faults.journal import BEGIN, Line
from tests.faults.world import Finding, World, at_most, median, none, once_per_instant

TITLE = "A stop ends in time and leaves nothing behind"
DATABASES = ("postgresql", "mariadb", "sqlite")
STOPS, EVERY = 500, 0.55
#: How much slower than that a machine may come to so many stops: each needs a daemon that came up.
SLOWER = 2.5
RESTARTS = 100
DAEMONS = 4
#: GRACE of the tests, and what a stop may take beyond it.
GRACE, BEYOND = 3.0, 2.0
#: Seconds that the connection to an ended daemon's rows may lag behind its exit, in the watch.
LAG = 0.5
MIX = ((16, 1), (20, 2), (15, 3))
#: Bodies that ignore every interruption, and for how many seconds; a stop meets one that would go
#: on behind GRACE for LEFT seconds and more.
DEAF, IGNORES, LEFT = ((2, 15),), 8.0, 1.5


@dataclass
class Stop:
    """A daemon that was asked to end."""

    process: Process
    how: str
    asked_at: float
    again_at: float | None = None
    took: float | None = None


def run(world: World) -> list[Finding]:
    wanted = world.times(STOPS, least=8)
    stops: list[Stop] = []
    supervised = Supervised(world, world.times(RESTARTS, least=2))
    with world.fleet.running(DAEMONS - 1), world.watched() as watch:
        begin, seconds = schedules.soon(), int(wanted * EVERY * SLOWER) + 30
        world.schedule(_tasks(world, begin, seconds))
        supervised.start()
        until, is_met = begin - world.epoch + seconds - 2, False
        while len(stops) < wanted and time.monotonic() < until:
            asked = {stop.process.name for stop in stops}
            _wait(stops, time.monotonic() + world.rng.uniform(0, 2 * EVERY))
            free = [p for p in world.fleet.ready if p.name not in asked]
            if not is_met and (busy := _busy(world, free)):
                # At every size one stop meets a deaf body, whatever chance brings besides.
                stops.append(_ask(world, busy[0], ("TERM", "INT")))
                is_met = True
            elif free and (is_met or len(stops) < wanted - 1):
                stops.append(_ask(world, world.rng.choice(free)))
            asked = {stop.process.name for stop in stops}
            while sum(p.name not in asked for p in world.fleet.alive) < DAEMONS:
                world.fleet.start()
        deadline = time.monotonic() + GRACE + BEYOND + 1
        while any(stop.took is None for stop in stops) and time.monotonic() < deadline:
            _wait(stops, time.monotonic())
            time.sleep(0.01)
        supervised.join()
        for process in world.fleet.alive:
            # The signal ends what has not come up yet with another code.
            world.fleet.wait_for(process)
        world.curtail()
        world.settle()
        owners = world.owners()
        codes = Counter(p.popen.returncode for p in world.fleet.all if not p.is_alive)
        for process in world.fleet.all:
            if not process.is_alive and process.popen.returncode:
                world.note(f"{process.name}: {process.popen.returncode} {process.last_words()}")
        last = world.fleet.stop_all()
    verdict = world.verdict()
    world.tell(verdict)
    ended = [stop for stop in stops if stop.took is not None]
    orderly = [stop for stop in ended if stop.how != "TERM twice"]
    left = [
        stop
        for stop in orderly
        if (owner := owners.get(stop.process.pid)) in watch.last_held
        and watch.last_held[owner] > (stop.process.ended_at or 0) + LAG
    ]
    for stop in left:
        held = watch.last_held[owners[stop.process.pid]] - (stop.process.ended_at or 0)
        world.note(f"{stop.process.name} held jobs for {held:.1f} s: {stop.process.last_words()}")
    deaf = _deaf(world)
    met = [stop.took for stop in orderly if stop.took and _meets(deaf, stop.process, stop.asked_at)]
    hows = Counter(stop.how for stop in stops)
    slowest = max((stop.took or 99 for stop in orderly), default=0.0)
    return [
        Finding("stops", ", ".join(f"{count} by {how}" for how, count in hows.items()),
                str(wanted), len(stops) >= wanted),
        Finding("restarts by supervisorctl", str(supervised.done), str(supervised.count),
                supervised.done == supervised.count),
        *once_per_instant(verdict),
        none("stops that hang", len(stops) - len(ended)),
        Finding("seconds to stop, median", f"{median([s.took or 0 for s in orderly]):.2f} s"),
        at_most("longest", slowest, GRACE + BEYOND),
        Finding("stops that met a body which ignores them", str(len(met)), "1 or more", bool(met)),
        Finding("the shortest of these", f"{min(met, default=0):.2f} s", f"at least {GRACE:g} s",
                min(met, default=0) >= GRACE),
        none("ends with another code than 0", sum(n for c, n in codes.items() if c != 0)),
        none("daemons that left jobs behind", len(left)),
        none("processes left behind", len(_orphans(world)) + sum(map(bool, last))),
        Finding("jobs lost at the end of GRACE or by a second signal", str(verdict.states["lost"])),
    ]  # fmt: skip


def _tasks(world: World, begin: int, seconds: int) -> list[schedules.Schedule]:
    tasks = schedules.spread(world.rng, begin, seconds, MIX, arguments={"seconds": 0.15})
    deaf = schedules.spread(
        world.rng, begin, seconds, DEAF, body="ignore", arguments={"seconds": IGNORES}
    )
    soft = schedules.spread(world.rng, begin, seconds, [(5, 2)], body="anote",
                            arguments={"seconds": 0.4})  # fmt: skip
    return tasks + deaf + soft


def _deaf(world: World) -> list[Line]:
    """The begins of the bodies that ignore their end."""
    deaf = {task.task for task in world.schedules if task.body == "ignore"}
    return [line for line in world.lines() if line.event == BEGIN and line.task in deaf]


def _busy(world: World, processes: list[Process]) -> list[Process]:
    """Those whose stop would meet such a body now."""
    deaf, now = _deaf(world), time.monotonic()
    return [process for process in processes if _meets(deaf, process, now)]


def _meets(deaf: list[Line], process: Process, at: float) -> bool:
    """Whether a daemon that is asked to end at that moment has one that goes on behind GRACE."""
    left = IGNORES - GRACE - LEFT
    return any(line.pid == process.pid and line.at < at < line.at + left for line in deaf)


def _ask(
    world: World, process: Process, hows: tuple[str, ...] = ("TERM", "INT", "TERM twice")
) -> Stop:
    how = world.rng.choices(hows, (6, 2, 1)[: len(hows)])[0]
    number = signal.SIGINT if how == "INT" else signal.SIGTERM
    asked = process.signal(number)
    # Within 0.3 s it would be taken for the same signal.
    again = asked + world.rng.uniform(0.4, 1.0) if how == "TERM twice" else None
    return Stop(process, how, asked, again)


def _wait(stops: list[Stop], until: float) -> None:
    """Until then, note who has ended, and send the second signals."""
    while True:
        now = time.monotonic()
        for stop in stops:
            if stop.took is None and not stop.process.is_alive:
                stop.took, stop.process.ended_at = now - stop.asked_at, now
            elif stop.again_at is not None and now >= stop.again_at:
                stop.again_at = None
                if stop.process.is_alive:
                    stop.process.signal(signal.SIGTERM)
        if now >= until:
            return
        time.sleep(0.01)


def _orphans(world: World) -> list[int]:
    """Processes of this experiment that live and that nobody started, or that nobody ends."""
    mark = f"LINOD_FAULTS_JOURNAL={world.journal}".encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
        except OSError:
            continue
    return [pid for pid in found if pid != os.getpid()]


CONF = """[supervisord]
nodaemon=true
logfile={folder}/supervisord.log
pidfile={folder}/supervisord.pid
[unix_http_server]
file={folder}/supervisor.sock
[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
[supervisorctl]
serverurl=unix://{folder}/supervisor.sock
[program:linod]
command={command}
directory={root}
startsecs=0
stopwaitsecs=13
stopasgroup=true
redirect_stderr=true
stdout_logfile={folder}/supervised.log
stdout_logfile_maxbytes=0
"""


class Supervised(threading.Thread):
    """A further daemon, under Supervisor, that is restarted again and again."""

    def __init__(self, world: World, count: int) -> None:
        super().__init__(daemon=True)
        self.world = world
        self.count = count
        self.done = 0

    def run(self) -> None:
        folder = self.world.folder
        program, control = (shutil.which(name) for name in ("supervisord", "supervisorctl"))
        if program is None or control is None:
            self.world.note("supervisord is missing: apt-get install supervisor")
            return
        command, root, env = self.world.fleet.command("supervised")
        conf = folder / "supervisor.conf"
        conf.write_text(CONF.format(folder=folder, command=" ".join(command), root=root))
        popen = subprocess.Popen([program, "-c", str(conf)], env=env, stdin=subprocess.DEVNULL,
                                 stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
        pause = threading.Event()
        try:
            pause.wait(2)
            for _ in range(self.count):
                pause.wait(self.world.rng.uniform(0, 2.0))
                done = subprocess.run(
                    [control, "-c", str(conf), "restart", "linod"],
                    capture_output=True, text=True, check=False, timeout=30,
                )  # fmt: skip
                if done.stdout.split() == ["linod:", "stopped", "linod:", "started"]:
                    self.done += 1
                else:
                    self.world.note(f"supervisorctl: {done.stdout}{done.stderr}")
        finally:
            popen.send_signal(signal.SIGTERM)
            popen.wait(30)
