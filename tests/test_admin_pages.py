"""The pages of the admin: what they show, what they answer to their scripts, what they cost."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client, override_settings
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from linod import clock, recent
from linod.admin import joblog, lists, preview
from linod.admin.cells import summary
from linod.history import Decision, Job, JobLog
from linod.models import BackgroundTask
from linod.procedures import declare
from linod.recurrence import Recurrence
from tests.daemons import only_these_procedures
from tests.people import person
from tests.test_admin import TASKS, act, bare, make, text

pytestmark = pytest.mark.django_db

JOBS = reverse("admin:linod_job_changelist")


@pytest.fixture(autouse=True)
def _procedures() -> Iterator[None]:
    with only_these_procedures(), override_settings(LINOD={"SITE": "tests", "RUN_DIR": "/nowhere"}):
        BackgroundTask.objects.all().delete()
        declare(lambda: None, "f")
        yield


@pytest.fixture
def boss() -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("boss"))
    return client


NUMBERS = count(1)


def add_job(task: BackgroundTask | None, made: datetime, **values: Any) -> Job:
    """A job made, due and begun at that moment."""
    key, n = recent.first_id(made), next(NUMBERS)
    return Job.objects.create(**{
        "id": type(key)(int=key.int + n), "task": task, "procedure": "f", "due_at": made,
        "start_time": made, "end_time": made + timedelta(seconds=1), "state": "succeeded",
        "trigger": "schedule", **values,
    })  # fmt: skip


def address(name: str, row: Any) -> str:
    return reverse(f"admin:linod_{name}", args=[row.pk])


# The last runs


def test_each_task_has_its_last_runs_in_two_queries() -> None:
    now = clock.db_now()
    many, few, _none = make(), make(), make()
    for n in range(25):
        add_job(many, now - timedelta(minutes=n), state="failed" if n == 0 else "succeeded")
    add_job(few, now)
    add_job(None, now)
    keys = [task.pk for task in BackgroundTask.objects.all()]
    with CaptureQueriesContext(connection) as seen:
        found = recent.last_runs("default", keys)
    assert len(seen) == 2
    assert {task: len(runs) for task, runs in found.items()} == {many.pk: 20, few.pk: 1}
    assert [run.due_at for run in found[many.pk]] == [
        now - timedelta(minutes=n) for n in range(19, -1, -1)
    ]
    assert found[many.pk][-1].state == "failed"


def test_attempts_of_one_instant_are_runs_of_their_own() -> None:
    now = clock.db_now()
    task = make()
    for attempt in range(1, 24):
        add_job(task, now, attempt=attempt)
    (found,) = recent.last_runs("default", [task.pk]).values()
    assert len(found) == 20


def test_ticks_are_told_in_words(boss: Client) -> None:
    now = datetime(2026, 11, 22, 12, tzinfo=UTC)
    task = make()
    add_job(task, now - timedelta(hours=1))
    add_job(task, now, state="failed")
    html = text(boss.get(TASKS))
    assert '<i class="linod-succeeded" title="succeeded, 2026-11-22 12:00:00, 1.000 s"></i>' in html
    label = "Last 2 runs: 1 succeeded, 1 failed; the newest: failed, 2026-11-22 13:00:00, 1.000 s"
    assert f'href="{JOBS}?task={task.pk}" aria-label="{label}"' in html
    assert summary(recent.last_runs("default", [task.pk])[task.pk]) == label


def test_keys_tell_when_jobs_were_made() -> None:
    before = clock.db_now()
    job = Job(procedure="f")
    assert recent.made_at(job.pk) >= before - timedelta(seconds=1)
    assert recent.first_id(before - timedelta(seconds=1)) < job.pk
    assert recent.made_at(recent.first_id(before)) <= before


# What there is to begin with


def test_the_procedures_are_shown_with_what_they_do(boss: Client) -> None:
    declare(lambda: None, "g", every_unit="secondly", every=300, aliases=("former",))
    declare(tidy, every_unit="daily")
    for name in ("f", "g", "former", "gone"):
        make(procedure=name)
    page = text(boss.get(reverse("admin:linod_backgroundtask_procedures")))
    html = page[page.index('<table class="linod-table">') :].partition("</table>")[0]
    rows = [re.findall("<t[dh][^>]*>(.*?)</t[dh]>", row) for row in html.split("<tr>")[1:]]
    assert [[bare(cell) for cell in row] for row in rows] == [
        ["Background procedure", "What it does", "Suggested recurrency", "Background tasks"],
        ["f", "", "every=1, every_unit=never", "1"],
        ["g", "", "every=300, every_unit=secondly", "2"],
        ["tidy", "Put things in their places.", "every=1, every_unit=daily", "0"],
    ]


def tidy() -> None:
    """Put things in their places."""


def test_what_is_disabled_is_told_first(boss: Client) -> None:
    index = reverse("admin:app_list", args=["linod"])
    make()
    assert "disabled" not in text(boss.get(index))
    make(disabled=True)
    html = text(boss.get(index))
    assert f'<a href="{TASKS}?disabled__exact=1">1 background task is disabled</a>: f</li>' in html
    for _number in range(5):
        make(disabled=True)
    html = text(boss.get(index))
    assert "6 background tasks are disabled</a>: f, f, f, f, f, ...</li>" in html
    assert len(boss.get(f"{TASKS}?disabled__exact=1").context["cl"].result_list) == 6


@pytest.mark.parametrize("permission", ["view_job", "view_backgroundtask", "change_backgroundtask"])
def test_who_may_see_no_tasks_is_told_of_none(permission: str) -> None:
    make(disabled=True)
    client = person(permission, is_staff=True)
    index = text(client.get(reverse("admin:app_list", args=["linod"])))
    found = client.get(reverse("admin:linod_backgroundtask_procedures"))
    told = ("is disabled" in index, "procedures/" in index, found.status_code == 200)
    assert told == (3 * (permission != "view_job",))


# What lists cost


def test_lists_cost_the_same_however_long_they_are(boss: Client) -> None:
    now = clock.db_now()

    def queries(url: str) -> int:
        with CaptureQueriesContext(connection) as seen:
            text(boss.get(url))
        return len(seen)

    urls = (TASKS, JOBS, reverse("admin:linod_decision_changelist"))
    task = make()
    add_job(task, now)
    Decision.objects.record("edited", task)
    first = {url: queries(url) for url in urls}
    for _number in range(30):
        task = make()
        Decision.objects.record("edited", task)
        for hour in range(3):
            add_job(task, now - timedelta(hours=hour))
    assert {url: queries(url) for url in urls} == first
    assert max(first.values()) < 12


def test_a_long_history_is_counted_so_far(boss: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lists, "COUNTED", 150)
    now = clock.db_now()
    Job.objects.bulk_create(
        Job(procedure="f", due_at=now, state="succeeded", trigger="enqueue") for _ in range(151)
    )
    html = text(boss.get(f"{JOBS}?p=2"))
    assert "only the newest 150 are counted" in html
    assert html.count('class="field-due') == 50
    Job.objects.filter(pk=Job.objects.order_by("pk")[0].pk).delete()
    assert "are counted" not in text(boss.get(JOBS))


# Days


def test_jobs_are_found_by_the_day_they_were_made(boss: Client) -> None:
    evening = datetime(2026, 11, 21, 22, 59, tzinfo=UTC)  # 23:59 in Brussels
    for hours, host in ((0, "before"), (1, "after"), (24, "after"), (49, "later")):
        add_job(None, evening + timedelta(hours=hours), host=host)
    html = text(boss.get(JOBS))
    days = re.findall(r'<li><a href="\?day=(\d{4}-\d\d-\d\d)">', html)
    assert days == ["2026-11-24", "2026-11-23", "2026-11-22", "2026-11-21"]
    for day, hosts in {
        "2026-11-21": ["before"], "2026-11-22": ["after", "after"], "2026-11-23": [],
        "2026-11-24": ["later"],
    }.items():  # fmt: skip
        html = text(boss.get(f"{JOBS}?day={day}"))
        assert re.findall(r'class="field-host">(\w+)<', html) == hosts, day
        assert "&amp;day=" in html or "?day=" in html


@pytest.mark.parametrize("day", ["x", "2026-13-01", "0001-01-01", "9999-12-31"])
def test_a_day_that_is_none_is_left_out(boss: Client, day: str) -> None:
    assert boss.get(f"{JOBS}?day={day}").status_code == 302


@pytest.mark.parametrize("task", ["x", "-1", "999999999999999999999999", "1;", "12"])
def test_a_task_that_is_none_is_left_out(boss: Client, task: str) -> None:
    assert boss.get(f"{JOBS}?task={task}").status_code in (200, 302)


def test_conditions_choose_tasks(boss: Client) -> None:
    now = clock.db_now()
    running, requested, failing, paused, never = make(), make(), make(), make(), make()
    Job.objects.create(
        task=running, active_task=running.pk, procedure="f", due_at=now, start_time=now,
        state="running", trigger="schedule",
    )  # fmt: skip
    requested.request_run()
    BackgroundTask.objects.filter(pk=failing.pk).update(failures=1)
    paused.disable("x", until=now + timedelta(days=1))
    BackgroundTask.objects.filter(pk=never.pk).update(every_unit="never", next_run_at=None)
    for condition, task in {
        "running": running, "requested": requested, "failing": failing, "paused": paused,
        "unscheduled": never,
    }.items():  # fmt: skip
        response = boss.get(f"{TASKS}?condition={condition}")
        assert [row.pk for row in response.context["cl"].result_list] == [task.pk], condition


# The preview of a rule


def test_a_rule_is_told_with_its_next_runs(boss: Client) -> None:
    url = reverse("admin:linod_backgroundtask_preview")
    rule = {"every_unit": "daily", "every": "1", "start_date": "2099-03-24",
            "start_time": "02:30:00"}  # fmt: skip
    found = boss.get(url, rule).json()
    assert (found["words"], len(found["runs"]), found["errors"]) == ("Every day at 02:30", 10, {})
    assert found["runs"][5]["text"] == "Sun 2099-03-29 03:30 +02:00"
    assert found["runs"][5]["mark"] == "shifted: the clocks leave out 02:30:00"
    ends = boss.get(url, rule | {"max_events": "2"}).json()
    assert (len(ends["runs"]), ends["note"]) == (2, "Then it ends.")
    never = boss.get(url, rule | {"every_unit": "never"}).json()
    assert (never["runs"], never["note"]) == ([], "It runs on request only.")


@pytest.mark.parametrize(
    ("values", "field", "message"),
    [
        ({"every": "0"}, "every", "give a whole number from 1 on"),
        ({"every": "x"}, "every", "Enter a whole number."),
        ({"start_date": "tomorrow"}, "start_date", "Enter a valid date."),
        ({"time_zone": "Europe/Brusels"}, "time_zone", "did you mean"),
        ({"every_unit": "cron", "cron": "61 * * * *"}, "cron", ""),
        ({"every_unit": "fortnightly"}, "every_unit", "Select a valid choice."),
        ({"cron": "x" * 101}, "cron", "at most 100 characters"),
    ],
)
def test_what_is_wrong_with_a_rule_is_told_by_field(
    boss: Client, values: dict[str, str], field: str, message: str
) -> None:
    url = reverse("admin:linod_backgroundtask_preview")
    found = boss.get(url, {"every_unit": "daily", "every": "1"} | values).json()
    assert list(found["errors"]) == [field]
    assert message in found["errors"][field][0]
    assert found["runs"] == []


def test_a_preview_writes_nothing(boss: Client) -> None:
    url = reverse("admin:linod_backgroundtask_preview")
    boss.get(url, {"every_unit": "daily", "every": "1"})
    assert not BackgroundTask.objects.exists()


def marks(rule: Recurrence, now: datetime) -> list[str]:
    return [run.mark for run in preview.of_rule(rule, now).runs]


def test_changes_of_the_clocks_are_marked() -> None:
    night = datetime(2026, 10, 24, 23, 30, tzinfo=UTC)
    half_hourly = Recurrence("minutely", 30, start=night, time_zone="Europe/Brussels")
    assert marks(half_hourly, night)[:6] == [
        "",
        "the clocks show this time twice: this is the first",
        "the clocks show this time twice: this is the first",
        "the clocks show this time twice: this is the second",
        "the clocks show this time twice: this is the second",
        "",
    ]
    hourly = Recurrence("hourly", 6, start=night, time_zone="Europe/Brussels")
    assert marks(hourly, night)[:2] == ["", "the clocks have changed: UTC+02:00 to UTC+01:00"]


def test_the_form_shows_the_preview_without_scripts(boss: Client) -> None:
    task = make(every_unit="hourly", every=3)
    shown = bare(text(boss.get(address("backgroundtask_change", task))))
    assert "Every 3 hours" in shown
    broken = make()
    BackgroundTask.objects.filter(pk=broken.pk).update(every=0)
    assert "give a whole number" in text(boss.get(address("backgroundtask_change", broken)))
    assert "give a whole number" in text(boss.get(TASKS))


# Actions with a second look


def test_disabling_asks_for_a_reason(boss: Client) -> None:
    one, two = make(name="one"), make(name="two")
    chosen = {"action": "disable", "_selected_action": [one.pk, two.pk]}
    html = text(boss.post(TASKS, chosen))
    assert "This is about 2 background tasks" in html
    assert not BackgroundTask.objects.filter(disabled=True).exists()
    said = act(boss, "disable", one, two, reason="the host moves")
    assert said == ["2 tasks were disabled."]
    kept = BackgroundTask.objects.values_list("disabled_reason", flat=True)
    assert list(kept) == ["the host moves"] * 2


def test_all_that_match_can_be_chosen(boss: Client) -> None:
    for _number in range(120):
        make()
    make(name="other")
    url = f"{TASKS}?q=f"
    first = BackgroundTask.objects.first()
    assert first is not None
    chosen = {"action": "disable", "select_across": "1", "index": "0",
              "_selected_action": first.pk}  # fmt: skip
    html = text(boss.post(url, chosen))
    assert "This is about 121 background tasks" in html
    assert "and 101 more" in html
    hidden = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', html))
    assert hidden["select_across"] == "1"
    boss.post(url, hidden | {"reason": ""})
    assert BackgroundTask.objects.filter(disabled=True).count() == 121


def test_running_many_tasks_wants_a_second_look(boss: Client) -> None:
    tasks = [make() for _number in range(11)]
    chosen = {"action": "run_now", "_selected_action": [task.pk for task in tasks]}
    assert "This is about 11 background tasks" in text(boss.post(TASKS, chosen))
    assert act(boss, "run_now", *tasks[:10]) == ["10 tasks are requested to run."]
    assert act(boss, "run_now", *tasks, confirmed="1") == [
        "1 task is requested to run.", "10 tasks were requested a moment ago; wait five seconds.",
    ]  # fmt: skip


def test_pausing_wants_a_moment_to_come(boss: Client) -> None:
    task = make()
    for day, message in (("", "This field is required."), ("2020-01-01", "This moment is over.")):
        chosen = {"action": "pause_until", "_selected_action": task.pk, "confirmed": "1"}
        html = text(boss.post(TASKS, chosen | {"until_0": day, "until_1": day and "12:00"}))
        assert message in html
    assert act(boss, "pause_until", task) == ["1 task is paused."]
    task.refresh_from_db()
    assert task.disabled_until == datetime(2099, 1, 1, 11, tzinfo=UTC)


def test_a_page_has_the_buttons_that_fit(boss: Client) -> None:
    def buttons(task: BackgroundTask) -> list[str]:
        html = text(boss.get(address("backgroundtask_change", task)))
        return re.findall(r'<button name="action" value="(\w+)">', html)

    task = make()
    assert buttons(task) == ["run_now", "disable", "pause_until", "duplicate"]
    task.request_run()
    task.disable("x")
    assert buttons(task) == ["cancel_request", "enable", "duplicate"]


# A job's page and what it answers


@pytest.fixture
def job() -> Job:
    found = add_job(make(), clock.db_now(), state="running", end_time=None)
    found.progress = {"done": 3, "total": 10, "text": "letters"}
    found.save()
    JobLog.objects.create(job=found, n=4, text="2026-11-22 05:00:00 INFO one\n")
    JobLog.objects.create(job=found, n=7, text="2026-11-22 05:00:01 ERROR two\n  more\n")
    return found


def live(boss: Client, job: Job, after: object = 0) -> dict[str, Any]:
    found: dict[str, Any] = boss.get(address("job_live", job), {"after": after}).json()
    return found


def test_a_job_s_page_listens_where_its_user_may(boss: Client, job: Job) -> None:
    def address_of(client: Client) -> str:
        html = text(client.get(address("job_change", job)))
        (found,) = re.findall('data-websocket="([^"]*)"', html)
        return str(found)

    user = User.objects.create_user("ben", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename="view_job"))
    viewer = Client()
    viewer.force_login(user)
    assert address_of(boss) == ""
    with override_settings(LINOD={"SITE": "tests", "RUN_DIR": "/nowhere", "USE_CHANNELS": True}):
        assert address_of(boss) == "/WS/"
        # The websocket tells of tasks, too, so it would refuse him.
        assert address_of(viewer) == ""


def test_a_job_tells_what_is_new(boss: Client, job: Job) -> None:
    found = live(boss, job)
    assert found["lines"] == [
        ["info", "2026-11-22 05:00:00 INFO one"], ["error", "2026-11-22 05:00:01 ERROR two"],
        ["error", "  more"],
    ]  # fmt: skip
    assert (found["last"], found["more"], found["open"], found["text"]) == (
        7,
        False,
        True,
        "running",
    )
    label = "3 / 10 letters"
    assert found["progress"] == {"done": 3, "total": 10, "text": "letters", "label": label}
    assert live(boss, job, 4)["lines"] == found["lines"][1:]
    assert live(boss, job, 7)["lines"] == []
    assert live(boss, job, 7)["last"] == 7
    for nonsense in ("x", "-1", "9" * 30, ""):
        assert len(live(boss, job, nonsense)["lines"]) == 3
    Job.objects.filter(pk=job.pk).update(state="failed", error="boom")
    found = live(boss, job, 7)
    assert (found["open"], found["error"]) == (False, "boom")


def test_a_long_log_comes_in_parts(boss: Client, job: Job) -> None:
    line = "2026-11-22 05:00:02 INFO " + "x" * 1000 + "\n"
    for n in range(8, 608):
        JobLog.objects.create(job=job, n=n, text=line)
    after, lines, answers = 7, 0, 0
    while True:
        found = live(boss, job, after)
        lines, after, answers = lines + len(found["lines"]), found["last"], answers + 1
        if not found["more"]:
            break
    assert (lines, after) == (600, 607)
    assert 3 <= answers < 8
    html = text(boss.get(address("job_change", job)))
    assert "This is the end of a long log." in html
    assert html.count('<span class="linod-info">') < 200
    whole = b"".join(boss.get(address("job_log", job)).streaming_content).decode()
    assert whole == job.message
    assert len(whole) > 600_000


def test_a_log_is_a_download(boss: Client, job: Job) -> None:
    response = boss.get(address("job_log", job))
    assert response["Content-Type"] == "text/plain; charset=utf-8"
    assert response["Content-Disposition"] == f'attachment; filename="job-{job.pk}.log"'
    assert response["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("", []),
        ("x\n", ["x"]),
        ("x", ["x"]),
        ("\n", [""]),
        ("x\n\ny\n", ["x", "", "y"]),
        ("a\rb\x0bc\u2028d\n", ["a\rb\x0bc\u2028d"]),
    ],
)
def test_lines_are_those_that_end_with_a_newline(source: str, found: list[str]) -> None:
    assert [line.text for line in joblog.lines(source)] == found


def test_a_job_is_cancelled_and_run_again(boss: Client, job: Job) -> None:
    def said(response: Any) -> list[str]:
        return [str(message) for message in response.context["messages"]]

    def do(name: str) -> list[str]:
        return said(boss.post(address(f"job_{name}", job), follow=True))

    assert "Cancel" in text(boss.get(address("job_change", job)))
    assert do("cancel") == ["The job is asked to stop."]
    assert live(boss, job)["text"] == "running, asked to stop"
    assert 'id="linod-cancel"' not in text(boss.get(address("job_change", job)))
    Job.objects.filter(pk=job.pk).update(state="cancelled")
    assert do("cancel") == ["The job has ended already."]
    assert do("again") == ["The task is requested to run."]
    assert do("again") == ["The task was requested a moment ago; wait five seconds."]
    Job.objects.filter(pk=job.pk).update(task=None)
    assert do("again") == ["Its background task is gone."]
    who = Decision.objects.order_by("id").values_list("kind", "who")
    assert list(who) == [("cancelled", "boss"), ("requested", "boss")]


def test_a_job_that_waits_is_cancelled_at_once(boss: Client, job: Job) -> None:
    Job.objects.filter(pk=job.pk).update(state="waiting", start_time=None)
    response = boss.post(address("job_cancel", job), follow=True)
    assert [str(m) for m in response.context["messages"]] == ["The job was cancelled."]
    job.refresh_from_db()
    assert job.state == "cancelled"


@pytest.mark.parametrize("progress", [None, {}, [], "x", {"done": "x"}, {"done": 1, "total": 0}])
def test_progress_that_makes_no_sense_harms_nobody(boss: Client, job: Job, progress: Any) -> None:
    Job.objects.filter(pk=job.pk).update(progress=progress)
    text(boss.get(address("job_change", job)))
    live(boss, job)


def test_pages_of_what_is_gone_say_so(boss: Client, job: Job) -> None:
    urls: list[tuple[Callable[..., Any], str]] = [
        (boss.get, address(f"job_{name}", job)) for name in ("live", "log")
    ]
    urls += [(boss.post, address(f"job_{name}", job)) for name in ("cancel", "again")]
    urls += [(boss.get, reverse("admin:linod_backgroundtask_why", args=[99]))]
    urls += [(boss.get, reverse("admin:linod_backgroundtask_why", args=["x"]))]
    urls += [(boss.post, reverse("admin:linod_backgroundtask_act", args=[99]))]
    job.delete()
    for request, url in urls:
        assert request(url).status_code == 404, url


def test_the_ledger_of_a_task_is_shown(boss: Client) -> None:
    task, other = make(), make()
    Decision.objects.record("edited", task, reason="every", who="luc")
    Decision.objects.record("edited", other, reason="arguments", who="luc")
    html = text(boss.get(address("backgroundtask_why", task)))
    assert "<td>Repeat every</td>" in html
    assert "<td>arguments</td>" not in html
    for date in ("x", "0001-01-01", "9999-12-31"):
        asked = boss.get(address("backgroundtask_why", task), {"at_0": date, "at_1": "00:00"})
        assert "Enter a valid date." in text(asked)


def test_the_ledger_answers_why(boss: Client) -> None:
    task = make()
    task.disable("the host moves", user="luc")
    url = address("backgroundtask_why", task)
    assert "the task is disabled by luc: the host moves" in bare(text(boss.get(url)))
    asked = boss.get(url, {"at_0": "2020-01-01", "at_1": "12:00"})
    assert "nothing was due" in bare(text(asked))


@pytest.mark.parametrize(
    ("asked", "due_at", "note"),
    [
        (
            ("2026-03-29", "02:30"),
            datetime(2026, 3, 29, 1, 30, tzinfo=UTC),
            "a clock change leaves out 2026-03-29 02:30:00: this is about 2026-03-29 03:30:00",
        ),
        (
            ("2026-10-25", "02:30"),
            datetime(2026, 10, 25, 0, 30, tzinfo=UTC),
            "a clock change shows 2026-10-25 02:30:00 twice:"
            " this is about the first, not 2026-10-25T02:30:00+01:00",
        ),
    ],
)
def test_why_at_a_time_of_a_clock_change_is_answered_as_by_the_command(
    boss: Client, asked: tuple[str, str], due_at: datetime, note: str
) -> None:
    task = make()
    add_job(task, due_at)
    url = address("backgroundtask_why", task)
    page = boss.get(url, dict(zip(("at_0", "at_1"), asked, strict=True)))
    assert note in bare(text(page))
    assert page.context["answers"][0]["headline"].startswith("succeeded")
    assert "a clock change" not in text(boss.get(url, {"at_0": "2026-10-25", "at_1": "04:30"}))
