"""P9: SQLite as a new project has it, with several daemons and a web server that writes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

from tests.faults import schedules
from tests.faults.fleet import ROOT
from tests.faults.journal import BEGIN
from tests.faults.servers import dies_with_parent
from tests.faults.world import Finding, World, at_most, none, once_per_instant, percentile

TITLE = "SQLite works with several daemons beside a site that writes"
DATABASES = ("sqlite",)
SECONDS, WRITERS, DAEMONS = 90, 8, 3
#: How often a writer freezes for a second in the middle of a transaction, at full size.
FREEZES, FROZEN = 12, 1.0
LOCKED = "database is locked"
MIX = ((5, 1), (10, 2), (10, 5))

#: What a web server's process does: ten short transactions a second, a long one every 8 seconds.
WRITER = """
import json, os, random, signal, sys, time, django
django.setup()
from django.contrib.auth.models import Group
from django.db import transaction
from pathlib import Path
mine, = (Group.objects.create(name=f"writer {os.getpid()}"),)
rng, trap, count, errors = random.Random(int(sys.argv[1])), Path(sys.argv[2]), 0, 0
until = time.monotonic() + float(sys.argv[3])
while time.monotonic() < until:
    began = time.monotonic()
    count += 1
    try:
        with transaction.atomic():
            Group.objects.filter(pk=mine.pk).update(name=f"writer {os.getpid()} {count}")
            locked = time.monotonic()
            if count % 80 == 79:
                time.sleep(0.2)
            try:
                trap.unlink()
            except FileNotFoundError:
                pass
            else:
                print(json.dumps({"locked": locked}), flush=True)
                os.kill(os.getpid(), signal.SIGSTOP)
    except Exception as error:
        errors += 1
        print(json.dumps({"error": str(error)}), flush=True)
    time.sleep(max(0.1 * rng.uniform(0.5, 1.5) - (time.monotonic() - began), 0))
print(json.dumps({"count": count, "errors": errors}), flush=True)
"""


def run(world: World) -> list[Finding]:
    seconds, freezes = max(int(SECONDS * world.size), 10), world.times(FREEZES, least=1)
    trap = world.folder / "freeze"
    with world.fleet.running(DAEMONS):
        begin = schedules.soon(5)
        world.schedule(schedules.spread(world.rng, begin, seconds, MIX))
        writers = [
            _write(world, number, begin + seconds - time.time()) for number in range(WRITERS)
        ]
        thawed = []
        for number in range(freezes):
            at = begin - world.epoch + (number + world.rng.uniform(0.2, 0.6)) * seconds / freezes
            time.sleep(max(at - time.monotonic(), 0))
            thawed.append(_freeze(writers, trap))
        world.settle()
        said = [json.loads(line) for w in writers for line in w.communicate()[0].splitlines()]
        codes = world.fleet.stop_all()
    # From when the transaction had the lock in which its writer froze: it may have been a long one.
    locked = sorted(each["locked"] for each in said if "locked" in each)
    windows = list(zip(locked, thawed, strict=True))
    begins = [line for line in world.lines() if line.event == BEGIN]
    outside = [
        line.at + world.epoch - line.due
        for line in begins
        if not any(a <= line.due - world.epoch <= b for a, b in windows)
    ]
    verdict = world.verdict()
    world.tell(verdict)
    errors = [each["error"] for each in said if "error" in each]
    return [
        Finding("transactions of the writers", f"{sum(each.get('count', 0) for each in said):,}"),
        Finding("writers frozen in a transaction", str(len(windows))),
        *once_per_instant(verdict),
        none(f'"{LOCKED}" in the daemons\' logs', world.fleet.said(LOCKED)),
        none(f'"{LOCKED}" told to the writers, who wait 5 s as Django does by default',
             sum(LOCKED in error for error in errors)),
        at_most("begin after the instant outside the freezes, p99", percentile(outside, 99), 0.5),
        Finding("p50", f"{percentile(outside, 50):.3f} s"),
        none("daemons that fell or hung", len(world.fleet.fallen) + sum(map(bool, codes))),
    ]  # fmt: skip


def _write(world: World, number: int, seconds: float) -> subprocess.Popen[str]:
    env = os.environ | world.environment() | {
        "PYTHONPATH": str(ROOT), "DJANGO_SETTINGS_MODULE": "tests.faults.site.settings",
    }  # fmt: skip
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(world.seed + number), str(world.folder / "freeze"),
         str(seconds)],
        cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True,
        preexec_fn=dies_with_parent(),  # noqa: PLW1509 - one call of prctl
    )  # fmt: skip


def _freeze(writers: list[subprocess.Popen[str]], trap: object) -> float:
    """Freeze a writer in its transaction for a second; returns when it went on (monotonic)."""
    path = os.fspath(trap)  # type: ignore[call-overload]
    open(path, "w").close()
    while os.path.exists(path):
        time.sleep(0.005)
    time.sleep(FROZEN)
    for writer in writers:
        if writer.poll() is None:
            writer.send_signal(signal.SIGCONT)
    return time.monotonic()
