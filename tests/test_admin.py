"""The admin as a browser meets it: who may do what, what it writes, what it never loses."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from html.parser import HTMLParser
from typing import Any
from unittest import mock
from uuid import uuid4

import pytest
from django.contrib.admin import ModelAdmin
from django.contrib.auth.models import User
from django.contrib.messages import get_messages
from django.db import OperationalError, ProgrammingError, connection
from django.http import HttpResponse
from django.test import Client, override_settings
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from linod import clock
from linod.admin.cells import as_json
from linod.arguments import ArgumentsFormField
from linod.exceptions import ChangedMeanwhile
from linod.history import Daemon, Decision, Job, JobLog
from linod.models import BackgroundTask
from linod.procedures import declare
from linod.status import moment_text
from tests.daemons import only_these_procedures
from tests.people import ACTIONS, make
from tests.people import person as anybody
from tests.readonly import read_only

pytestmark = pytest.mark.django_db

TASKS = reverse("admin:linod_backgroundtask_changelist")
SCRIPT = "<script>alert('x')</script>"
PERMISSIONS = ["view_backgroundtask", *dict.fromkeys(ACTIONS.values())]


def nothing(ar: Any) -> None:
    """Do nothing."""


@pytest.fixture(autouse=True)
def _procedures() -> Iterator[None]:
    with only_these_procedures(), override_settings(LINOD={"SITE": "tests", "RUN_DIR": "/nowhere"}):
        BackgroundTask.objects.all().delete()
        declare(nothing, "f")
        declare(lambda: None, "g")
        yield


person = partial(anybody, is_staff=True)


@pytest.fixture
def boss() -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("boss"))
    return client


def page(row: Any) -> str:
    return reverse(f"admin:linod_{row._meta.model_name}_change", args=[row.pk])


def text(response: HttpResponse) -> str:
    assert response.status_code == 200, response
    return response.content.decode()


#: What people enter on the confirmation pages of actions.
ENTERED = {
    "disable": {"confirmed": "1"},
    "pause_until": {"confirmed": "1", "until_0": "2099-01-01", "until_1": "12:00:00"},
}


def act(client: Client, action: str, *tasks: BackgroundTask, **entered: str) -> list[str]:
    """Choose an action for these tasks and confirm it; returns what the admin says."""
    chosen = {"action": action, "_selected_action": [task.pk for task in tasks]}
    chosen |= ENTERED.get(action, {}) | entered
    response = client.post(TASKS, chosen, follow=True)
    assert response.status_code == 200, response
    return [str(message) for message in response.context["messages"]]


class Form(HTMLParser):
    """The values of a form's fields, as a browser would send them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.values: dict[str, Any] = {}
        self._name = ""
        self._in_textarea = False
        self.feed(html[html.index('id="backgroundtask_form"') :])

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        name, value = given.get("name") or "", given.get("value") or ""
        match tag:
            case "input" if given.get("type") in ("submit", "button") or not name:
                pass
            case "input" if given.get("type") == "checkbox":
                if "checked" in given:
                    self.values[name] = "on"
            case "input":
                self.values[name] = value
            case "select" | "textarea":
                self._name, self._in_textarea = name, tag == "textarea"
                self.values[name] = ""
            case "option" if "selected" in given:
                self.values[self._name] = value

    def handle_endtag(self, tag: str) -> None:
        if tag == "textarea":
            self._in_textarea = False
            self.values[self._name] = self.values[self._name].removeprefix("\n").strip("\r\n")

    def handle_data(self, data: str) -> None:
        if self._in_textarea:
            self.values[self._name] += data


def form(client: Client, url: str) -> dict[str, Any]:
    return Form(text(client.get(url))).values


def bare(html: str) -> str:
    """The text of a piece of HTML."""
    return re.sub(r"<[^>]*>", "", html)


def errors(html: str) -> list[str]:
    return re.findall(r'<ul class="errorlist[^>]*>\s*<li>(.*?)</li>', html)


def lines() -> list[tuple[str, str, str]]:
    """The ledger, oldest first."""
    return list(Decision.objects.order_by("id").values_list("kind", "reason", "who"))


# The list


def test_the_list_has_its_columns(boss: Client) -> None:
    make()
    make(procedure="g", disabled=True, log_level="ERROR")
    make(procedure="gone")
    html = text(boss.get(TASKS))
    headings = [
        re.sub(r"<[^>]*>", "", heading).strip()
        for heading in re.findall(r'<th scope="col".*?</th>', html, re.DOTALL)
    ]
    assert [heading for heading in headings if heading][-7:] == [
        "No.", "Background procedure", "Logging level", "Disabled", "Status", "Last runs",
        "Next run",
    ]  # fmt: skip
    states = [bare(cell) for cell in re.findall(r'<td class="field-status">(.*?)</td>', html)]
    assert states == ["Not started", "Disabled", "Unknown procedure"]


def test_the_list_filters_and_searches(boss: Client) -> None:
    make(name="alpha", disabled=True)
    make(procedure="g", name="beta")
    for query, number in (
        ("disabled__exact=1", 1), ("q=alpha", 1), ("q=g", 1), ("every_unit=weekly", 0), ("", 2),
    ):  # fmt: skip
        html = text(boss.get(f"{TASKS}?{query}"))
        assert html.count('class="field-status"') == number, query


def test_a_status_costs_no_query_of_its_own(boss: Client) -> None:
    def queries() -> int:
        with CaptureQueriesContext(
            connection,
        ) as seen:
            html = text(boss.get(TASKS))
        assert html.count("Running since") == Job.objects.count()
        return len(seen)

    add_running()
    first = queries()
    for _ in range(20):
        add_running()
    assert queries() == first


def add_running() -> None:
    task, now = make(), clock.db_now()
    Job.objects.create(
        task=task, active_task=task.pk, procedure="f", due_at=now, start_time=now,
        state="running", trigger="schedule",
    )  # fmt: skip


def test_text_from_people_is_escaped(boss: Client) -> None:
    task = make(procedure=SCRIPT, name=SCRIPT, disabled_reason=SCRIPT, disabled=True)
    BackgroundTask.objects.update(message=SCRIPT)
    job = finished_job(task, error=SCRIPT, host=SCRIPT)
    Decision.objects.record("edited", task, who=SCRIPT, reason=SCRIPT)
    Daemon.objects.create(
        owner=uuid4(), host=SCRIPT, pid=1, version=SCRIPT, started_at=clock.db_now(),
        last_seen_at=clock.db_now(), state="running",
    )  # fmt: skip
    names = ("backgroundtask", "job", "decision", "daemon")
    urls = [reverse(f"admin:linod_{name}_changelist") for name in names]
    for url in [*urls, page(task), page(job)]:
        html = text(boss.get(url))
        assert SCRIPT not in html
        assert "&lt;script&gt;" in html, url
    act(boss, "run_now", task)
    assert SCRIPT not in text(boss.get(TASKS))


# Permissions


@pytest.mark.parametrize("permission", PERMISSIONS)
def test_actions_are_shown_to_whom_they_belong(permission: str) -> None:
    make()
    html = text(person("view_backgroundtask", permission).get(TASKS))
    shown = {name for name in ACTIONS if f'<option value="{name}">' in html}
    assert shown == {name for name, needed in ACTIONS.items() if needed == permission}


def fit_for(action: str) -> BackgroundTask:
    """A task that the action changes, behind another one."""
    make()
    task = make(disabled=action == "enable")
    if action == "move_down":
        make()
    if action == "cancel_request":
        task.request_run()
    return task


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("permission", PERMISSIONS)
def test_actions_work_for_whom_they_belong(action: str, permission: str) -> None:
    task = fit_for(action)
    rows = BackgroundTask.objects.order_by("pk").values()
    before, number = list(rows), Decision.objects.count()
    client = person("view_backgroundtask", permission)
    act(client, action, task)
    after = list(rows.all())
    assert (after != before) == (ACTIONS[action] == permission)
    assert [line.who for line in Decision.objects.order_by("id")[number:]] == (
        ["robin"] if ACTIONS[action] == permission else []
    )


def test_without_permission_nothing_is_seen() -> None:
    task = make()
    client = person()
    for url in (TASKS, page(task), reverse("admin:linod_job_changelist")):
        assert client.get(url).status_code == 403


def test_a_viewer_sees_and_changes_nothing() -> None:
    task = make()
    client = person("view_backgroundtask")
    html = text(client.get(page(task)))
    assert 'name="_save"' not in html
    assert client.post(page(task), {"every": "5", "seen_version": "0"}).status_code == 403
    task.refresh_from_db()
    assert task.every == 1


@pytest.mark.parametrize("may_read", [False, True])
def test_logs_have_a_permission_of_their_own(may_read: bool) -> None:
    task = make()
    BackgroundTask.objects.update(message="a secret")
    job = finished_job(task, error="a secret")
    permissions = ["view_backgroundtask", "view_job", *(["view_log"] if may_read else [])]
    client = person(*permissions)
    for row in (task, job):
        assert ("a secret" in text(client.get(page(row)))) is may_read


# Actions


def test_run_now_and_cancel_request(boss: Client) -> None:
    one, two = make(), make(procedure="g", disabled=True)
    assert act(boss, "run_now", one, two) == ["2 tasks are requested to run."]
    one.refresh_from_db()
    assert one.requested_by == User.objects.get()
    assert act(boss, "cancel_request", one) == ["1 request was cancelled."]
    assert act(boss, "cancel_request", one) == ["0 requests were cancelled."]
    assert [task.requested_at is None for task in BackgroundTask.objects.all()] == [True, False]
    assert [(kind, who) for kind, _reason, who in lines()] == [
        ("requested", "boss"), ("requested", "boss"), ("request_cancelled", "boss"),
    ]  # fmt: skip


def test_disable_and_enable(boss: Client) -> None:
    one, two = make(), make(disabled=True)
    assert act(boss, "disable", one, two) == ["1 task was disabled."]
    one.refresh_from_db()
    assert (one.disabled, one.disabled_reason, one.next_run_at) == (True, "by boss", None)
    assert act(boss, "enable", one, two) == ["2 tasks were enabled."]
    one.refresh_from_db()
    assert one.next_run_at is not None
    assert lines() == [
        ("disabled", "by boss", "boss"), ("enabled", "", "boss"), ("enabled", "", "boss"),
    ]  # fmt: skip


def test_enable_tells_of_a_rule_that_cannot_be_answered(boss: Client) -> None:
    broken, whole = make(disabled=True), make(disabled=True)
    BackgroundTask.objects.filter(pk=broken.pk).update(every=0)
    assert act(boss, "enable", broken, whole) == [
        f"{broken}: every: give a whole number from 1 on",
        "1 task was enabled.",
    ]


@pytest.mark.parametrize(
    ("action", "chosen", "order", "moved"),
    [
        ("move_up", "c", "acbd", 1),
        ("move_up", "bd", "badc", 2),
        ("move_up", "ab", "abcd", 0),
        ("move_up", "abd", "abdc", 1),
        ("move_down", "bc", "adbc", 2),
        ("move_down", "cd", "abcd", 0),
        ("move_down", "acd", "bacd", 1),
    ],
)
def test_moves_keep_the_order_among_themselves(
    boss: Client, action: str, chosen: str, order: str, moved: int
) -> None:
    tasks = {name: make(name=name) for name in "abcd"}
    said = act(boss, action, *(tasks[name] for name in chosen))
    assert said == ["1 task was moved." if moved == 1 else f"{moved} tasks were moved."]
    names = BackgroundTask.objects.order_by("seqno", "id").values_list("name", flat=True)
    assert "".join(names) == order
    words = action.replace("move", "moved").replace("_", " ")
    assert lines() == [("edited", words, "boss")] * moved


def test_copies_stand_behind_their_tasks_and_wait_for_their_people(boss: Client) -> None:
    one, two = make(name="a", arguments={"days": 7}), make(name="b", procedure="g")
    said = "2 tasks were duplicated. The copies are disabled: change them, then enable them."
    assert act(boss, "duplicate", one, two) == [said]
    tasks = list(BackgroundTask.objects.order_by("seqno", "id"))
    assert [task.name for task in tasks] == ["a", "a", "b", "b"]
    assert [task.disabled for task in tasks] == [False, True, False, True]
    assert lines() == [
        ("disabled", f"a copy of {one}", "boss"), ("disabled", f"a copy of {two}", "boss"),
    ]  # fmt: skip


@pytest.mark.parametrize("where", ["list", "page"])
def test_of_one_task_the_copy_is_shown(boss: Client, where: str) -> None:
    task = make()
    url = reverse("admin:linod_backgroundtask_act", args=[task.pk]) if where == "page" else TASKS
    answer = boss.post(url, {"action": "duplicate", "_selected_action": task.pk})
    copy = BackgroundTask.objects.exclude(pk=task.pk).get()
    assert answer.headers["Location"] == page(copy)
    html = text(boss.get(page(copy)))
    assert "1 task was duplicated. The copy is disabled: change it, then enable it." in html
    assert boss.post(page(copy), form(boss, page(copy)) | {"disabled": ""}).status_code == 302
    copy.refresh_from_db()
    assert (copy.disabled, copy.next_run_at) == (False, task.next_run_at)


# The form


def test_a_form_writes_what_was_changed(boss: Client) -> None:
    task = make()
    values = form(boss, page(task))
    saved = boss.post(page(task), values | {"every": "2", "name": "Name"})
    assert saved.status_code == 302
    task.refresh_from_db()
    assert (task.every, task.name, task.version) == (2, "Name", 1)
    assert lines() == [("edited", "every, name", "boss")]


def test_an_untouched_form_writes_nothing(boss: Client) -> None:
    task = make(arguments={"days": 7}, disabled_reason="", every_unit="secondly", every=10)
    before = BackgroundTask.objects.values().get()
    assert boss.post(page(task), form(boss, page(task))).status_code == 302
    assert BackgroundTask.objects.values().get() == before
    assert lines() == []


def test_a_new_task_and_its_end(boss: Client) -> None:
    url = reverse("admin:linod_backgroundtask_add")
    values = form(boss, url)
    assert boss.post(url, values | {"procedure": "g", "every_unit": "daily"}).status_code == 302
    task = BackgroundTask.objects.get()
    assert (task.procedure.name, task.seqno) == ("g", 1)
    assert task.next_run_at is not None
    gone = str(task)
    boss.post(reverse("admin:linod_backgroundtask_delete", args=[task.pk]), {"post": "yes"})
    boss.post(TASKS, {"action": "delete_selected", "_selected_action": [make().pk], "post": "yes"})
    assert not BackgroundTask.objects.exists()
    created, deleted, _deleted_too = lines()
    assert created == ("edited", "created", "boss")
    assert deleted == ("edited", f"deleted: {gone}", "boss")


def test_a_number_makes_room(boss: Client) -> None:
    first, _second, third = make(name="a"), make(name="b"), make(name="c")
    boss.post(page(third), form(boss, page(third)) | {"seqno": str(first.seqno)})
    order = BackgroundTask.objects.order_by("seqno", "id").values_list("name", flat=True)
    assert list(order) == ["c", "a", "b"]
    url = reverse("admin:linod_backgroundtask_add")
    values = form(boss, url) | {"procedure": "g", "name": "new", "seqno": str(first.seqno)}
    assert boss.post(url, values).status_code == 302
    assert list(order.all()) == ["new", "c", "a", "b"]


def test_procedures_are_those_that_are_declared(boss: Client) -> None:
    url = reverse("admin:linod_backgroundtask_add")
    html = text(boss.get(url))
    select = html[html.index('<select name="procedure"') :].partition("</select>")[0]
    assert re.findall(r'value="(\w+)"', select) == ["f", "g"]
    refused = boss.post(url, form(boss, url) | {"procedure": "h"})
    assert errors(text(refused)) == [
        "Select a valid choice. h is not one of the available choices."
    ]


@pytest.mark.parametrize(
    ("name", "about"), [("f", "Do nothing."), ("g", ""), ("gone", "Unknown procedure")]
)
def test_a_task_keeps_its_procedure(boss: Client, name: str, about: str) -> None:
    task = make(procedure=name)
    assert f'{name} <span class="linod-quiet">{about}</span>' in text(boss.get(page(task)))
    values = form(boss, page(task))
    assert "procedure" not in values
    saved = boss.post(page(task), values | {"every": "3", "procedure": "g" if name == "f" else "f"})
    assert saved.status_code == 302
    task.refresh_from_db()
    assert (task.procedure.name, task.every) == (name, 3)


#: What JSON's reader lets pass, or gives up on, and what the form says.
ARGUMENTS = (
    ('{"a": NaN}', "no NaN, no Infinity"),
    ('{"a": [-Infinity]}', "no NaN, no Infinity"),
    ('{"a": 1e400}', "no number from 1.8e308"),
    ('{"a": 1' + "0" * 400 + "}", "no number from 1.8e308"),
    ('{"a": 1' + "0" * 5000 + "}", "no number from 1.8e308"),
    (r'{"a": "\u0000"}', r"Leave out the character \x00"),
    (r'{"\u0000": 1}', r"Leave out the character \x00"),
    (r'{"a": "\ud800"}', r"Leave out the character \ud800"),
    ('{"a": ' + "[" * 30 + "]" * 30 + "}", "nested 30 levels deep at most"),
    ('{"a": ' + "[" * 5000 + "]" * 5000 + "}", "nested 30 levels deep at most"),
    ("[" * 100_000, "nested 30 levels deep at most"),
    ("[" * 500 + "]" * 500, "Arguments must be a JSON object"),
)


@pytest.mark.parametrize(
    ("field", "values", "message"),
    [
        ("every", {"every": "0"}, "give a whole number from 1 on"),
        ("arguments", {"arguments": "{"}, "Enter a valid JSON."),
        ("arguments", {"arguments": "[1]"}, "Arguments must be a JSON object"),
        ("time_zone", {"time_zone": "Europe/Brusels"}, "did you mean"),
        ("end_time", {"end_time": "12:00:00"}, "needs an end date"),
        ("positions", {"positions": "x"}, "is no list of whole numbers"),
        ("cron", {"every_unit": "cron", "cron": ""}, "needs five fields"),
        ("timeout", {"timeout": "-1"}, "Give a number of seconds above zero"),
        ("max_attempts", {"max_attempts": "0"}, "at least one attempt"),
        ("seqno", {"seqno": "1000000001"}, "less than or equal to 1000000000"),
        ("seqno", {"seqno": "2147483647"}, "less than or equal to 1000000000"),
        ("seqno", {"seqno": "9223372036854775807"}, "less than or equal to 1000000000"),
        ("arguments", {"arguments": ""}, "Arguments must be a JSON object"),
        *(("arguments", {"arguments": typed}, message) for typed, message in ARGUMENTS),
    ],
)
def test_an_error_stands_at_its_field(
    boss: Client, field: str, values: dict[str, str], message: str
) -> None:
    task = make()
    response = boss.post(page(task), form(boss, page(task)) | values)
    assert response.status_code == 200
    found = response.context["adminform"].form.errors
    assert list(found) == [field]
    assert message in str(found[field])
    typed = Form(text(response)).values
    assert values.items() <= typed.items()
    task.refresh_from_db()
    assert task.version == 0


def test_arguments_may_be_nested_and_hold_any_character_that_is_one(boss: Client) -> None:
    task = make()
    typed = '{"a": ' + "[" * 29 + r'"\u0001 \ud83d\ude00 é", -1.5, null' + "]" * 29 + "}"
    assert boss.post(page(task), form(boss, page(task)) | {"arguments": typed}).status_code == 302
    task.refresh_from_db()
    assert task.arguments == json.loads(typed)


def test_half_a_pair_that_a_row_holds_is_shown_as_it_may_be_typed() -> None:
    held = {"a": "\ud800 é"}  # SQLite stores it
    shown = ArgumentsFormField().prepare_value(held)
    assert shown == r'{"a": "\ud800 é"}'
    assert json.loads(shown) == held
    assert r"\ud800 é" in as_json(held)


def test_what_changed_meanwhile_is_not_overwritten(boss: Client) -> None:
    task = make()
    values = form(boss, page(task)) | {"every": "5", "name": "mine"}
    other = BackgroundTask.objects.get()
    other.log_level, other.every = "ERROR", 3
    other.save()
    html = text(boss.post(page(task), values))
    (error,) = errors(html)
    assert "This task was changed meanwhile; nothing was saved." in error
    task.refresh_from_db()
    assert (task.every, task.log_level) == (3, "ERROR")
    typed = Form(html).values
    assert (typed["every"], typed["name"], typed["log_level"]) == ("5", "mine", "INFO")
    assert re.search(r"Saving again overwrites: .*Repeat every", error)
    assert "Logging level" in error
    assert "Background procedure" not in error
    # Whoever has read this may say it again.
    assert boss.post(page(task), typed).status_code == 302
    task.refresh_from_db()
    assert (task.every, task.name) == (5, "mine")


def test_a_change_at_the_last_moment_is_not_overwritten(boss: Client) -> None:
    task = make()
    values = form(boss, page(task)) | {"every": "5"}
    with meanwhile(lambda: BackgroundTask.objects.update(every=3, version=1)):
        html = text(boss.post(page(task), values))
    assert "This task was changed meanwhile; nothing was saved." in errors(html)[0]
    assert Form(html).values["every"] == "5"
    task.refresh_from_db()
    assert task.every == 3


def test_a_task_that_was_deleted_at_the_last_moment_stays_deleted(boss: Client) -> None:
    task = make()
    values = form(boss, page(task)) | {"every": "5"}
    with meanwhile(lambda: BackgroundTask.objects.all().delete()):
        response = boss.post(page(task), values)
    assert response.status_code == 302
    assert not BackgroundTask.objects.exists()
    (message,) = get_messages(response.wsgi_request)
    assert "Perhaps it was deleted?" in str(message)


@contextmanager
def meanwhile(change: Callable[[], object]) -> Iterator[None]:
    """Somebody else is faster, once: after the form's check and before the save.

    What they write is done when our first try has been rolled back: on SQLite nobody can write
    while our transaction has read.
    """
    attempt = ModelAdmin.changeform_view
    tries: list[str] = []

    def save(self: BackgroundTask, *args: Any, **kwargs: Any) -> None:
        tries.append("save")
        raise ChangedMeanwhile("the row's version is another one")

    def changeform_view(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return attempt(self, *args, **kwargs)
        except ChangedMeanwhile:
            change()
            raise

    with (
        mock.patch.object(ModelAdmin, "changeform_view", changeform_view),
        mock.patch.object(BackgroundTask, "save", save),
    ):
        yield
    assert tries == ["save"]


# To read


def finished_job(task: BackgroundTask, **values: Any) -> Job:
    now = clock.db_now()
    job = Job.objects.create(**{
        "task": task, "procedure": task.procedure, "due_at": now - timedelta(seconds=2),
        "start_time": now - timedelta(seconds=1.5), "end_time": now, "state": "failed",
        "trigger": "schedule", **values,
    })  # fmt: skip
    JobLog.objects.create(job=job, n=1, text=f"first {SCRIPT}\n")
    JobLog.objects.create(job=job, n=2, text="second\n")
    return job


def test_jobs_are_read(boss: Client) -> None:
    task = make()
    job = finished_job(task)
    html = text(boss.get(reverse("admin:linod_job_changelist")))
    for name, value in (
        ("about nowrap", f"#{task.pk} f"), ("duration", "1.500 s"), ("lateness", "0.500 s"),
    ):  # fmt: skip
        assert re.search(rf'class="field-{name.split()[0]}[^>]*>{re.escape(value)}<', html), name
    log = text(boss.get(page(job)))
    shown = log[log.index('<pre id="linod-log"') :].partition("</pre>")[0]
    assert bare(shown) == "first &lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt;\nsecond\n"


@pytest.mark.parametrize("name", ["job", "decision", "daemon"])
def test_history_is_not_written(boss: Client, name: str) -> None:
    task = make()
    now = clock.db_now()
    rows = {
        "job": finished_job(task),
        "decision": Decision.objects.record("edited", task),
        "daemon": Daemon.objects.create(
            owner=uuid4(), host="here", pid=1, started_at=now, last_seen_at=now, state="running"
        ),
    }
    assert boss.get(reverse(f"admin:linod_{name}_add")).status_code == 403
    row = rows[name]
    assert 'name="_save"' not in text(boss.get(page(row)))
    assert boss.post(page(row), {}).status_code == 403
    delete = reverse(f"admin:linod_{name}_delete", args=[row.pk])
    assert boss.post(delete, {"post": "yes"}).status_code == 403
    for query in ("", "?q=f", "?state__exact=running", "?procedure=f"):
        response = boss.get(reverse(f"admin:linod_{name}_changelist") + query)
        assert response.status_code in (200, 302)


def test_a_daemon_that_is_silent_is_shown_so(boss: Client) -> None:
    now = clock.db_now()
    for pid, seen, state in ((1, now, "running"), (2, now - timedelta(hours=1), "running"),
                             (3, now - timedelta(hours=1), "stopped")):  # fmt: skip
        Daemon.objects.create(
            owner=uuid4(), host="here", pid=pid, state=state, last_seen_at=seen,
            started_at=now - timedelta(hours=pid),
        )  # fmt: skip
    html = text(boss.get(reverse("admin:linod_daemon_changelist")))
    cells = re.findall(r'class="field-is_there">(.*?)</td>', html)
    assert [bare(cell) for cell in cells] == [
        "running, seen now", "silent, seen 1 hour ago", "stopped, seen 1 hour ago",
    ]  # fmt: skip


def test_moments_are_told_alike_on_every_page(boss: Client) -> None:
    now = clock.db_now()
    owner = uuid4()
    Daemon.objects.create(
        owner=owner, host="here", pid=1, state="running", last_seen_at=now, started_at=now
    )  # fmt: skip
    line = Decision.objects.record("edited", None, who="x", at=now, due_at=now)
    told = moment_text(now)
    for name, key in (("daemon", owner), ("decision", line.pk)):
        for address in (
            reverse(f"admin:linod_{name}_changelist"),
            reverse(f"admin:linod_{name}_change", args=[key]),
        ):
            assert text(boss.get(address)).count(told) >= 2, address


# A database that takes no changes, or is busy

NO_CHANGES = "The database takes no changes now. Try again later."


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("action", ACTIONS)
def test_a_database_that_takes_no_changes_is_told_to_who_acts(boss: Client, action: str) -> None:
    task = fit_for(action)
    number = Decision.objects.count()
    of_task = reverse("admin:linod_backgroundtask_act", args=[task.pk])
    with read_only():
        assert act(boss, action, task) == [NO_CHANGES]
        entered = {"action": action, **ENTERED.get(action, {})}
        response = boss.post(of_task, entered, follow=True)
    assert response.redirect_chain == [(page(task), 302)]
    assert NO_CHANGES in text(response)
    assert Decision.objects.count() == number


@pytest.mark.django_db(transaction=True)
def test_a_database_that_takes_no_changes_is_told_about_a_job(boss: Client) -> None:
    job = finished_job(make())
    Job.objects.update(state="running", end_time=None)
    with read_only():
        for name in ("cancel", "again"):
            url = reverse(f"admin:linod_job_{name}", args=[job.pk])
            response = boss.post(url, follow=True)
            assert response.redirect_chain == [(page(job), 302)]
            assert NO_CHANGES in text(response)


@pytest.mark.django_db(transaction=True)
def test_what_was_entered_stays_where_the_database_takes_no_changes(boss: Client) -> None:
    task = make()
    entered = form(boss, page(task)) | {"name": "gamma"}
    with read_only():
        html = text(boss.post(page(task), entered))
        assert NO_CHANGES in errors(html)
        token = "csrfmiddlewaretoken"
        assert Form(html).values | {token: entered[token]} == entered
        deletion = reverse("admin:linod_backgroundtask_delete", args=[task.pk])
        response = boss.post(deletion, {"post": "yes"}, follow=True)
        assert NO_CHANGES in text(response)
    assert boss.post(page(task), entered).status_code == 302
    task.refresh_from_db()
    assert task.name == "gamma"


def test_a_database_that_is_busy_is_told(boss: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def locked(*args: Any, **kwargs: Any) -> None:
        raise OperationalError("database is locked")

    task = make(disabled=True)
    entered = form(boss, page(task)) | {"name": "gamma"}
    monkeypatch.setattr(BackgroundTask, "enable", locked)
    monkeypatch.setattr(BackgroundTask, "save", locked)
    assert act(boss, "enable", task) == [
        "The database is busy; maybe not all of it was done. Try again."
    ]
    html = text(boss.post(page(task), entered))
    assert "The database is busy; nothing was done. Try again." in errors(html)


def test_a_defect_is_no_excuse(boss: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise ProgrammingError("permission denied")

    task = make(disabled=True)
    entered = form(boss, page(task)) | {"name": "gamma"}
    monkeypatch.setattr(BackgroundTask, "enable", fail)
    monkeypatch.setattr(BackgroundTask, "save", fail)
    with pytest.raises(ProgrammingError):
        act(boss, "enable", task)
    with pytest.raises(ProgrammingError):
        boss.post(page(task), entered)
