"""Who may do what: each operation of the admin, the live page and their JSON, for every user."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from itertools import combinations
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client, override_settings
from django.urls import reverse

from linod import clock
from linod.history import Decision, Job, JobLog
from linod.models import BackgroundTask
from linod.procedures import declare
from tests.daemons import only_these_procedures
from tests.people import ACTIONS
from tests.test_admin import ENTERED, TASKS

pytestmark = pytest.mark.django_db

NAMES = (
    "view_backgroundtask",
    "change_backgroundtask",
    "run_backgroundtask",
    "cancel_backgroundtask",
    "view_job",
    "view_log",
)
ROLES = [frozenset(c) for number in range(len(NAMES) + 1) for c in combinations(NAMES, number)]
SECRET = "canary-5e1f"

Held = frozenset[str]


@dataclass(frozen=True)
class Rule:
    """Who may do something, and how one sees in the answer that it was done."""

    may: Callable[[Held], bool]
    done: Callable[[Any], bool]


@dataclass(frozen=True)
class Operation:
    """A request, and what it does for whom: one thing, or more of it for some."""

    name: str
    request: Callable[[Client, BackgroundTask, Job], Any]
    rules: tuple[Rule, ...]

    @property
    def changes(self) -> bool:
        """Whether it is told in the ledger."""
        return self.rules[0].done is is_in_ledger

    def __str__(self) -> str:
        return self.name


def sees_tasks(held: Held) -> bool:
    return not held.isdisjoint({"view_backgroundtask", "change_backgroundtask"})


def was_answered(response: Any) -> bool:
    return bool(response.status_code == 200)


def is_in_ledger(response: Any) -> bool:
    return Decision.objects.filter(who="robin").exists()


def action_operations() -> Iterator[Operation]:
    for action, needed in ACTIONS.items():

        def may(held: Held, needed: str = needed) -> bool:
            return sees_tasks(held) and needed in held

        entered = {"action": action, **ENTERED.get(action, {})}

        def in_list(
            client: Client, task: BackgroundTask, job: Job, entered: dict[str, str] = entered
        ) -> Any:
            return client.post(TASKS, entered | {"_selected_action": str(task.pk)})

        def on_page(
            client: Client, task: BackgroundTask, job: Job, entered: dict[str, str] = entered
        ) -> Any:
            return client.post(address("backgroundtask_act", task), entered)

        rules = (Rule(may, is_in_ledger),)
        yield Operation(f"{action}-in-list", in_list, rules)
        yield Operation(f"{action}-on-page", on_page, rules)


def address(name: str, row: Any) -> str:
    return reverse(f"admin:linod_{name}", args=[row.pk])


def gets(name: str, row: str = "") -> Callable[[Client, BackgroundTask, Job], Any]:
    def request(client: Client, task: BackgroundTask, job: Job) -> Any:
        rows = {"task": task, "job": job}
        url = address(name, rows[row]) if row else reverse(f"admin:linod_{name}")
        return client.get(url)

    return request


def posts(name: str) -> Callable[[Client, BackgroundTask, Job], Any]:
    return lambda client, task, job: client.post(address(name, job))


def shows_log(response: Any) -> bool:
    content = response.getvalue() if response.streaming else response.content
    return b"a line of the log" in content


SEES_TASKS = Rule(sees_tasks, was_answered)
READS_LOGS_OF_TASKS = Rule(lambda held: sees_tasks(held) and "view_log" in held, shows_log)
SEES_JOBS = Rule(lambda held: "view_job" in held, was_answered)
READS_LOGS = Rule(lambda held: held >= {"view_job", "view_log"}, shows_log)

OPERATIONS = [
    *action_operations(),
    Operation("tasks", gets("backgroundtask_changelist"), (SEES_TASKS,)),
    Operation("task", gets("backgroundtask_change", "task"), (SEES_TASKS, READS_LOGS_OF_TASKS)),
    Operation("preview", gets("backgroundtask_preview"), (SEES_TASKS,)),
    Operation(
        "why", gets("backgroundtask_why", "task"), (Rule(READS_LOGS_OF_TASKS.may, was_answered),)
    ),
    Operation("jobs", gets("job_changelist"), (SEES_JOBS,)),
    Operation("job", gets("job_change", "job"), (SEES_JOBS, READS_LOGS)),
    Operation("live", gets("job_live", "job"), (SEES_JOBS, READS_LOGS)),
    Operation("log", gets("job_log", "job"), (READS_LOGS,)),
    *(
        Operation(
            name,
            posts(f"job_{name}"),
            (Rule(frozenset({"view_job", f"{needed}_backgroundtask"}).__le__, is_in_ledger),),
        )
        for name, needed in (("cancel", "cancel"), ("again", "run"))
    ),
]

# The live page, by itself and inside the admin, as a page and for its script

SEES_LIVE = frozenset({"view_backgroundtask", "view_job"})
LIVE_ACTIONS = {
    "run": "run_backgroundtask",
    "cancel": "cancel_backgroundtask",
    "enable": "change_backgroundtask",
    "disable": "change_backgroundtask",
}


def live_operations(namespace: str) -> Iterator[Operation]:
    def operation(name: str, *rules: Rule, how: str = "get", **given: str) -> Operation:
        view, _dash, action = name.partition("-")

        def request(client: Client, task: BackgroundTask, job: Job) -> Any:
            args = {"act": [task.pk, action], "cancel_job": [job.pk], "icon": [1]}
            url = reverse(f"{namespace}:{view}", args=args.get(view, []))
            return getattr(client, how)(url, **({"headers": given} if given else {}))

        return Operation(f"{namespace}:{name}{len(given) * '-json'}", request, rules)

    sees = Rule(SEES_LIVE.__le__, was_answered)
    reads = Rule((SEES_LIVE | {"view_log"}).__le__, shows_error)
    for page in ("live", "state"):
        yield operation(page, sees, reads)
    yield operation("icon", sees)
    for accept in ({}, {"accept": "application/json"}):
        for action, needed in LIVE_ACTIONS.items():
            does = Rule((SEES_LIVE | {needed}).__le__, is_in_ledger)
            yield operation(f"act-{action}", does, how="post", **accept)
        does = Rule((SEES_LIVE | {"cancel_backgroundtask"}).__le__, is_in_ledger)
        yield operation("cancel_job", does, how="post", **accept)


def shows_error(response: Any) -> bool:
    return b"an error of yore" in response.content


INSIDE = [*live_operations("admin:linod")]
LIVE_OPERATIONS = [*live_operations("linod"), *INSIDE]


@pytest.fixture(autouse=True)
def _procedures() -> Iterator[None]:
    with only_these_procedures(), override_settings(LINOD={"SITE": "tests", "RUN_DIR": "/nowhere"}):
        BackgroundTask.objects.all().delete()
        declare(lambda ar: None, "f")
        yield


def rows(operation: Operation) -> tuple[BackgroundTask, Job]:
    """Three tasks, and of the one in the middle a job that runs; nothing in the ledger yet."""
    for model in (Decision, JobLog, Job, BackgroundTask):
        model.objects.all().delete()
    now = clock.db_now()
    first, task, _last = (
        BackgroundTask.objects.create(procedure="f", every_unit="daily", seqno=n) for n in range(3)
    )
    if "enable" in operation.name:
        task.disable("by a test")
    if "cancel_request" in operation.name or "act-cancel" in operation.name:
        task.request_run()
    BackgroundTask.objects.filter(pk=task.pk).update(
        message="a line of the log", arguments={"password": SECRET, "days": 7}
    )
    job = Job.objects.create(
        task=task, procedure="f", due_at=now, start_time=now, trigger="schedule", state="running",
        error="a line of the log", arguments={"password": SECRET, "inner": [{"api_key": SECRET}]},
        result={"token": SECRET},
    )  # fmt: skip
    JobLog.objects.create(job=job, n=1, text="a line of the log\n")
    Job.objects.create(
        task=first, procedure="f", due_at=now, start_time=now, end_time=now, trigger="schedule",
        state="failed", error="an error of yore",
    )  # fmt: skip
    Decision.objects.all().delete()
    return task, job


def enter(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


@pytest.mark.parametrize("operation", [*OPERATIONS, *LIVE_OPERATIONS], ids=str)
def test_each_set_of_permissions(operation: Operation) -> None:
    user = User.objects.create_user("robin", is_staff=True)
    known = Permission.objects.filter(content_type__app_label="linod")
    found = {permission.codename: permission for permission in known}
    wrong = []
    # Permissions are read anew in each request.
    client = enter(user)
    task, job = rows(operation)
    for held in ROLES:
        user.user_permissions.set([found[name] for name in held])
        response = operation.request(client, task, job)
        done = [rule.done(response) for rule in operation.rules]
        if done != [rule.may(held) for rule in operation.rules]:
            wrong.append((sorted(held), response.status_code, done))
        if done[0] and operation.changes:
            task, job = rows(operation)
    assert wrong == []
    assert len(ROLES) == 2 ** len(NAMES)


@pytest.mark.parametrize("operation", [*OPERATIONS, *INSIDE], ids=str)
def test_strangers_may_nothing(operation: Operation) -> None:
    everything = Permission.objects.filter(content_type__app_label="linod")
    outsider = User.objects.create_user("robin")
    outsider.user_permissions.set(everything)
    for client in (Client(), enter(outsider)):
        task, job = rows(operation)
        response = operation.request(client, task, job)
        assert response.status_code == 302
        assert "/login/" in response.url
        assert not is_in_ledger(response)


@pytest.mark.parametrize("operation", [*OPERATIONS, *LIVE_OPERATIONS], ids=str)
def test_nothing_is_done_without_a_token(operation: Operation) -> None:
    if not operation.changes:
        return
    client = Client(enforce_csrf_checks=True)
    client.force_login(User.objects.create_superuser("robin"))
    response = operation.request(client, *rows(operation))
    assert response.status_code == 403
    assert not is_in_ledger(response)


@pytest.mark.parametrize("name", ["job_cancel", "job_again", "backgroundtask_act"])
def test_nothing_is_done_by_looking(name: str) -> None:
    client = enter(User.objects.create_superuser("robin"))
    task, job = rows(OPERATIONS[0])
    url = address(name, task if name == "backgroundtask_act" else job)
    assert client.get(url, {"action": "run_now"}).status_code in (403, 405)
    assert not is_in_ledger(None)


def test_secrets_are_masked() -> None:
    boss = enter(User.objects.create_superuser("boss"))
    viewer_user = User.objects.create_user("robin", is_staff=True)
    viewer_user.user_permissions.set(
        Permission.objects.filter(content_type__app_label="linod", codename__startswith="view_")
    )
    viewer = enter(viewer_user)
    task, job = rows(OPERATIONS[0])
    names = ("backgroundtask", "job", "decision", "daemon")
    lists = [reverse(f"admin:linod_{name}_changelist") for name in names]
    of_job = [address(f"job_{name}", job) for name in ("change", "live", "log")]
    of_task = [address(f"backgroundtask_{name}", task) for name in ("change", "why")]
    for client, urls in ((boss, [*lists, *of_job, of_task[1]]), (viewer, lists + of_job + of_task)):
        for url in urls:
            response = client.get(url)
            assert response.status_code == 200, url
            content = response.getvalue() if response.streaming else response.content
            assert SECRET.encode() not in content, url
    # Whoever may change the arguments has to see them.
    assert SECRET.encode() in boss.get(of_task[0]).content


def test_reasons_are_for_those_who_read_logs() -> None:
    task, _job = rows(OPERATIONS[0])
    task.disable("a line of the log")
    user = User.objects.create_user("robin", is_staff=True)
    user.user_permissions.set(
        Permission.objects.filter(codename__in=["view_decision", "change_backgroundtask"])
    )
    decision = Decision.objects.get()
    urls = [
        reverse("admin:linod_decision_changelist"),
        address("decision_change", decision),
        TASKS,
        address("backgroundtask_change", task),
    ]
    for url in urls:
        assert not shows_log(enter(user).get(url)), url
    # Nor can it be guessed letter by letter.
    found = enter(user).get(urls[0], {"q": "a line"})
    assert found.context["cl"].result_count == 0


def test_asking_twice_is_asking_once() -> None:
    boss = enter(User.objects.create_superuser("boss"))
    task, job = rows(OPERATIONS[0])
    run = {"action": "run_now", "_selected_action": str(task.pk)}
    for _number in range(3):
        boss.post(TASKS, run)
        boss.post(address("backgroundtask_act", task), {"action": "run_now"})
        boss.post(address("job_again", job))
        # As if a daemon had claimed it at once.
        BackgroundTask.objects.filter(pk=task.pk).update(requested_at=None)
    assert Decision.objects.filter(kind="requested").count() == 1
    Decision.objects.update(at=clock.db_now() - timedelta(seconds=6))
    boss.post(TASKS, run)
    assert Decision.objects.filter(kind="requested").count() == 2
