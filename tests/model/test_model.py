"""Every order of steps and faults in small worlds, through the scheduler's own code.

``LINOD_MODEL=full`` goes further; that takes many minutes.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest
from pytest_django.plugin import DjangoDbBlocker

from tests.model.database import LOST_PENDING
from tests.model.world import Scenario, world_of

IS_FULL = os.environ.get("LINOD_MODEL") == "full"
ONE, TWO_TASKS, TWO_INSTANTS = ((0,),), ((0,), (0,)), ((0, 10),)
AGAIN = {"max_attempts": 2, "rerun_lost": True}

#: Each world, and below how many states something of it must have got lost.
WORLDS = {
    "one instant, a crash, a pause, a lost answer": (
        Scenario(instants=ONE, crashes=1, pauses=1, losses=1), 12_000,
    ),
    "two tasks, one waits for a slot; a pause": (
        Scenario(instants=TWO_TASKS, ahead=1, pauses=1), 5_000,
    ),
    "two tasks, one waits for a slot; a crash": (
        Scenario(instants=TWO_TASKS, ahead=1, crashes=1, leases=1), 400,
    ),
    "two tasks, one waits for a slot; a lost answer": (
        Scenario(instants=TWO_TASKS, ahead=1, losses=1, leases=1), 1_500,
    ),
    "two instants of a task, a crash": (
        Scenario(instants=TWO_INSTANTS, crashes=1, leases=1), 1_000,
    ),
    "two instants of a task, a crash, a pause": (
        Scenario(instants=TWO_INSTANTS, crashes=1, pauses=1, leases=1), 5_000,
    ),
    "two slots, one daemon, a lost answer": (
        Scenario(instants=((0,), (10,)), slots=2, daemons=1, losses=1, leases=1), 5_000,
    ),
    "jobs that wait are given back": (
        Scenario(instants=TWO_TASKS, ahead=1, stalls=True, leases=0), 1_000,
    ),
    "lost jobs run again; a pause": (
        Scenario(instants=ONE, pauses=1, leases=1, lapses=True, values=AGAIN), 5_000,
    ),
    "lost jobs run again beside their former bodies; a pause": (
        Scenario(instants=ONE, slots=2, pauses=1, leases=1, values=AGAIN), 1_500,
    ),
    "failures and retries": (
        Scenario(instants=ONE, leases=0, ends=("succeeded", "failed"), values=AGAIN), 200,
    ),
    "a COMMIT that the server comes to later": (
        Scenario(instants=ONE, losses=1, leases=1, outcomes=(LOST_PENDING,)), 1_000,
    ),
}  # fmt: skip
FULL = {
    "two tasks, a crash, a pause, a lost answer": (
        Scenario(instants=TWO_TASKS, ahead=1, crashes=1, pauses=1, losses=1), 100_000,
    ),
    "two instants of a task, a crash, a pause, a lost answer": (
        Scenario(instants=TWO_INSTANTS, crashes=1, pauses=1, losses=1), 100_000,
    ),
    "jobs that wait are given back; a pause": (
        Scenario(instants=TWO_TASKS, ahead=1, stalls=True, pauses=1, leases=1), 50_000,
    ),
    "failures and retries, lost jobs run again; a pause": (
        Scenario(instants=ONE, pauses=1, ends=("succeeded", "failed"), values=AGAIN), 20_000,
    ),
    "two slots, one daemon, two lost answers": (
        Scenario(instants=((0,), (10,)), slots=2, daemons=1, losses=2, leases=1), 10_000,
    ),
}  # fmt: skip
CHOSEN = WORLDS | (FULL if IS_FULL else {})


@pytest.fixture(autouse=True)
def _database(django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """The model has a database of its own, in memory."""
    with django_db_blocker.unblock():
        yield


@pytest.mark.parametrize("name", CHOSEN)
def test_every_order(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    scenario, floor = CHOSEN[name]
    with world_of(scenario) as world:
        world.search()
    with capsys.disabled():
        sys.stdout.write(
            f"\n{name}: {len(world.states):,} states, {world.transitions:,} transitions,"
            f" {float(world.schedules):.1e} schedules, {world.done:,} ends,"
            f" {len(world.database.images):,} contents of the database\n"
        )
    # Every state that was met was left in every way, and there are as many as there should be.
    visited, found = len(world.follow), len(world.states)
    assert visited == found
    assert found > floor
    assert world.done > 0
