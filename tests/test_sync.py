"""One row for each procedure that has none; nothing else changes, however many do it at once."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from datetime import time, timedelta

import pytest
from django.core.management import call_command
from django.db import connections
from django.forms.models import model_to_dict
from django.test import override_settings
from django.utils import translation

from linod import clock
from linod.models import BackgroundTask
from linod.procedures import declare
from linod.sync import says_declared_wrongly, sync
from tests.daemons import only_these_procedures


@pytest.fixture(autouse=True)
def _registry(db: None) -> Iterator[None]:
    with only_these_procedures():
        BackgroundTask.objects.all().delete()
        yield


def rows() -> list[tuple[int, str]]:
    return [(task.seqno, task.procedure.name) for task in BackgroundTask.objects.all()]


def test_each_procedure_gets_a_row_in_running_order() -> None:
    declare(lambda: None, "c", run_after="b")
    declare(lambda: None, "a")
    declare(lambda: None, "b")
    made = sync()
    assert [task.procedure.name for task in made] == ["b", "c", "a"]
    assert rows() == [(1, "b"), (2, "c"), (3, "a")]
    assert sync() == []
    declare(lambda: None, "d")
    assert [task.seqno for task in sync()] == [4]


def test_what_a_declaration_says_arrives_in_the_row() -> None:
    declare(lambda: None, "often", every_unit="secondly", every=10)
    declare(lambda: None, "nightly", every_unit="daily")
    declare(
        lambda: None, "special", every_unit="weekly", at="03:00", monday=True, log_level="ERROR",
        timeout=600, max_attempts=3, arguments={"days": 7}, name="Something special",
        max_events=5, missed="skip", disabled=True,
    )  # fmt: skip
    sync()
    often, nightly, special = BackgroundTask.objects.all()
    assert (often.log_level, often.every, often.every_unit) == ("WARNING", 10, "secondly")
    assert (nightly.log_level, nightly.start_time) == ("INFO", time(20))
    assert nightly.next_run_at is not None
    assert often.next_run_at is not None
    assert often.next_run_at <= clock.db_now()  # its start is its first occurrence
    assert special.start_time == time(3)
    assert (special.timeout, special.max_attempts, special.log_level) == (600, 3, "ERROR")
    assert (special.arguments, special.name, special.missed) == (
        {"days": 7}, "Something special", "skip",
    )  # fmt: skip
    assert (special.monday, special.max_events) == (True, 5)
    assert (special.disabled, special.next_run_at, special.disabled_reason) == (True, None, "")
    assert nightly.name == "nightly"


def test_a_row_that_exists_is_never_changed() -> None:
    declare(lambda: None, "nightly", every_unit="daily")
    (task,) = sync()
    task.every_unit, task.every, task.log_level = "hourly", 3, "DEBUG"
    task.save()
    before = model_to_dict(BackgroundTask.objects.get())
    with only_these_procedures():
        declare(lambda: None, "nightly", every_unit="weekly", log_level="ERROR")
        assert sync() == []
    assert model_to_dict(BackgroundTask.objects.get()) == before


def test_a_renamed_procedure_keeps_its_row() -> None:
    declare(lambda: None, "old_name")
    (task,) = sync()
    with only_these_procedures():
        declare(lambda: None, "new_name", aliases="old_name")
        assert sync() == []
        assert BackgroundTask.objects.get().pk == task.pk
        assert BackgroundTask.objects.get().procedure.name == "new_name"


def test_the_row_of_an_unknown_procedure_stays() -> None:
    declare(lambda: None, "gone")
    sync()
    with only_these_procedures():
        declare(lambda: None, "other")
        sync()
        assert rows() == [(1, "gone"), (2, "other")]


@pytest.mark.parametrize(
    ("keywords", "reason"),
    [
        ({"every_unit": "daily", "every": 0}, "every: "),
        ({"every_unit": "daily", "every": -3}, "every: "),
        ({"every_unit": "daily", "time_zone": "Europe/Brussel"}, "time_zone: "),
        ({"every_unit": "cron", "cron": "every now and then"}, "cron: "),
        ({"every_unit": "monthly", "positions": "x"}, "positions: "),
        ({"every_unit": "daily", "start_date": "2026-05-02", "end_date": "2026-05-01"}, "end_date"),
        ({"every_unit": "daily", "timeout": -1}, "timeout: "),
        ({"every_unit": "daily", "timeout": "soon"}, "timeout: "),
        ({"every_unit": "daily", "log_level": "LOUD"}, "log_level: "),
        ({"every_unit": "daily", "missed": "never"}, "missed: "),
        ({"every_unit": "daily", "arguments": [1, 2]}, "arguments: "),
        ({"every_unit": "daily", "arguments": {"x": object()}}, "arguments: "),
        ({"every_unit": "daily", "name": "x" * 300}, "name: "),
        ({"every_unit": "daily", "max_attempts": None}, "max_attempts: "),
        # What Django does not look at, because nothing need be given.
        ({"every_unit": "daily", "time_zone": None}, "time_zone: It cannot be None: leave it out"),
        ({"every_unit": "cron", "cron": None}, "cron: It cannot be None: leave it out"),
        ({"every_unit": "monthly", "positions": None}, "positions: It cannot be None: leave it"),
        ({"every_unit": "monthly", "positions": []}, "positions: Give a text"),
        ({"every_unit": "daily", "max_events": ""}, "max_events: “” value must be an integer"),
        ({"disabled_reason": None}, "disabled_reason: It cannot be None: leave it out"),
        ({"disabled_until": 5}, "disabled_until: “5” value has an invalid format"),
        ({"arguments": None}, "arguments: Arguments must be a JSON object"),
        # What some databases refuse.
        ({"arguments": {"a": float("nan")}}, "arguments: Arguments take no NaN"),
        ({"arguments": {"a": [{"b": float("inf")}]}}, "arguments: Arguments take no NaN"),
        ({"arguments": {"a": "\0"}}, r"arguments: Leave out the character \x00"),
        ({"arguments": {"\ud800": 1}}, r"arguments: Leave out the character \ud800"),
        ({"arguments": {1: 2, "a": 3}}, "arguments: Keys in arguments are texts, not int"),
        ({"name": "a\0b"}, r"name: Leave out the character \x00"),
        ({"every_unit": "daily", "every": "a\0b"}, r"every: “a\x00b” value must be an integer"),
        ({"retry_delay": float("nan")}, "retry_delay: Give a number"),
        ({"timeout": 10**400}, "timeout: Give a number"),
        (
            {"every_unit": "daily", "every": 10**10},
            "every: Ensure this value is less than or equal",
        ),
    ],
)
def test_a_wrong_declaration_gives_a_disabled_row_that_says_why(
    keywords: dict[str, object], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    declare(lambda: None, "wrong", **keywords)
    declare(lambda: None, "right", every_unit="daily")
    with caplog.at_level(logging.ERROR, "linod"):
        sync()
    wrong, right = BackgroundTask.objects.all()
    assert wrong.disabled
    assert wrong.disabled_reason.startswith(f"Declared wrongly: {reason}")
    assert wrong.next_run_at is None
    assert not right.disabled
    (record,) = caplog.records
    said = record.getMessage()
    assert said.startswith(f"Procedure wrong is disabled. {wrong.disabled_reason} (mend it and ")
    assert sync() == []


def test_what_gave_way_to_a_default_is_not_enabled_by_itself() -> None:
    soon = clock.db_now() + timedelta(hours=1)
    declare(lambda: None, "wrong", arguments={"days": float("nan")}, disabled_until=soon)
    (wrong,) = sync()
    assert (wrong.disabled, wrong.arguments, wrong.disabled_until) == (True, {}, None)


def test_a_row_at_the_end_of_all_numbers_does_not_keep_others_from_theirs() -> None:
    declare(lambda: None, "first")
    (first,) = sync()
    for largest in (2**31 - 1, 10**9):
        BackgroundTask.objects.filter(pk=first.pk).update(seqno=largest)
        declare(lambda: None, f"behind_{largest}")
        declare(lambda: None, f"behind_{largest}_too")
        sync()
    assert [seqno for seqno, _name in rows()] == [1, 2, 3, 4, 10**9]
    assert rows()[-1] == (10**9, "first")


def test_the_reason_is_in_the_language_of_the_site() -> None:
    declare(lambda: None, "wrong", every_unit="daily", every=0)
    with override_settings(LANGUAGE_CODE="de"), translation.override(None):  # as migrate does
        (wrong,) = sync()
        assert says_declared_wrongly(wrong.disabled_reason)
    assert wrong.disabled_reason.startswith("Falsch deklariert: every: ")
    assert not says_declared_wrongly(wrong.disabled_reason)
    with translation.override("de"):
        assert says_declared_wrongly(wrong.disabled_reason)
        assert says_declared_wrongly("Declared wrongly: every: 0")
    assert not says_declared_wrongly("noisy")


@pytest.mark.django_db(transaction=True)
def test_two_at_once_make_one_row_each() -> None:
    for n in range(12):
        declare(lambda: None, f"procedure_{n:02}")
    meeting = threading.Barrier(4)
    made: list[int] = []
    errors: list[Exception] = []

    def start() -> None:
        try:
            meeting.wait(20)
            made.append(len(sync()))
        except Exception as error:  # noqa: BLE001 - it is what the test looks at
            errors.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
    assert sorted(made) == [0, 0, 0, 12]
    assert rows() == [(n + 1, f"procedure_{n:02}") for n in range(12)]


def test_migrate_makes_the_rows() -> None:
    declare(lambda: None, "nightly", every_unit="daily")
    call_command("migrate", verbosity=0)
    assert rows() == [(1, "nightly")]
