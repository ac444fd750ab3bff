"""Many rows in one statement: each with its own values and conditions, and a count to believe."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest
from django.db import DataError, IntegrityError, connection, transaction

from linod import clock
from linod.bulk import Batch, Mismatch, takes_many
from linod.history import Job, time_ordered_uuid
from linod.models import BackgroundTask
from linod.procedures import Procedure
from linod.statements import table_of

pytestmark = pytest.mark.django_db

TICK = timedelta(microseconds=1)
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
    with Batch(connection) as batch:
        batch.insert(Job, NAMES, given)


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


NEW, HELD = ("state", "progress", "end_time"), ("id", "state", "attempt")


def change(given: list[tuple[Any, ...]]) -> None:
    with Batch(connection) as batch:
        batch.change(Job, NEW, HELD, given)


def test_each_row_changes_by_its_own_values() -> None:
    given = rows(5)
    insert(given)
    now = clock.db_now()
    changes = [
        (f"s{n}", {"done": n}, now + timedelta(minutes=n), row[0], "running", 1)
        for n, row in enumerate(given)
    ]
    change(changes)
    stored = Job.objects.order_by("due_at").values_list("state", "progress", "end_time")
    assert list(stored) == [each[:3] for each in changes]


def test_a_row_that_does_not_meet_its_conditions_is_a_mismatch() -> None:
    given = rows(6)
    insert(given)
    ids = [row[0] for row in given]
    change([("x", None, None, pk, "running", 1) for pk in ids[:2]])
    mixed = [("y", None, None, pk, "running", 1) for pk in ids]
    mixed[5] = ("y", None, None, ids[5], "running", 2)
    mixed.append(("y", None, None, time_ordered_uuid(), "running", 1))
    with pytest.raises(Mismatch, match="3 of 7 rows"), transaction.atomic():
        change(mixed)
    assert Job.objects.filter(state="y").count() == 0
    with Batch(connection) as batch:
        batch.update(Job, NEW, HELD, mixed)
    assert [job.state for job in Job.objects.order_by("due_at")] == [
        "x", "x", "y", "y", "y", "running",
    ]  # fmt: skip
    change([])


def test_a_row_that_has_the_values_already_counts() -> None:
    (given,) = rows(1)
    insert([given])
    same = [("running", None, None, given[0], "running", 1)]
    change(same)
    change(same)


def test_each_statement_of_a_batch_is_counted() -> None:
    given = rows(3)
    insert(given)
    ids = [row[0] for row in given]
    batch = Batch(connection)

    def change_all() -> None:
        for pk, attempt in zip(ids, (1, 2, 1), strict=True):
            batch.change(Job, NEW, HELD, [("x", None, None, pk, "running", attempt)])
        batch.send()

    with pytest.raises(Mismatch, match="0 of 1 rows"), transaction.atomic():
        change_all()
    assert Job.objects.filter(state="running").count() == 3


@pytest.mark.skipif(connection.vendor == "sqlite", reason="SQLite has no round trips")
def test_a_batch_is_one_round_trip(django_assert_num_queries: Any) -> None:
    given = rows(2)
    with django_assert_num_queries(1), Batch(connection) as batch:
        batch.insert(Job, NAMES, given)
        batch.change(Job, NEW, HELD, [("x", None, None, row[0], "running", 1) for row in given])
    assert Job.objects.filter(state="x").count() == 2


def test_where_statements_must_go_one_by_one_they_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        connection.settings_dict,
        "OPTIONS",
        {"postgresql": {"server_side_binding": True}, "mysql": {"multi_statements": False}}.get(
            connection.vendor, {}
        ),
    )
    assert not takes_many(connection)
    given = rows(2)
    with Batch(connection) as batch:
        batch.insert(Job, NAMES, given)
        batch.change(Job, NEW, HELD, [("x", None, None, row[0], "running", 1) for row in given])
    assert Job.objects.filter(state="x").count() == 2


def test_what_a_column_refuses_in_a_later_statement_is_no_passing_error() -> None:
    (given,) = rows(1)

    def insert_and_change() -> None:
        with transaction.atomic(), Batch(connection) as batch:
            batch.insert(Job, NAMES, [given])
            batch.add(f"UPDATE {Job._meta.db_table} SET arguments = %s", ["no JSON"])

    with pytest.raises((IntegrityError, DataError)):
        insert_and_change()
    assert not Job.objects.exists()


def test_the_last_row_that_is_given_is_the_answer() -> None:
    (given,) = rows(1)
    table = Job._meta.db_table
    with Batch(connection) as batch:
        batch.add(f"SELECT 'before', count(*) FROM {table}", [])
        batch.insert(Job, NAMES, [given])
        batch.add(f"SELECT %s, count(*) FROM {table}", ["after"])
        batch.change(Job, NEW, HELD, [("x", None, None, given[0], "running", 1)])
    assert batch.answer == ("after", 1)


def test_none_is_stored_as_null() -> None:
    (given,) = rows(1)
    insert([given])
    change([("x", {"done": 1}, clock.db_now(), given[0], "running", 1)])
    change([("y", None, None, given[0], "x", 1)])
    assert Job.objects.filter(progress__isnull=True, end_time__isnull=True).count() == 1


def test_texts_of_one_type_and_numbers_of_another() -> None:
    task = BackgroundTask.objects.create(procedure=Procedure(None, "noop"), timeout=1.5)
    with Batch(connection) as batch:
        batch.change(
            BackgroundTask,
            ("timeout", "message", "failures"),
            ("id", "version"),
            [(None, "m" * 100_000, 3, task.pk, 0)],
        )
    task.refresh_from_db()
    assert (task.timeout, len(task.message), task.failures) == (None, 100_000, 3)


OTHERS = ("due_at", "end_time", "task", "requested_by", "owner", "progress")


@pytest.mark.parametrize("names", [OTHERS, NAMES])
def test_values_are_made_ready_as_django_does(names: tuple[str, ...]) -> None:
    """Also those that take a short way: moments in UTC, keys, what a driver takes as it is."""
    now = clock.db_now().replace(microsecond=0)
    zone = ZoneInfo("Asia/Kathmandu")
    others = {"due_at": [now, now + TICK, now.astimezone(zone)], "end_time": [now, None, now]}
    others |= {"task": [1, 2, 3], "requested_by": [None, 4, None]}
    others |= {"owner": [uuid4(), None, uuid4()], "progress": [{"done": 1.5}, None, {"text": "€"}]}
    table = table_of("default", Job, names)
    columns = dict(zip(NAMES, zip(*rows(3), strict=True), strict=True)) | others
    for name, prepare in zip(names, table.preparations, strict=True):
        field: Any = Job._meta.get_field(name)
        values = list(columns[name])
        expected = [plain(field.get_db_prep_save(value, connection)) for value in values]
        assert list(map(plain, prepare(values))) == expected, name
        assert [plain(prepare([value])[0]) for value in values] == expected, name


def plain(value: Any) -> Any:
    """What is inside of what wraps JSON for PostgreSQL, which is equal to nothing else."""
    return getattr(value, "obj", value)
