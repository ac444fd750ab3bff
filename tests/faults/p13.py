"""P13: a daemon's memory, threads, descriptors and connections stay what they are."""

from __future__ import annotations

import gc
import re
import threading
import time
from collections import Counter
from operator import ge
from pathlib import Path
from typing import Any

from tests.faults import schedules
from tests.faults.fleet import Process
from tests.faults.schedules import Schedule
from tests.faults.world import Finding, World, at_most, none, percentile

TITLE = "A daemon's needs do not grow with what it has run"
DATABASES = ("postgresql", "mariadb", "sqlite")
#: At full size: short jobs, failing ones, and jobs that log ten megabytes.
SHORT, FAILING, TALKING, MEGABYTES = 100_000, 1_000, 200, 10
#: Characters that are kept of a long log, its head and its tail, give or take a line.
KEPT, LINE = 1 << 20, 1_100
LEFT_OUT = re.compile(r"\n\.\.\. (\d+) characters left out \.\.\.\n")
#: Long logs that are written at the same time: as many as there are slots, so each thread has one.
TOGETHER = 10
#: Part of the short jobs after which the daemon is warm, and so many long logs.
WARM, TALKED = 0.2, 2 * TOGETHER
BURNING = 20.0
GROWTH, LAG = 5.0, 0.05
#: Tasks that are requested together again and again.
TASKS = 2_000


def run(world: World) -> list[Finding]:
    short, failing = world.times(SHORT, least=2_000), world.times(FAILING, least=50)
    talking, burning = world.times(TALKING, least=4), max(BURNING * world.size, 5.0)
    with world.fleet.running(1, options={"LEASE": 6}) as (daemon,):
        idle = world.schedule(_never("nothing", min(TASKS, short)))
        ended = Ended()
        # Warm means: every kind of work was done once, and the heart has beaten.
        ended.run(world, idle, int(short * WARM))
        fails = world.schedule(_never("fail", 50, values={"disable_after": 0}))
        ended.run(world, fails, 50)
        talks = world.schedule(_never("talk", TOGETHER, {"megabytes": MEGABYTES}))
        ended.run(world, talks, TALKED)
        needs = Needs(daemon)
        needs.start()
        before = needs.settled()
        began = time.monotonic()
        ended.run(world, idle, int(short * (1 - WARM)))
        rate = int(short * (1 - WARM)) / (time.monotonic() - began)
        ended.run(world, fails, failing)
        ended.run(world, talks, talking)
        after = needs.settled()
        lags = {}
        for what, bodies in (("idle", ["feel"]), ("with a body burning CPU", ["feel", "burn"])):
            tasks = [_never(body, 1, {"seconds": burning})[0] for body in bodies]
            ended.run(world, world.schedule(tasks), len(tasks))
            lags[what] = _lags(world)
        needs.stop()
        codes = world.fleet.stop_all()
    growth = after.megabytes - before.megabytes
    ran = [ended.states[each] for each in (
        ("nothing", "succeeded"), ("fail", "failed"), ("talk", "succeeded"),
    )]  # fmt: skip
    return [
        Finding("jobs", f"{ran[0]:,} short ones ({rate:,.0f} a second), {ran[1]:,} failing,"
                f" {ran[2]} that log {MEGABYTES} MB", f"{short:,}, {failing:,}, {talking}",
                all(map(ge, ran, (short, failing, talking)))),
        ended.kept(),
        at_most("memory growth since it was warm", growth, GROWTH, "MB"),
        Finding("memory", f"{after.megabytes:.0f} MB"),
        none("threads more", max(after.threads - before.threads, 0)),
        none("descriptors more", max(after.descriptors - before.descriptors, 0)),
        none("connections more", max(needs.connections - before.connections, 0)),
        Finding("the loop's lag when idle, p99", f"{percentile(lags['idle'], 99) * 1000:.1f} ms"),
        at_most("with a body burning CPU, p99",
                percentile(lags["with a body burning CPU"], 99) * 1000, LAG * 1000, "ms"),
        none("daemons that fell", sum(map(bool, codes))),
    ]  # fmt: skip


def _never(body: str, count: int, arguments: Any = None, values: Any = None) -> list[Schedule]:
    """Tasks that run on request only: their one instant is far away."""
    far = schedules.soon(10**7)
    return [
        Schedule(1, far, far, body=body, arguments=arguments, values=values) for _ in range(count)
    ]


class Ended:
    """Requests tasks, waits until their jobs have ended, and looks at what these left."""

    def __init__(self) -> None:
        #: How many jobs of a procedure came to which end.
        self.states: Counter[tuple[str, str]] = Counter()
        #: Of each long log: the characters that are stored, and that it says were left out.
        self.logs: list[tuple[int, int]] = []

    def run(self, world: World, tasks: list[Schedule], count: int) -> None:
        """Let the tasks run in turn until ``count`` jobs have ended."""
        while count > 0:
            some = tasks[:count]
            self._request([task.task for task in some])
            count -= len(some)

    def kept(self) -> Finding:
        """Whether the head and the tail of each long log are stored, and what it says is true."""
        stored = [kept for kept, _left_out in self.logs]
        held = len(self.logs) == self.states["talk", "succeeded"] and all(
            KEPT - LINE < kept <= KEPT and kept + left_out > MEGABYTES * 10**6
            for kept, left_out in self.logs
        )
        return Finding(
            "stored of each of their logs",
            f"{min(stored, default=0):,} to {max(stored, default=0):,} characters",
            f"{KEPT:,}, head and tail", held,
        )  # fmt: skip

    def _request(self, keys: list[int]) -> None:
        from django.db.models import Q

        from linod import clock, wakeup
        from linod.models import BackgroundTask, Decision, Job, JobLog

        rows = BackgroundTask.objects.filter(pk__in=keys)
        rows.update(requested_at=clock.db_now())
        wakeup.send()
        busy = rows.filter(Q(requested_at__isnull=False) | Q(jobs__lease_until__isnull=False))
        deadline = time.monotonic() + 300
        while busy.exists():
            if time.monotonic() > deadline:
                raise TimeoutError("requested jobs do not end")
            time.sleep(0.05)
        self._look()
        # What a site's retention does in a month: else the tables decide about the time.
        for model in (JobLog, Job, Decision):
            model.objects.all()._raw_delete("default")

    def _look(self) -> None:
        from linod.models import Job

        for procedure, state in Job.objects.values_list("procedure", "state").iterator(5000):
            self.states[procedure.name, state] += 1
        for job in Job.objects.filter(procedure="talk").iterator():
            text = job.message
            left_out = LEFT_OUT.search(text)
            mark = len(left_out[0]) if left_out else 0
            self.logs.append((len(text) - mark, int(left_out[1]) if left_out else 0))


def _lags(world: World) -> list[float]:
    last = [line for line in world.lines() if line.event == "lag"][-1]
    return [float(word) for word in last.note.split()]


class Needs(threading.Thread):
    """What the kernel and the server say of a daemon."""

    def __init__(self, process: Process) -> None:
        super().__init__(daemon=True)
        self.folder = Path(f"/proc/{process.pid}")
        self.megabytes = 0.0
        self.threads = self.descriptors = self.connections = 0
        self._stopping = threading.Event()

    def run(self) -> None:
        while not self._stopping.wait(0.5):
            self.connections = max(self.connections, self._connections())

    def stop(self) -> None:
        self._stopping.set()
        self.join()

    def settled(self) -> Needs:
        """The needs now, after a moment without work."""
        gc.collect()
        time.sleep(3)
        text = (self.folder / "smaps_rollup").read_text()
        pss = next(line for line in text.splitlines() if line.startswith("Pss:"))
        seen = Needs.__new__(Needs)
        seen.megabytes = int(pss.split()[1]) / 1024
        # The least of some looks: SQLite has one more file open while it writes.
        looks = [self._count("task", "fd") for _ in range(10)]
        seen.threads, seen.descriptors = map(min, zip(*looks, strict=True))
        seen.connections = self._connections()
        return seen

    def _count(self, *names: str) -> list[int]:
        time.sleep(0.05)
        return [len(list((self.folder / name).iterdir())) for name in names]

    def _connections(self) -> int:
        """Sockets of the daemon: those to the server among them; SQLite's are descriptors."""
        count = 0
        for link in (self.folder / "fd").iterdir():
            try:
                count += str(link.readlink()).startswith("socket:")
            except OSError:
                continue
        return count
