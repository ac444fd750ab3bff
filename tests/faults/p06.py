"""P6: what is missed is made up as the table says, with bounded work; zones as the oracle says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any

from tests.faults import schedules
from tests.faults.fleet import ROOT
from tests.faults.schedules import Schedule
from tests.faults.world import Finding, World, at_most, none

TITLE = "After 30 days down the table of missed runs holds, with bounded work"
DATABASES = ("postgresql", "mariadb", "sqlite")
DAYS, EVERY = 30, 10
#: How late an instant may be and still be punctual (DESIGN 7), and how many ``all`` keeps.
PUNCTUAL, KEPT = 60, 1000
WITHIN = 600
#: Seconds from the daemon's begin to the first begin of each task's body.
FIRST = 5.0
ZONES = "tests/recurrence/test_zones.py"


@dataclass(frozen=True)
class Expected:
    """What a policy makes of the instants that passed while nobody was there."""

    policy: str
    within: int | None = None
    least_rows: int = 1
    most_rows: int = 1


def run(world: World) -> list[Finding]:
    # To the second behind an instant: so the newest one is punctual under every policy.
    now = schedules.soon(0)
    first = now - DAYS * 86400 - 3
    far = now + 10**6
    tasks = world.schedule(
        [
            _task(first, far, "once"),
            _task(first, far, "skip"),
            _task(first, far, "all"),
            _task(first, far, "once", missed_within=WITHIN),
            _task(first, far, "all", missed_within=WITHIN),
        ]
    )
    began = time.monotonic()
    with world.fleet.running(1) as (daemon,):
        up = time.monotonic() - began
        wanted = world.times(KEPT, least=50)
        _wait_for_rows(tasks[2].task, wanted)
        took = time.monotonic() - began - up
        said = world.fleet.said("Traceback")
        fell = not daemon.is_alive
    rows = _rows()
    skipped = _skipped()
    faults = [text for task in tasks for text in _faults(task, rows, skipped, wanted)]
    for text in faults:
        world.note(text)
    late = max(rows[task.task][0][2] for task in tasks)
    passed = DAYS * 86400 // EVERY
    return [
        Finding("instants missed by each task", f"{passed:,}"),
        none("differences from the table", len(faults)),
        Finding("counted in the one run of the default policy", f"{rows[tasks[0].task][0][1]:,}"),
        Finding("rows of missed=all", f"{len(rows[tasks[2].task]):,} in {took:.0f} s"),
        at_most("first claim of each task after the start", late - (began + world.epoch), FIRST),
        none("tracebacks", said + fell),
        *(_zones() if world.kind == "sqlite" and world.size >= 1 else []),
    ]  # fmt: skip


def _task(first: int, last: int, policy: str, **values: Any) -> Schedule:
    return Schedule(EVERY, first, last, policy=policy, values=values, body="nothing")


def _rows() -> dict[int, list[tuple[float, int, float]]]:
    """By task: due, missed and claimed of its jobs, oldest first."""
    from linod.models import Job

    found: dict[int, list[tuple[float, int, float]]] = {}
    columns = ("task_id", "due_at", "missed", "claimed_at")
    for task, due, missed, at in Job.objects.order_by("due_at").values_list(*columns):
        found.setdefault(task, []).append((due.timestamp(), missed, at.timestamp()))
    return found


def _skipped() -> dict[int, int]:
    from linod.models import Decision

    found: dict[int, int] = {}
    for task, reason in Decision.objects.filter(kind="skipped").values_list("task_id", "reason"):
        count = re.match(r"(\d+) skipped", reason)
        assert count is not None, reason
        found[task] = found.get(task, 0) + int(count[1])
    return found


def _wait_for_rows(task: int, count: int) -> None:
    from linod.models import Job

    deadline = time.monotonic() + 120
    while Job.objects.filter(task=task, end_time__isnull=False).count() < count:
        if time.monotonic() > deadline:
            return  # the comparison says what is missing
        time.sleep(0.1)


def _faults(
    task: Schedule,
    rows: dict[int, list[tuple[float, int, float]]],
    skipped: dict[int, int],
    wanted: int,
) -> list[str]:
    """What differs from the table of DESIGN 7, for the time before the daemon came."""
    name = f"{task.policy} {task.values or ''}"
    mine = rows.get(task.task, [])
    if not mine:
        return [f"{name}: nothing ran"]
    faults = []
    first_due, missed, claimed_at = mine[0]
    newest = task.first + int((claimed_at - task.first) // EVERY) * EVERY
    passed = (newest - task.first) // EVERY + 1
    within = (task.values or {}).get("missed_within")
    if task.policy in ("once", "skip"):
        if first_due != newest:
            faults.append(f"{name}: {first_due} ran first, the newest was {newest}")
        told = missed if task.policy == "once" else skipped.get(task.task, 0)
        if told != passed - 1:
            faults.append(f"{name}: {told} told of {passed - 1}")
        return faults
    kept = min(KEPT, passed) if within is None else _within(task, claimed_at, within)
    oldest = newest - (kept - 1) * EVERY
    if first_due != oldest:
        faults.append(f"{name}: began with {first_due}, not with {oldest}")
    if skipped.get(task.task, 0) != passed - kept:
        faults.append(f"{name}: {skipped.get(task.task, 0)} skipped of {passed - kept}")
    dues = [due for due, _missed, _at in mine]
    if dues != [oldest + n * EVERY for n in range(len(dues))] or len(dues) < min(kept, wanted):
        faults.append(f"{name}: {len(dues)} rows, not {kept} and more in a row")
    return faults


def _within(task: Schedule, at: float, within: int) -> int:
    """How many instants lie in the last ``within`` seconds."""
    oldest = task.first + -int(-(at - within - task.first) // EVERY) * EVERY
    return int((at - oldest) // EVERY) + 1


def _zones() -> list[Finding]:
    """The comparison with the independent oracle over all zones; no database takes part in it."""
    env = os.environ | {
        "DJANGO_SETTINGS_MODULE": "tests.settings", "LINOD_TEST_DB": "sqlite", "LINOD_FULL": "1",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", ZONES],
        cwd=ROOT, env=env, capture_output=True, text=True, check=False,
    )  # fmt: skip
    summary = done.stdout.strip().rpartition("\n")[2]
    failed = re.search(r"(\d+) (failed|error)", summary)
    differences = int(failed[1]) if failed else int(done.returncode != 0)
    return [none("groups of zones that differ from the oracle, of all zones", differences)]
