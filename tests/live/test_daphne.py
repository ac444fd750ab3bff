"""A daemon, Redis, Daphne and a page: what happens arrives, and only who may see it does."""

from __future__ import annotations

import json
import os
import threading
import urllib.request
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from asgiref.sync import async_to_sync
from channels.layers import channel_layers
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import override_settings

from linod.conf import config
from linod.consumers import accompany
from linod.events import Event
from linod.history import Decision, Job, JobLog
from linod.lookout import Lookout
from tests.daemons import DaemonThread, ended_jobs, make_task, only_these_procedures
from tests.live.server import Daphne, log_in, serving
from tests.live.websocket import WebSocket
from tests.waiting import DEADLINE, wait_until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _registry() -> Iterator[None]:
    with only_these_procedures():
        yield


@pytest.fixture(scope="module")
def server(redis_url: str, django_db_setup: None) -> Iterator[Daphne]:
    # Other runs of the tests may use the same Redis: their daemons must not take our messages.
    site = f"test_{uuid4().hex}"
    env = os.environ | {
        "LINOD_TEST_DB_NAME": str(connection.settings_dict["NAME"]),
        "LINOD_TEST_SITE": site,
        "LINOD_TEST_REDIS": redis_url,
    }
    layer = {"BACKEND": "channels_redis.core.RedisChannelLayer", "CONFIG": {"hosts": [redis_url]}}
    with (
        override_settings(
            LINOD={"SITE": site, "USE_CHANNELS": True}, CHANNEL_LAYERS={"default": layer}
        ),
        serving(env) as server,
    ):
        yield server


@pytest.fixture
def daemon(server: Daphne) -> Iterator[DaemonThread]:
    thread = DaemonThread(companions=[accompany]).start()
    yield thread
    assert thread.stop() == 0


@pytest.fixture
def page(server: Daphne, daemon: DaemonThread) -> Iterator[WebSocket]:
    page = open_page(server, User.objects.create_superuser("ann"))
    assert page.status == 101
    assert page.until("hello")["logs"] is True
    page.until("live", live=True)
    yield page
    page.close()


def open_page(server: Daphne, user: User | None, **options: Any) -> WebSocket:
    cookie = "" if user is None else log_in(user)
    return WebSocket(server.port, cookie=cookie, **options)


def test_a_run_arrives_as_it_happens(page: WebSocket) -> None:
    go = [threading.Event() for _ in range(2)]

    def greet(ar: Any) -> None:
        ar.info("hello")
        go[0].wait(DEADLINE)
        ar.progress(1, 2, "half")
        go[1].wait(DEADLINE)
        ar.info("bye")

    task = make_task(greet)
    task.request_run(User.objects.get())
    started = page.until("job", task=task.pk, state="running")["job"]
    assert started["name"] == "greet"
    assert started["trigger"] == "request"
    page.until("task", id=task.pk, status="running", running=started["id"])
    go[0].set()
    progress = page.until("progress", job=started["id"])["progress"]
    assert progress == {"done": 1, "total": 2, "text": "half"}
    go[1].set()
    ended = page.until("job", id=started["id"], state="succeeded")["job"]
    assert ended["end_time"] > ended["start_time"] >= started["due_at"]
    (job,) = ended_jobs()
    assert str(job.pk) == ended["id"]
    assert JobLog.objects.filter(job=job).exists()


def test_a_log_arrives_piece_by_piece_as_it_is_stored(page: WebSocket) -> None:
    go = [threading.Event() for _ in range(2)]

    def talk(ar: Any) -> None:
        go[0].wait(DEADLINE)
        ar.info("one")
        ar.info("two <b>")
        go[1].wait(DEADLINE)
        ar.info("three")

    make_task(talk).request_run()
    job = page.until("job", state="running")["job"]["id"]
    page.send({"subscribe": {"job": job}})
    page.until("subscribed")
    wait_until(JobLog.objects.exists, "the first line is stored")
    go[0].set()
    first = page.until("log", job=job)
    while not first["lines"][-1].endswith("INFO two <b>"):
        first = page.until("log", job=job)
    go[1].set()
    second = page.until("log", job=job)
    assert second["lines"][0].endswith("INFO three")
    assert first["n"] < second["n"]
    ended_jobs()
    stored = JobLog.objects.filter(job=job, n__in=[first["n"], second["n"]]).order_by("n")
    told = ["\n".join(each["lines"]) + "\n" for each in (first, second)]
    assert list(stored.values_list("text", flat=True)) == told


def test_a_page_that_comes_late_has_the_whole_log(page: WebSocket, server: Daphne) -> None:
    """What a job's page does: subscribe, ask for what was said before, add what is told."""
    go = [threading.Event() for _ in range(4)]

    def talk(ar: Any) -> None:
        ar.info("before")
        for number in (0, 2):
            go[number].wait(10)
            ar.progress(number, 4)
            go[number + 1].wait(10)
            ar.info("line %d", number)

    make_task(talk).request_run()
    job = page.until("job", state="running")["job"]["id"]
    wait_until(JobLog.objects.exists, "the first line is stored")
    page.send({"subscribe": {"job": job}})
    page.until("subscribed")
    before = read_job(server, job)
    lines, last = [line for _level, line in before["lines"]], before["last"]
    for number in (0, 2):
        go[number].set()
        page.until("progress", job=job, progress={"done": number, "total": 4, "text": ""})
        go[number + 1].set()
        event = page.until("log", job=job)
        # No number is left out, so a page sees that it lacks nothing.
        assert event["n"] == last + 1
        lines, last = lines + event["lines"], event["n"]
    (ended,) = ended_jobs()
    assert ended.message == "".join(f"{line}\n" for line in lines)
    assert (found := read_job(server, job, last))["open"] is False
    assert found["lines"] == []


def read_job(server: Daphne, job: str, after: int = 0) -> dict[str, Any]:
    """What the job's page gets when it asks."""
    address = f"http://127.0.0.1:{server.port}/admin/linod/job/{job}/live/?after={after}"
    cookie = {"Cookie": log_in(User.objects.get())}
    with urllib.request.urlopen(urllib.request.Request(address, headers=cookie)) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


def test_a_failure_and_what_follows_from_it(page: WebSocket) -> None:
    def fail(ar: Any) -> None:
        raise ValueError("no such page")

    task = make_task(fail, max_attempts=2, retry_delay=0.01)
    task.request_run()
    page.until("job", task=task.pk, attempt=1, state="failed", error="ValueError: no such page")
    page.until("job", task=task.pk, attempt=2, state="failed")
    event = page.until("task", id=task.pk, disabled=True)
    assert "no such page" in event["task"]["disabled_reason"]


def test_what_people_change_elsewhere(page: WebSocket) -> None:
    task = make_task(lambda: None, "nothing")
    page.until("resync")  # a row more is nothing that events can tell
    task.disable("for now")
    page.until("task", id=task.pk, status="disabled", disabled_reason="for now")
    task.delete()
    page.until("resync")


def test_what_changes_as_a_daemon_comes_up_is_not_missed(
    server: Daphne, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_made, read = threading.Event(), Lookout._read

    def read_slowly(lookout: Lookout, changed: set[int]) -> list[Event]:
        is_made.wait(1)
        return read(lookout, changed)

    monkeypatch.setattr(Lookout, "_read", read_slowly)
    page = open_page(server, User.objects.create_superuser("ann"))
    page.until("hello")
    thread = DaemonThread(companions=[accompany]).start()
    try:
        # The page loads its rows now.
        page.until("live", live=True)
        make_task(lambda: None, "nothing")
        is_made.set()
        page.until("resync")
    finally:
        page.close()
        assert thread.stop() == 0


def test_a_daemon_shows_itself(page: WebSocket, daemon: DaemonThread) -> None:
    told = page.until("daemon")["daemon"]
    assert daemon.daemon is not None
    assert told["owner"] == daemon.daemon.owner.hex
    assert told["slots"] == 10
    assert 0 <= told["lag"] < 5


def test_commands_by_the_channel(page: WebSocket, server: Daphne) -> None:
    def wait(ar: Any) -> None:
        pause = threading.Event()
        while True:
            ar.check_cancelled()
            pause.wait(0.01)

    user = User.objects.get()
    task = make_task(wait)
    command({"type": "nonsense"})
    command({"type": "run.task", "task": "no such procedure"})
    command({"type": "run.task", "task": "wait", "user": user.pk})
    job = page.until("job", task=task.pk, state="running")["job"]["id"]
    assert Job.objects.get(pk=job).requested_by == user
    command({"type": "cancel.job", "job": job, "user": user.pk})
    page.until("job", id=job, state="cancelled")
    kinds = Decision.objects.filter(who="ann").values_list("kind", flat=True)
    assert set(kinds) >= {"requested", "cancelled"}


def command(message: dict[str, Any]) -> None:
    async def send() -> None:
        layer = channel_layers.make_backend("default")
        await layer.send(f"linod_{config().SITE}", message)
        await layer.close_pools()

    async_to_sync(send)()


@pytest.mark.parametrize("missing", ["view_job", "view_backgroundtask"])
def test_whoever_may_not_see_jobs_gets_nothing(server: Daphne, missing: str) -> None:
    user = User.objects.create_user("ben", is_staff=True)
    known = Permission.objects.filter(content_type__app_label="linod")
    user.user_permissions.set(known.exclude(codename=missing))
    assert open_page(server, user).status == 403


def test_a_page_of_another_site_gets_nothing(server: Daphne) -> None:
    user = User.objects.create_superuser("ann")
    assert open_page(server, user, origin="http://evil.example").status == 403
    assert open_page(server, user, origin=None).status == 403


def test_only_who_may_read_logs_gets_them(server: Daphne, daemon: DaemonThread) -> None:
    user = User.objects.create_user("ben")
    rights = ["view_backgroundtask", "view_job"]
    user.user_permissions.set(Permission.objects.filter(codename__in=rights))
    page = open_page(server, user)
    assert page.until("hello")["logs"] is False
    page.until("live", live=True)
    go = threading.Event()

    def fail(ar: Any) -> None:
        go.wait(DEADLINE)
        ar.info("the canary sings")
        raise ValueError("canary")

    make_task(fail).request_run()
    job = page.until("job", state="running")["job"]["id"]
    page.send({"subscribe": {"job": job}})
    go.set()
    seen = [page.until("job", id=job, state="failed"), page.until("task", disabled=True)]
    with pytest.raises(TimeoutError):
        page.until("log", timeout=2)
    assert "canary" not in str(seen)
    page.close()
