"""Every order of steps and faults in small worlds, through the scheduler's own code.

``LINOD_MODEL=full`` goes further; that takes some minutes.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from unittest import mock

import pytest
from pytest_django.plugin import DjangoDbBlocker

from tests.model.database import LOST_DONE, LOST_PENDING, LOST_UNDONE
from tests.model.stage import Stage
from tests.model.world import Scenario, world_of

IS_FULL = os.environ.get("LINOD_MODEL") == "full"
NEVER, ONE, TWO_TASKS, TWO_INSTANTS = ((),), ((0,),), ((0,), (0,)), ((0, 10),)
#: Seconds before an instant at which a daemon foresees it.
SOON = 0.01
AGAIN = {"max_attempts": 2, "rerun_lost": True}

#: Each world, and below how many states something of it must have got lost.
WORLDS = {
    "two instants, a crash, a pause, a COMMIT that works unheard": (
        Scenario(
            instants=TWO_INSTANTS, crashes=1, pauses=1, losses=1, leases=1, outcomes=(LOST_DONE,)
        ), 50_000,
    ),
    "two instants, a crash, a pause, a COMMIT that fails unheard": (
        Scenario(
            instants=TWO_INSTANTS, crashes=1, pauses=1, losses=1, leases=1, outcomes=(LOST_UNDONE,)
        ), 110_000,
    ),
    "one instant, a crash, a pause, a lost answer": (
        Scenario(instants=ONE, crashes=1, pauses=1, losses=1), 5_000,
    ),
    "two tasks, one waits for a slot; a pause": (
        Scenario(instants=TWO_TASKS, ahead=1, pauses=1), 4_000,
    ),
    "two tasks, one waits for a slot; a crash": (
        Scenario(instants=TWO_TASKS, ahead=1, crashes=1, leases=1), 350,
    ),
    "two tasks, one waits for a slot; a lost answer": (
        Scenario(instants=TWO_TASKS, ahead=1, losses=1, leases=1), 1_200,
    ),
    "two slots, one daemon, a lost answer": (
        Scenario(instants=((0,), (10,)), slots=2, daemons=1, losses=1, leases=1), 3_000,
    ),
    "jobs that wait are given back": (
        Scenario(instants=TWO_TASKS, ahead=1, stalls=True, leases=0), 1_000,
    ),
    "lost jobs run again; a pause": (
        Scenario(instants=ONE, pauses=1, leases=1, lapses=True, values=AGAIN), 4_000,
    ),
    "lost jobs run again beside their former bodies; a pause": (
        Scenario(instants=ONE, slots=2, pauses=1, leases=1, values=AGAIN), 1_200,
    ),
    "failures and retries": (
        Scenario(instants=ONE, leases=0, ends=("succeeded", "failed"), values=AGAIN), 200,
    ),
    "a COMMIT that the server comes to later": (
        Scenario(instants=ONE, losses=1, leases=1, outcomes=(LOST_PENDING,)), 1_000,
    ),
    "an instant that is foreseen; a lost answer": (
        Scenario(instants=ONE, early=SOON, losses=1, leases=0), 900,
    ),
    "a request that is foretold; a crash": (
        Scenario(instants=NEVER, people=("request",), crashes=1, leases=1), 25_000,
    ),
    "a request that is foretold; one daemon, a lost answer": (
        Scenario(instants=NEVER, people=("request",), daemons=1, losses=1, leases=0), 1_000,
    ),
    "two requests, one daemon": (
        Scenario(instants=NEVER, people=("request", "request"), daemons=1, leases=0), 5_000,
    ),
    "a request beside an instant, one daemon": (
        Scenario(instants=ONE, people=("request",), daemons=1, leases=0), 600,
    ),
    "somebody runs the task; a crash": (
        Scenario(instants=ONE, people=("run",), crashes=1, leases=1), 2_500,
    ),
    "somebody runs the task; a pause": (
        Scenario(instants=ONE, people=("run",), pauses=1, leases=1), 15_000,
    ),
    "somebody runs the task; a lost answer": (
        Scenario(instants=ONE, people=("run",), losses=1, leases=1), 12_000,
    ),
    "somebody cancels a job, one waits for a slot": (
        Scenario(instants=TWO_TASKS, ahead=1, people=("cancel",), leases=0), 350,
    ),
    "somebody cancels a job; a lost answer": (
        Scenario(instants=ONE, people=("cancel",), losses=1, leases=1), 1_600,
    ),
    "somebody cancels a job; a pause, lost jobs run again": (
        Scenario(instants=ONE, people=("cancel",), pauses=1, leases=1, values=AGAIN), 4_500,
    ),
    "somebody disables a task whose instant is foreseen; a lost answer": (
        Scenario(instants=ONE, early=SOON, people=("disable",), losses=1, leases=0), 4_000,
    ),
    "somebody disables a task that is tried again; a pause": (
        Scenario(
            instants=ONE, people=("disable",), pauses=1, leases=1, ends=("failed",), values=AGAIN
        ), 28_000,
    ),
    "a daemon stops, one job waits for a slot; a lost answer": (
        Scenario(instants=TWO_TASKS, ahead=1, stops=1, losses=1, leases=0), 7_000,
    ),
    "a daemon stops; a pause": (
        Scenario(instants=ONE, stops=1, pauses=1, leases=1), 2_400,
    ),
}  # fmt: skip
FULL = {
    "two tasks, a crash, a pause, a lost answer": (
        Scenario(instants=TWO_TASKS, ahead=1, crashes=1, pauses=1, losses=1), 160_000,
    ),
    "two instants of a task, a crash, a pause, a lost answer": (
        Scenario(instants=TWO_INSTANTS, crashes=1, pauses=1, losses=1), 300_000,
    ),
    "jobs that wait are given back; a pause": (
        Scenario(instants=TWO_TASKS, ahead=1, stalls=True, pauses=1, leases=1), 60_000,
    ),
    "failures and retries, lost jobs run again; a pause": (
        Scenario(instants=ONE, pauses=1, ends=("succeeded", "failed"), values=AGAIN), 20_000,
    ),
    "two slots, one daemon, two lost answers": (
        Scenario(instants=((0,), (10,)), slots=2, daemons=1, losses=2, leases=1), 19_000,
    ),
}  # fmt: skip
#: Small ones, in which also the states are visited that may be left alone.
REDUCED = {
    "a crash, a pause": Scenario(crashes=1, pauses=1, leases=2),
    "a pause, a lost answer": Scenario(pauses=1, losses=1, leases=1),
    "a stop, a lost answer": Scenario(stops=1, losses=1, leases=0),
    "a request, a lost answer": Scenario(
        instants=NEVER, people=("request",), daemons=1, losses=1, leases=0
    ),
}
CHOSEN = WORLDS | (FULL if IS_FULL else {})


@pytest.fixture(autouse=True)
def _database(django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """The model has a database of its own, in memory."""
    with django_db_blocker.unblock():
        yield


@pytest.mark.parametrize("name", CHOSEN)
def test_every_order(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    scenario, floor = CHOSEN[name]
    began = time.monotonic()
    with world_of(scenario) as world:
        world.search()
    with capsys.disabled():
        sys.stdout.write(
            f"\n{name}: {len(world.states):,} states, {world.transitions:,} steps,"
            f" {time.monotonic() - began:.0f} s, {world.done:,} ends,"
            f" {len(world.database.images):,} contents of the database\n"
        )
    assert len(world.states) > floor
    assert world.done > 0


@pytest.mark.parametrize("name", REDUCED)
def test_what_is_left_alone_brings_nothing_new(name: str) -> None:
    with world_of(REDUCED[name]) as world:
        world.is_reduced = False
        world.search()
        every = set(world.states)
        world.is_reduced = True
        world.search()
        left_alone = every - set(world.states)
        assert set(world.states) < every
        assert all(world.find(state) is not None for state in left_alone)


@pytest.mark.parametrize("name", REDUCED)
def test_what_is_known_of_a_step_is_what_its_code_does(name: str) -> None:
    """The same states, on the same ways, where the code is run for each content."""
    with world_of(REDUCED[name]) as world:
        world.search()
    with (
        mock.patch.object(Stage, "_follow", return_value=None),
        world_of(REDUCED[name]) as other,
    ):
        other.search()
    assert world.states == other.states
    assert world.came_from == other.came_from
