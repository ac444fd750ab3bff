"""The rows of background tasks: what is refused, what is saved, what they say they are about."""

from __future__ import annotations

import copy
import threading
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from unittest import mock

import pytest
from django.apps import apps
from django.contrib.auth import get_user_model
from django.core import serializers
from django.core.exceptions import ValidationError
from django.db import IntegrityError, connection, connections, transaction
from django.db.models import CharField
from django.db.models.functions import Cast
from django.db.models.signals import post_save, pre_save
from django.forms import modelform_factory
from django.test.utils import CaptureQueriesContext

from linod import LogLevels, Procedures, alerts, clock, signals
from linod.columns import LARGEST
from linod.exceptions import ChangedMeanwhile, InvalidRecurrence, UnknownProcedure
from linod.history import Decision, Job, JobLog, time_ordered_uuid
from linod.models import BackgroundTask
from linod.procedures import Procedure, declare
from linod.requests import BaseRequest
from tests.daemons import only_these_procedures

NOW = datetime(2026, 11, 22, 9, 30, 15, 250_000, tzinfo=UTC)  # 10:30:15 in Brussels


@pytest.fixture(autouse=True)
def _registry(db: None) -> Iterator[None]:
    with only_these_procedures():
        BackgroundTask.objects.all().delete()
        declare(lambda: None, "noop")
        declare(lambda: None, "other", aliases=("former",))
        yield


class Clock:
    """The database's clock, held."""

    def __init__(self) -> None:
        self.now = NOW

    def forward(self, **delta: float) -> None:
        self.now += timedelta(**delta)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Clock:
    held = Clock()
    monkeypatch.setattr(clock, "source", lambda connection: held.now)
    return held


def make(**values: Any) -> BackgroundTask:
    return BackgroundTask.objects.create(**{"procedure": Procedures.noop, **values})


def stored(task: BackgroundTask) -> BackgroundTask:
    return BackgroundTask.objects.get(pk=task.pk)


def ledger(task: BackgroundTask) -> list[tuple[str, str, str]]:
    return list(
        Decision.objects.filter(task=task).order_by("id").values_list("kind", "reason", "who")
    )


def make_job(task: BackgroundTask, **values: Any) -> Job:
    defaults: dict[str, Any] = {
        "task": task, "procedure": task.procedure, "due_at": clock.db_now(),
        "trigger": "request", "state": "running", "active_task": task.pk,
        "start_time": clock.db_now(),
    }  # fmt: skip
    return Job.objects.create(**{**defaults, **values})


# What a person may say


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"every_unit": "daily", "every": 0}, "every"),
    ({"every_unit": "daily", "every": -1}, "every"),
    ({"every_unit": "daily", "every": None}, "every"),
    ({"every_unit": "daily", "every": "x"}, "every"),
    ({"every_unit": "dayly"}, "every_unit"),
    ({"every_unit": "daily", "time_zone": "Europe/Brussel"}, "time_zone"),
    ({"every_unit": "daily", "end_time": time(12)}, "end_time"),
    ({"every_unit": "daily", "start_date": date(2026, 5, 2), "end_date": date(2026, 5, 1)},
     "end_date"),
    ({"every_unit": "daily", "start_date": "1.2.2026"}, "start_date"),
    ({"every_unit": "daily", "max_events": 0}, "max_events"),
    ({"every_unit": "daily", "positions": "1"}, "positions"),
    ({"every_unit": "monthly", "positions": "x"}, "positions"),
    ({"every_unit": "monthly", "positions": "0"}, "positions"),
    ({"every_unit": "once", "monday": True}, "monday"),
    ({"every_unit": "cron"}, "cron"),
    ({"every_unit": "cron", "cron": "0 9 * *"}, "cron"),
    ({"every_unit": "cron", "cron": "0 9 30 2 *"}, "cron"),
    ({"every_unit": "daily", "cron": "0 9 * * *"}, "cron"),
    ({"timeout": 0}, "timeout"),
    ({"timeout": -1}, "timeout"),
    ({"timeout": float("nan")}, "timeout"),
    ({"timeout": float("inf")}, "timeout"),
    ({"timeout": "soon"}, "timeout"),
    ({"retry_delay": 0}, "retry_delay"),
    ({"max_attempts": 0}, "max_attempts"),
    ({"max_attempts": None}, "max_attempts"),
    ({"max_attempts": "x"}, "max_attempts"),
    ({"disable_after": -1}, "disable_after"),
    ({"missed": "never"}, "missed"),
    ({"missed_within": -1}, "missed_within"),
    ({"log_level": "LOUD"}, "log_level"),
    ({"arguments": [1]}, "arguments"),
    ({"arguments": "text"}, "arguments"),
    ({"arguments": {"x": object()}}, "arguments"),
    ({"arguments": None}, "arguments"),
    ({"arguments": {"x": float("nan")}}, "arguments"),
    ({"arguments": {"x": "\0"}}, "arguments"),
    ({"every_unit": "monthly", "positions": None}, "positions"),
    ({"every_unit": "cron", "cron": None}, "cron"),
    ({"time_zone": None}, "time_zone"),
    ({"every_unit": "daily", "every": 1.5}, "every"),
    ({"every_unit": "daily", "every": [1]}, "every"),
    ({"every_unit": "daily", "max_events": 2.5}, "max_events"),
    ({"seqno": 10**9 + 1}, "seqno"),
    ({"seqno": 2**63 - 1}, "seqno"),
    ({"seqno": -(2**63)}, "seqno"),
    ({"procedure": "nothing"}, "procedure"),
    ({"procedure": ""}, "procedure"),
    ({"procedure": None}, "procedure"),
    ({"procedure": "x" * 101}, "procedure"),
    ({"name": "x" * 201}, "name"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("values", "field"), WRONG, ids=[f"{n}-{field}" for n, (_, field) in enumerate(WRONG)]
)
def test_what_no_daemon_could_carry_out_is_refused_by_its_field(
    values: dict[str, Any], field: str
) -> None:
    task = BackgroundTask(**{"procedure": Procedures.noop, **values})
    with pytest.raises(ValidationError) as caught:
        task.full_clean()
    allowed = {"monday", "every_unit"} if field == "monday" else {field}
    assert set(caught.value.message_dict) & allowed
    assert all(len(texts) == len(set(texts)) for texts in caught.value.message_dict.values())
    assert not BackgroundTask.objects.exists()


def test_a_fault_is_told_once() -> None:
    for values in ({"positions": None}, {"arguments": None}, {"timeout": float("nan")}):
        with pytest.raises(ValidationError) as caught:
            BackgroundTask(procedure="noop", every_unit="monthly", **values).full_clean()
        assert [len(texts) for texts in caught.value.message_dict.values()] == [1]


def test_what_is_left_empty_is_filled_in() -> None:
    task = make()
    task.seqno, task.name, task.every_unit = None, None, None  # type: ignore[assignment]
    task.full_clean()
    assert (task.seqno, task.name, task.every_unit) == (2, "noop", "never")
    task.seqno, task.name, task.every_unit = None, None, None  # type: ignore[assignment]
    task.save()
    assert (stored(task).seqno, stored(task).name, stored(task).every_unit) == (2, "noop", "never")


def test_a_near_name_is_offered() -> None:
    with pytest.raises(ValidationError) as caught:
        BackgroundTask(procedure="nop").full_clean()
    assert caught.value.message_dict["procedure"] == [
        "There is no procedure 'nop', did you mean noop?"
    ]


@pytest.mark.parametrize(
    "values",
    [{"every_unit": "daily"}, {"every_unit": ""}, {"every_unit": "weekly", "tuesday": True},
     {"every_unit": "monthly", "positions": "-1", "friday": True}, {"timeout": 0.5},
     {"every_unit": "secondly", "every": 10, "max_events": 3}, {"arguments": {}},
     {"disabled": True, "disabled_until": NOW}, {"disable_after": 0}, {"missed": "all"}],
)  # fmt: skip
def test_what_makes_sense_is_taken(values: dict[str, Any]) -> None:
    task = BackgroundTask(procedure=Procedures.noop, **values)
    task.full_clean()
    task.save()
    assert stored(task).every_unit == (values.get("every_unit") or "never")


def test_no_unit_is_never_and_per_weekday_is_weekly() -> None:
    task = BackgroundTask(procedure=Procedures.noop, every_unit="")
    task.full_clean()
    assert task.every_unit == "never"
    task.every_unit = "per_weekday"
    task.full_clean()
    assert task.every_unit == "weekly"


def test_a_form_refuses_broken_json_and_names_the_field() -> None:
    form_class = modelform_factory(BackgroundTask, fields=["procedure", "arguments", "every"])
    form = form_class({"procedure": "noop", "arguments": "{days: 7", "every": "0"})
    assert not form.is_valid()
    assert "Enter a valid JSON." in form.errors["arguments"]


def test_a_form_that_changes_nothing_has_changed_nothing() -> None:
    task = make(arguments={"days": 7})
    form_class = modelform_factory(BackgroundTask, fields=["procedure", "arguments", "every"])
    arguments = '{"days": 7}'
    given = {"procedure": "noop", "arguments": arguments, "every": "1"}
    given["initial-arguments"] = arguments  # hidden in the form, for a default that is a function
    form = form_class(given, instance=stored(task))
    assert form.is_valid(), form.errors
    assert form.changed_data == []
    form.save()
    assert stored(task).version == 0
    assert ledger(task) == []


# What it is called


#: As people know it: the label of each field, and what helps with some of them.
LABELS = {
    "seqno": "No.", "procedure": "Background procedure", "name": "Name",
    "log_level": "Logging level", "disabled": "Disabled", "last_start_time": "Started at",
    "last_end_time": "Ended at", "message": "Logged messages", "requested_at": "Requested at",
    "every_unit": "Recurrence", "every": "Repeat every", "positions": "Positions",
    "max_events": "Number of events", "start_date": "Start date", "start_time": "Start time",
    "end_date": "End date", "end_time": "End time", "monday": "Monday", "sunday": "Sunday",
}  # fmt: skip
HELP = {
    "log_level": "The logging level to apply when running this task.",
    "disabled": "Tells whether the task should be ignored.",
    "last_start_time": "Tells at what time exactly this job started.",
    "message": "Stores information about the job, mostly logs.",
}


def test_labels_and_helps_are_those_that_people_know() -> None:
    fields: dict[str, Any] = {f.name: f for f in BackgroundTask._meta.concrete_fields}
    assert {name: str(fields[name].verbose_name) for name in LABELS} == LABELS
    assert {name: str(fields[name].help_text) for name in HELP} == HELP
    names = [
        (BackgroundTask._meta.verbose_name, BackgroundTask._meta.verbose_name_plural),
        (Procedures.verbose_name, Procedures.verbose_name_plural),
        (LogLevels.verbose_name, LogLevels.verbose_name_plural),
    ]
    assert [(str(one), str(many)) for one, many in names] == [
        ("Background task", "Background tasks"),
        ("Background procedure", "Background procedures"),
        ("Logging level", "Logging levels"),
    ]
    assert str(apps.get_app_config("linod").verbose_name) == "Lino daemon"


# Saving


def test_a_new_row(held: Clock) -> None:
    task = make(every_unit="daily")
    assert (task.seqno, task.name, task.log_level) == (1, "noop", "INFO")
    assert (task.start_date, task.start_time) == (date(2026, 11, 22), time(20))
    assert task.next_run_at == datetime(2026, 11, 22, 19, tzinfo=UTC)
    assert make().seqno == 2
    assert str(task) == f"Background task #{task.pk} noop"
    often = make(every_unit="secondly", every=300)
    assert often.next_run_at == NOW.replace(microsecond=0)
    assert make(every_unit="once").next_run_at == NOW.replace(microsecond=0)
    assert make().next_run_at is None
    late = make(every_unit="daily", start_date=date(2020, 1, 1), start_time=time(9))
    assert late.next_run_at == datetime(2026, 11, 23, 8, tzinfo=UTC)


def test_a_rule_that_cannot_be_answered_is_not_saved() -> None:
    with pytest.raises(InvalidRecurrence, match="every: "):
        make(every_unit="daily", every=0)
    task = make(every_unit="daily")
    task.time_zone = "Europe/Brussel"
    with pytest.raises(InvalidRecurrence, match=r"time_zone: .*did you mean 'Europe/Brussels'"):
        task.save()
    assert stored(task).time_zone == ""
    parked = make(every_unit="daily", every=0, disabled=True)
    with pytest.raises(InvalidRecurrence, match="every: "):
        parked.enable()
    assert stored(parked).disabled


def test_a_save_writes_only_what_was_changed() -> None:
    task = make(every_unit="daily", arguments={"days": 7})
    BackgroundTask.objects.filter(pk=task.pk).update(message="by the engine", failures=2)
    task.log_level = "ERROR"
    task.arguments["days"] = 8
    with CaptureQueriesContext(connection) as seen:
        task.save()
    (update,) = [q["sql"] for q in seen if q["sql"].startswith("UPDATE")]
    changed = {name for name in ("log_level", "arguments", "version", "message", "every_unit")
               if f"{connection.ops.quote_name(name)} = " in update.split("WHERE")[0]}  # fmt: skip
    assert changed == {"log_level", "arguments", "version"}
    after = stored(task)
    assert (after.log_level, after.arguments) == ("ERROR", {"days": 8})
    assert (after.message, after.failures, after.version) == ("by the engine", 2, 1)
    assert ledger(task) == [("edited", "arguments, log_level", "")]


def test_a_save_without_a_change_writes_nothing() -> None:
    task = stored(make())
    with CaptureQueriesContext(connection) as seen:
        task.save()
    assert len(seen) == 0


def test_edits_survive_saves_of_other_fields_and_every_verb() -> None:
    task = stored(make(every_unit="daily"))
    task.log_level, task.timeout = "DEBUG", 5
    task.save(update_fields=["log_level"])
    assert stored(task).timeout is None
    task.request_run()
    task.cancel_request()
    task.move_up()
    task.save()
    assert (stored(task).log_level, stored(task).timeout) == ("DEBUG", 5)
    task.disable("later")
    task.enable()
    task.max_attempts = 4
    task.save()
    assert stored(task).max_attempts == 4


def test_deferred_fields_are_neither_lost_nor_written() -> None:
    task = BackgroundTask.objects.only("log_level").get(pk=make(name="kept").pk)
    task.log_level = "ERROR"
    task.save()
    task.name = "changed"
    task.save()
    assert (stored(task).log_level, stored(task).name) == ("ERROR", "changed")
    task = BackgroundTask.objects.defer("name").get(pk=task.pk)
    assert task.name == "changed"
    task.name = "again"
    task.save()
    assert stored(task).name == "again"


def test_refreshing_one_field_keeps_the_edit_of_another() -> None:
    task = stored(make())
    task.timeout = 5
    task.refresh_from_db(fields=["log_level"])
    task.save()
    assert stored(task).timeout == 5
    task.timeout = 7
    task.refresh_from_db()
    assert task.timeout == 5


def test_the_signals_of_a_save_say_what_was_written() -> None:
    heard: list[tuple[Any, ...]] = []

    def before(instance: BackgroundTask, update_fields: Any, **kwargs: Any) -> None:
        rows = BackgroundTask.objects.filter(pk=instance.pk)
        heard.append(("before", update_fields, rows.values_list("every", flat=True).first()))
        instance.disabled_reason = f"every {instance.every}"

    def after(instance: BackgroundTask, update_fields: Any, created: bool, **kwargs: Any) -> None:
        assert (kwargs["raw"], kwargs["using"]) == (False, "default")
        heard.append(("after", update_fields, stored(instance).every, created))

    pre_save.connect(before, sender=BackgroundTask)
    post_save.connect(after, sender=BackgroundTask)
    try:
        task = make(every_unit="never", disabled=True)
        assert heard == [("before", None, None), ("after", None, 1, True)]
        heard.clear()
        task.every = 2
        task.save()
        rule = {"next_run_at", "start_date", "start_time"}
        assert heard == [
            ("before", {"every"}, 1),
            ("after", {"every", "disabled_reason", "version", *rule}, 2, False),
        ]
        assert stored(task).disabled_reason == "every 2"
        heard.clear()
        task.save()
        task.save(update_fields=[])
        task.name = "not this one"
        task.save(update_fields=["every"])
        nothing: frozenset[str] = frozenset()
        assert heard == [("before", nothing, 2), ("after", nothing, 2, False)] * 2
        heard.clear()
        stored(task).delete()
        with pytest.raises(ChangedMeanwhile):
            task.save()
        assert [word for word, *_rest in heard] == ["before"]
    finally:
        pre_save.disconnect(before, sender=BackgroundTask)
        post_save.disconnect(after, sender=BackgroundTask)


def test_two_edits_at_once_lose_nothing() -> None:
    first = stored(make(every_unit="daily"))
    second = stored(first)
    first.log_level = "ERROR"
    first.save()
    second.every = 5
    with pytest.raises(ChangedMeanwhile, match="was changed or deleted meanwhile"):
        second.save()
    assert (stored(first).log_level, stored(first).every) == ("ERROR", 1)
    first.every = 2
    first.save()
    assert stored(first).every == 2


def test_an_edit_by_a_stale_object_is_refused_also_after_its_verbs() -> None:
    task = stored(make(every_unit="daily"))
    other = stored(task)
    other.every = 20
    other.save()
    task.timeout = 5  # by somebody who has not seen the 20
    task.disable("for a while")
    with pytest.raises(ChangedMeanwhile):
        task.save()
    fresh = stored(task)
    assert (fresh.every, fresh.timeout, fresh.disabled) == (20, None, True)


def test_a_verb_brings_what_others_have_changed() -> None:
    task = stored(make(every_unit="daily"))
    other = stored(task)
    other.every = 20
    other.save()
    task.disable("for a while")
    assert task.every == 20
    task.timeout = 5
    task.save()
    assert (stored(task).every, stored(task).timeout) == (20, 5)


def test_a_deleted_row_is_not_resurrected() -> None:
    task = make()
    BackgroundTask.objects.all().delete()
    task.every = 5
    changes: list[Callable[[], None]] = [
        task.save, task.request_run, lambda: task.disable("x"), task.enable,
    ]  # fmt: skip
    for change in changes:
        with pytest.raises(ChangedMeanwhile):
            change()
    assert task.cancel_request() is False
    assert not BackgroundTask.objects.exists()
    assert not Decision.objects.filter(kind__in=["requested", "disabled", "enabled"]).exists()


def test_the_engine_s_fields_are_plain_ones() -> None:
    """The last lines of the plugin's document."""
    task = make(every_unit="daily", last_start_time=NOW)
    assert task.status.startswith("Scheduled to run at")
    other = stored(task)
    other.timeout = 5
    other.save()
    task.last_start_time = None
    task.save()
    assert stored(task).status == "Not started"
    assert stored(task).version == 1


def test_a_changed_rule_gets_its_next_run(held: Clock) -> None:
    task = make(every_unit="daily", start_time=time(20))
    held.forward(hours=3)
    task.start_time = time(12)
    task.save()
    assert stored(task).next_run_at == datetime(2026, 11, 23, 11, tzinfo=UTC)
    task.log_level = "ERROR"
    BackgroundTask.objects.update(next_run_at=NOW)
    task.save()
    assert stored(task).next_run_at == NOW  # what does not change the rule leaves it alone
    task.every_unit = "never"
    task.save()
    assert stored(task).next_run_at is None
    task.every_unit = "hourly"
    task.save()
    assert stored(task).next_run_at == datetime(2026, 11, 22, 13, tzinfo=UTC)


def test_a_row_that_gets_a_unit_begins_then(held: Clock) -> None:
    task = make()
    assert (task.start_date, task.start_time) == (None, None)
    held.forward(days=2)
    task.every_unit = "weekly"
    task.save()
    fresh = stored(task)
    assert (fresh.start_date, fresh.start_time) == (date(2026, 11, 24), time(20))
    assert fresh.next_run_at == datetime(2026, 11, 24, 19, tzinfo=UTC)


def test_a_copy_is_a_row_of_its_own() -> None:
    task = make(every_unit="daily")
    twin = stored(task)
    twin.pk, twin.seqno = None, None  # type: ignore[assignment]
    twin._state.adding = True
    twin.save()
    assert twin.pk != task.pk
    assert twin.seqno == 2
    twin.every = 3
    twin.save()
    assert (stored(task).every, stored(twin).every) == (1, 3)
    shallow = copy.copy(stored(task))
    shallow.every = 9
    shallow.save()
    assert stored(task).every == 9


def test_a_duplicate_has_what_people_said_and_waits(held: Clock) -> None:
    robin = get_user_model().objects.create_user("robin")
    task = make(every_unit="daily", arguments={"days": [7]}, log_level="ERROR", monday=True)
    task.disable("a pause", until=NOW + timedelta(days=1))
    following = make()
    BackgroundTask.objects.filter(pk=task.pk).update(
        requested_at=NOW, requested_by=robin, last_start_time=NOW, last_end_time=NOW, failures=2,
        message="a log", retry_delay=5.0,
    )  # fmt: skip
    task.name = "not saved"
    twin = task.duplicate(user=robin)
    assert [t.pk for t in BackgroundTask.objects.all()] == [task.pk, twin.pk, following.pk]
    rows = BackgroundTask.objects.in_bulk()
    own = {"id", "seqno", "disabled_until", "disabled_reason", "version", "requested_at",
           "requested_by", "last_start_time", "last_end_time", "failures", "message"}  # fmt: skip
    assert own == {
        field.name
        for field in BackgroundTask._meta.concrete_fields
        if getattr(rows[task.pk], field.name) != getattr(rows[twin.pk], field.name)
    }
    assert twin.status == "Disabled"
    assert twin.disabled_reason == f"a copy of {task}"
    assert ledger(twin) == [("disabled", f"a copy of {task}", "robin")]
    twin.enable()
    assert twin.next_run_at == datetime(2026, 11, 23, 19, tzinfo=UTC)


def test_a_broken_rule_may_be_duplicated_and_a_task_that_is_gone_may_not() -> None:
    task = make(every_unit="daily")
    BackgroundTask.objects.update(every=0, seqno=LARGEST)
    twin = task.duplicate()
    assert (twin.every, twin.seqno, twin.next_run_at) == (0, LARGEST, None)
    assert [t.pk for t in BackgroundTask.objects.all()] == [task.pk, twin.pk]
    BackgroundTask.objects.filter(pk=task.pk).delete()
    with pytest.raises(ChangedMeanwhile, match="does not exist any more"):
        task.duplicate()


def test_who_edits_is_in_the_ledger() -> None:
    task = make()
    task.edited_by = get_user_model().objects.create_user("robin")
    task.timeout = 5
    task.save()
    assert ledger(task) == [("edited", "timeout", "robin")]


def test_a_saved_fixture_is_loaded_again() -> None:
    text = serializers.serialize("json", [make(every_unit="daily"), make(procedure="other")])
    BackgroundTask.objects.all().delete()
    for loaded in serializers.deserialize("json", text):
        loaded.save()
    assert [t.procedure.name for t in BackgroundTask.objects.all()] == ["noop", "other"]


# Disabling, enabling, requesting


def test_disabled_until_enabled(held: Clock) -> None:
    task = make(every_unit="daily", start_time=time(12))
    robin = get_user_model().objects.create_user("robin")
    task.disable("moving house", until=NOW + timedelta(days=1), user=robin)
    assert (task.disabled, task.next_run_at, task.disabled_reason) == (True, None, "moving house")
    fresh = stored(task)
    assert (fresh.disabled, fresh.next_run_at) == (True, None)
    assert fresh.disabled_until == NOW + timedelta(days=1)
    held.forward(days=3)
    task.enable(user=robin)
    fresh = stored(task)
    assert not fresh.disabled
    assert fresh.next_run_at == datetime(2026, 11, 25, 11, tzinfo=UTC)  # no catch-up
    assert (fresh.disabled_until, fresh.disabled_reason, fresh.failures) == (None, "", 0)
    assert ledger(task) == [("disabled", "moving house", "robin"), ("enabled", "", "robin")]


def test_a_tick_in_the_form_disables_and_enables_as_well(held: Clock) -> None:
    task = make(every_unit="hourly")
    BackgroundTask.objects.update(failures=3)
    task.disabled = True
    task.save()
    assert stored(task).next_run_at is None
    assert stored(task).failures == 3
    held.forward(hours=5, minutes=1)
    task.disabled = False
    task.save()
    fresh = stored(task)
    assert fresh.next_run_at == NOW.replace(microsecond=0) + timedelta(hours=6)
    assert fresh.failures == 0


def test_only_a_disabled_task_waits_for_its_end() -> None:
    task = make(disabled_until=NOW)
    assert stored(task).disabled_until is None
    task.disable("for a day", until=NOW)
    task.disabled = False
    task.full_clean()
    task.save()
    assert stored(task).disabled_until is None
    task.disabled_until = NOW
    task.save()
    assert stored(task).disabled_until is None


def test_enabling_goes_by_the_row_s_rule(held: Clock) -> None:
    task = make(every_unit="hourly", disabled=True)
    stale = stored(task)
    task.every_unit, task.start_time = "daily", time(12)
    task.save()
    stale.enable()
    assert stored(task).next_run_at == datetime(2026, 11, 22, 11, tzinfo=UTC)


def test_a_request_stands_until_it_is_taken_back() -> None:
    users = get_user_model().objects
    robin, rolf = users.create_user("robin"), users.create_user("rolf")
    task = make(every_unit="daily", last_start_time=NOW, last_end_time=NOW, message="kept")
    next_run_at = task.next_run_at
    task.request_run(robin)
    asked = stored(task)
    assert asked.requested_at == task.requested_at
    assert asked.requested_by == task.requested_by == robin
    line = Decision.objects.get(task=task, kind="requested")
    assert line.due_at == line.at == asked.requested_at
    task.request_run(rolf)  # the first one stands
    assert (stored(task).requested_at, stored(task).requested_by) == (asked.requested_at, robin)
    assert task.cancel_request(rolf) is True
    assert task.cancel_request(rolf) is False
    fresh = stored(task)
    assert (fresh.requested_at, fresh.requested_by) == (None, None)
    assert (fresh.last_start_time, fresh.last_end_time, fresh.message) == (NOW, NOW, "kept")
    assert (fresh.next_run_at, fresh.version) == (next_run_at, 0)
    assert [(kind, who) for kind, _, who in ledger(task)] == [
        ("requested", "robin"), ("request_cancelled", "rolf"),
    ]  # fmt: skip


def test_a_user_s_key_goes_to_the_driver_as_its_field_says() -> None:
    robin = get_user_model().objects.create_user("robin")
    task = make(every_unit="daily")
    field = BackgroundTask._meta.get_field("requested_by")
    # Such as a UUID, which not every driver takes as it is.
    strange = get_user_model()(pk=uuid.uuid4(), username="strange")
    with mock.patch.object(field, "get_db_prep_save", return_value=robin.pk) as prepare:
        task.request_run(strange)
    prepare.assert_called_once_with(strange.pk, connection)
    assert stored(task).requested_by == robin


def test_a_disabled_or_a_running_task_may_be_requested() -> None:
    task = make(disabled=True)
    make_job(task)
    task.request_run()
    assert stored(task).requested_at is not None
    assert stored(task).disabled


@pytest.mark.django_db(transaction=True)
def test_the_daemons_hear_of_it_after_the_commit() -> None:
    heard: list[str] = []
    databases = set[str | None]()

    def hear(**kwargs: Any) -> None:
        heard.append("in a transaction" if connection.in_atomic_block else "after the commit")

    def take(decision: Decision, **kwargs: Any) -> None:
        databases.add(decision._state.db)

    signals.work_arrived.connect(hear)
    signals.decision_made.connect(take)
    try:
        task = make(every_unit="daily")
        task.request_run()
        assert databases == {"default"}
        task.cancel_request()
        task.disable("x")
        task.enable()
        task.every = 4
        task.save()
    finally:
        signals.work_arrived.disconnect(hear)
        signals.decision_made.disconnect(take)
        alerts.flush(30)
    assert set(heard) == {"after the commit"}
    assert len(heard) == 6


@pytest.mark.django_db(transaction=True)
def test_many_requests_at_once_are_one() -> None:
    task = make()
    meeting = threading.Barrier(4)

    def ask() -> None:
        mine = stored(task)
        meeting.wait(20)
        mine.request_run()
        connections.close_all()

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert [kind for kind, _, _ in ledger(task)] == ["requested"]


def test_moves() -> None:
    one, two, three = make(), make(), make()
    assert three.move_up()
    assert [t.pk for t in BackgroundTask.objects.all()] == [one.pk, three.pk, two.pk]
    assert not one.move_up()
    assert not stored(two).move_down()
    assert one.move_down()
    assert [t.seqno for t in BackgroundTask.objects.all()] == [1, 2, 3]
    assert [t.pk for t in BackgroundTask.objects.all()] == [three.pk, one.pk, two.pk]
    assert {t.version for t in BackgroundTask.objects.all()} == {0}


# Procedures in rows


def test_rows_read_and_look_up_procedures() -> None:
    task = make()
    found = BackgroundTask.objects.get(procedure=Procedures.noop)
    assert found == task
    assert found.procedure is Procedures.noop
    assert found.procedure.name == "noop"
    assert BackgroundTask.objects.get(procedure="noop") == task
    assert not BackgroundTask.objects.exclude(procedure=Procedures.noop).exists()
    assert list(BackgroundTask.objects.values_list("procedure", flat=True)) == [Procedures.noop]


def test_rows_of_a_renamed_procedure_are_found_by_every_name() -> None:
    task = make(procedure=Procedure(None, "former"))
    stored_names = BackgroundTask.objects.annotate(held=Cast("procedure", CharField()))
    assert list(stored_names.values_list("held", flat=True)) == ["former"]
    for value in (Procedures.other, "other", "former"):
        assert BackgroundTask.objects.get(procedure=value) == task
        assert BackgroundTask.objects.get(procedure__in=[value]) == task
        assert not BackgroundTask.objects.exclude(procedure=value).exists()
    assert stored(task).procedure is Procedures.other
    assert BackgroundTask.objects.known().count() == 1
    assert not BackgroundTask.objects.filter(procedure=Procedures.noop).exists()
    assert not BackgroundTask.objects.filter(procedure__in=[]).exists()


def test_an_unknown_procedure_stays_and_says_so() -> None:
    task = make(procedure=Procedure(None, "gone"), every_unit="daily")
    found = stored(task)
    assert found.status == "Unknown procedure"
    assert str(found) == f"Background task #{task.pk} gone"
    assert found.procedure.name == "gone"
    assert not BackgroundTask.objects.known().exists()
    found.full_clean()
    found.timeout = 5
    found.save()
    found.request_run()
    found.disable("x")
    assert stored(found).procedure.name == "gone"
    with pytest.raises(UnknownProcedure):
        found.procedure.run(BaseRequest())


def test_adjectives() -> None:
    never, daily = make(), make(every_unit="daily", next_run_at=NOW)
    off = make(every_unit="daily", disabled=True)
    never.request_run()
    tasks = BackgroundTask.objects
    assert set(tasks.enabled()) == {never, daily}
    assert set(tasks.recurring()) == {daily, off}
    assert set(tasks.requested()) == {never}
    assert daily.next_run_at is not None
    assert set(tasks.due(daily.next_run_at)) == {never, daily}
    assert set(tasks.due(daily.next_run_at - timedelta(seconds=1))) == {never}
    make_job(daily)
    assert set(tasks.idle()) == {never, off}


# Status


def test_every_status_in_its_precedence(held: Clock) -> None:
    task = make(procedure=Procedure(None, "gone"), every_unit="daily", start_time=time(12))

    def status() -> str:
        return stored(task).status

    def write(**values: Any) -> None:
        BackgroundTask.objects.filter(pk=task.pk).update(**values)

    write(
        requested_at=NOW, disabled=True, disabled_until=NOW + timedelta(days=1),
        last_start_time=NOW,
    )  # fmt: skip
    job = make_job(task, start_time=NOW - timedelta(minutes=3))
    assert status() == "Unknown procedure"
    write(procedure="noop")
    assert stored(task).is_running()
    assert status() == "Running since 2026-11-22 10:27:15 (3 minutes ago)"
    job.state, job.active_task = "succeeded", None
    job.save()
    assert not stored(task).is_running()
    assert status() == "Requested to run asap (since 2026-11-22 10:30:15)"
    write(requested_at=None)
    assert status() == "Disabled until 2026-11-23 10:30:15"
    write(disabled_until=None)
    assert status() == "Disabled"
    write(disabled=False, last_start_time=None)
    assert status() == "Not started"
    write(last_start_time=NOW)
    assert status() == "Scheduled to run at 2026-11-22 12:00:00 (1 hour from now)"
    held.forward(hours=2)
    assert status() == "Scheduled to run at 2026-11-22 12:00:00 (30 minutes ago)"
    write(next_run_at=None)
    assert status() == "Not scheduled"


def test_a_claimed_job_does_not_run_yet() -> None:
    task = make()
    make_job(task, state="claimed", start_time=None)
    assert task.status == "Not started"
    assert not task.is_running()


# The history's rows


def test_a_job_s_message_joins_its_log() -> None:
    job = make_job(make())
    for n, text in ((3, "three"), (1, "one\n"), (2, "two\n")):
        JobLog.objects.create(job=job, n=n, text=text)
    assert job.message == "one\ntwo\nthree"


def test_one_instant_one_job_and_one_active_job_a_task() -> None:
    task, other = make(), make()
    job = make_job(task)
    with pytest.raises(IntegrityError), transaction.atomic():
        make_job(task, due_at=job.due_at, active_task=None)
    with pytest.raises(IntegrityError), transaction.atomic():
        make_job(task, due_at=job.due_at + timedelta(seconds=1))
    make_job(task, due_at=job.due_at, attempt=2, active_task=None)
    make_job(other, due_at=job.due_at)
    for _ in range(2):  # ad-hoc work has no task
        adhoc = make_job(task, attempt=3, active_task=None)
        adhoc.task, adhoc.due_at, adhoc.attempt = None, job.due_at, 1
        adhoc.save()


def test_a_deleted_task_leaves_its_history() -> None:
    task = make()
    job = make_job(task, state="failed", active_task=None, end_time=NOW)
    Decision.objects.record("edited", task)
    task.delete()
    assert Job.objects.get(pk=job.pk).task is None
    assert Decision.objects.get().task is None


def test_keys_sort_by_their_making() -> None:
    keys = []
    for _ in range(50):
        before = clock.host_milliseconds()
        while clock.host_milliseconds() == before:
            pass
        keys.append(time_ordered_uuid())
    assert keys == sorted(keys)
    assert {key.version for key in keys} == {7}
    task = make()
    jobs = [
        make_job(task, id=key, due_at=NOW + timedelta(seconds=n), active_task=None)
        for n, key in enumerate(keys)
    ]
    assert (
        list(Job.objects.all()) == jobs[::-1]
    )  # also where the database has its own idea of UUIDs


def test_what_a_job_knows_about_itself() -> None:
    job = make_job(make(), due_at=NOW, start_time=NOW + timedelta(seconds=2))
    assert job.is_active
    assert not job.is_final
    assert (job.lateness, job.duration) == (timedelta(seconds=2), None)
    job.end_time, job.state = NOW + timedelta(seconds=5), "failed"
    assert (job.duration, job.is_final) == (timedelta(seconds=3), True)
    assert str(job) == f"Job {job.pk} (noop, failed)"


@pytest.mark.django_db(transaction=True)
def test_a_rule_that_gets_its_start_by_an_edit_begins_at_once() -> None:
    task = BackgroundTask.objects.create(procedure="noop")
    task.every_unit = "once"
    task.save()
    task.refresh_from_db()
    assert task.next_run_at is not None
    assert task.next_run_at <= clock.db_now()


# What the ledger says of changes


def test_the_ledger_says_which_instant_a_changed_rule_let_go_of(held: Clock) -> None:
    task = make(every_unit="daily", start_time=time(12))
    noon = datetime(2026, 11, 22, 11, tzinfo=UTC)
    assert task.next_run_at == noon
    held.forward(hours=5)
    task.timeout = 5
    task.save()
    task.start_time = time(18)
    task.save()
    evening = stored(task).next_run_at
    task.disable("for good")
    decisions = Decision.objects.filter(task=task).order_by("id")
    assert list(decisions.values_list("kind", "reason", "due_at")) == [
        ("edited", "timeout", None),
        ("edited", "start_time", noon),
        ("disabled", "for good", evening),
    ]


def test_a_tick_in_the_form_is_told_as_what_it_does(held: Clock) -> None:
    task = make(every_unit="hourly")
    task.edited_by = get_user_model().objects.create_user("robin")
    task.disabled, task.disabled_reason = True, "moving house"
    task.save()
    task.disabled = False
    task.save()
    assert ledger(task) == [
        ("edited", "disabled, disabled_reason", "robin"),
        ("disabled", "moving house", "robin"),
        ("edited", "disabled", "robin"),
        ("enabled", "", "robin"),
    ]


def test_a_pause_that_is_over_is_told(held: Clock) -> None:
    task = make(every_unit="hourly")
    task.disable("moving house", until=NOW + timedelta(days=1))
    held.forward(days=2)
    task.enable()
    assert ledger(task)[-1] == ("enabled", "its pause was over", "")


def test_a_job_is_cancelled_by_somebody() -> None:
    task = make()
    robin = get_user_model().objects.create_user("robin")
    waiting = make_job(task, state="waiting", active_task=None, start_time=None)
    assert waiting.cancel(robin)
    assert (waiting.state, waiting.is_final) == ("cancelled", True)
    assert not waiting.cancel(robin)
    running = make_job(task)
    assert running.cancel("a script")
    assert running.state == "running"
    assert running.cancel_requested_at is not None
    assert ledger(task) == [("cancelled", "", "robin"), ("cancelled", "", "a script")]
    assert set(Decision.objects.values_list("job", flat=True)) == {waiting.pk, running.pk}
