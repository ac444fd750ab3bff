"""Many rows in one statement: each with its own values and conditions, and a count to believe."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction

from linod import bulk, clock
from linod.history import Job, time_ordered_uuid
from linod.models import BackgroundTask
from linod.procedures import Procedure

pytestmark = pytest.mark.django_db

NAMES = (
    "id", "procedure", "arguments", "due_at", "trigger", "attempt", "state", "error", "result",
    "priority", "queue", "fence", "log_level", "missed", "host", "revision",
)  # fmt: skip


def rows(count: int, **same: Any) -> list[tuple[Any, ...]]:
    now = clock.db_now()
    values = {
        "procedure": Procedure(None, "noop"), "trigger": "request", "attempt": 1,
        "state": "running", "error": "", "priority": 0, "queue": "default", "fence": 1,
        "log_level": "INFO", "missed": 0, "host": "", "revision": "", **same,
    }  # fmt: skip
    made = []
    for n in range(count):
        own = {
            "id": time_ordered_uuid(), "due_at": now + timedelta(seconds=n),
            "arguments": {"n": n, "text": "50 % \u20ac 'quoted' \U0001f600"},
            "result": None if n % 2 else [n],
        }  # fmt: skip
        made.append(tuple({**values, **own}[name] for name in NAMES))
    return made


def insert(given: list[tuple[Any, ...]]) -> None:
    bulk.insert(connection, Job, NAMES, given)


@pytest.mark.parametrize("count", [0, 1, 2, 150])
def test_rows_arrive_as_they_were_given(count: int) -> None:
    given = rows(count, error="it's 100 % \\ 'wrong'")
    insert(given)
    stored = Job.objects.order_by("due_at").values_list(*NAMES)
    assert list(stored) == given


def test_a_key_that_is_taken_refuses_the_whole_group() -> None:
    given = rows(3)
    with pytest.raises(IntegrityError), transaction.atomic():
        insert([*given, given[1]])
    assert Job.objects.count() == 0


def update(given: list[tuple[Any, ...]]) -> int:
    return bulk.update(
        connection,
        Job,
        change=("state", "progress", "end_time"),
        where=("id", "state", "attempt"),
        rows=given,
    )


def test_each_row_changes_by_its_own_values() -> None:
    given = rows(5)
    insert(given)
    now = clock.db_now()
    changes = [
        (f"s{n}", {"done": n}, now + timedelta(minutes=n), row[0], "running", 1)
        for n, row in enumerate(given)
    ]
    assert update(changes) == 5
    stored = Job.objects.order_by("due_at").values_list("state", "progress", "end_time")
    assert list(stored) == [change[:3] for change in changes]


def test_the_count_says_how_many_met_their_conditions() -> None:
    given = rows(6)
    insert(given)
    ids = [row[0] for row in given]
    assert update([("x", None, None, pk, "running", 1) for pk in ids[:2]]) == 2
    mixed = [("y", None, None, pk, "running", 1) for pk in ids]
    mixed[5] = ("y", None, None, ids[5], "running", 2)
    mixed.append(("y", None, None, time_ordered_uuid(), "running", 1))
    assert update(mixed) == 3
    assert [job.state for job in Job.objects.order_by("due_at")] == [
        "x", "x", "y", "y", "y", "running",
    ]  # fmt: skip
    assert update([]) == 0


def test_a_row_that_has_the_values_already_counts() -> None:
    (given,) = rows(1)
    insert([given])
    same = [("running", None, None, given[0], "running", 1)]
    assert update(same) == 1
    assert update(same) == 1


def test_none_is_stored_as_null() -> None:
    (given,) = rows(1)
    insert([given])
    assert update([("x", {"done": 1}, clock.db_now(), given[0], "running", 1)]) == 1
    assert update([("y", None, None, given[0], "x", 1)]) == 1
    assert Job.objects.filter(progress__isnull=True, end_time__isnull=True).count() == 1


def test_texts_of_one_type_and_numbers_of_another() -> None:
    task = BackgroundTask.objects.create(procedure=Procedure(None, "noop"), timeout=1.5)
    count = bulk.update(
        connection,
        BackgroundTask,
        change=("timeout", "message", "failures"),
        where=("id", "version"),
        rows=[(None, "m" * 100_000, 3, task.pk, 0)],
    )
    assert count == 1
    task.refresh_from_db()
    assert (task.timeout, len(task.message), task.failures) == (None, 100_000, 3)
