"""What the daemon tells systemd: heard at a real unix socket, as systemd hears it."""

from __future__ import annotations

import json
import os
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from linod import agenda
from linod.history import Job
from linod.models import BackgroundTask
from linod.notify import INTERVAL, Notifier
from tests.daemons import empty_site, make_task, running_daemon
from tests.test_command import LIMIT, ROOT, Lines, started
from tests.waiting import DEADLINE, wait_until

#: Seconds of silence after which the manager of these tests would act.
WATCHDOG = 0.4
#: Seconds of silence that prove a silence.
SILENCE = 4 * WATCHDOG


class Manager:
    """The part of systemd that listens; ``address`` as it stands in NOTIFY_SOCKET."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.ear = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.ear.bind("\0" + address[1:] if address.startswith("@") else address)

    @property
    def environment(self) -> dict[str, str]:
        """What systemd sets for a service with a watchdog."""
        return {"NOTIFY_SOCKET": self.address, "WATCHDOG_USEC": str(int(WATCHDOG * 1e6))}

    def hear(self, seconds: float = DEADLINE) -> dict[str, str]:
        """The next message; TimeoutError when none comes."""
        self.ear.settimeout(seconds)
        lines = self.ear.recv(4096).decode().split("\n")
        return dict(line.split("=", 1) for line in lines)

    def hear_until(self, name: str, value: str) -> list[dict[str, str]]:
        """All messages up to the one that says so."""
        heard = [self.hear()]
        while heard[-1].get(name) != value:
            heard.append(self.hear())
        return heard

    def hear_silence(self) -> None:
        """Silence, after what was under way has come."""
        deadline = time.monotonic() + DEADLINE
        with suppress(TimeoutError):
            while self.hear(SILENCE):
                assert time.monotonic() < deadline, "it does not fall silent"


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest) -> Iterator[Manager]:
    # Not pytest's tmp_path: a socket's path must be short.
    with tempfile.TemporaryDirectory(prefix="linod") as folder:
        place = f"{folder}/notify.sock"
        found = Manager(place if request.param == "path" else f"@{place}")
        with found.ear:
            yield found


# The protocol


def test_lines_and_status_go_to_the_socket(manager: Manager) -> None:
    notifier = Notifier(manager.environment)
    assert (notifier.watchdog, notifier.interval) == (WATCHDOG, WATCHDOG / 2)
    notifier.tell("READY=1", "up")
    notifier.tell("WATCHDOG=1", "up")
    notifier.tell("", "up")
    notifier.tell("", "busy")
    assert [manager.hear() for _ in range(3)] == [
        {"READY": "1", "STATUS": "up"}, {"WATCHDOG": "1"}, {"STATUS": "busy"},
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("variables", "watchdog"),
    [
        ({"WATCHDOG_USEC": "3000000"}, 3.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())}, 3.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_is_the_one_of_this_process(
    variables: dict[str, str], watchdog: float | None
) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": "/nowhere", **variables})
    assert notifier.watchdog == watchdog
    assert notifier.interval == (INTERVAL if watchdog is None else watchdog / 2)


def test_without_a_manager_nobody_is_told(caplog: pytest.LogCaptureFixture) -> None:
    notifier = Notifier({"WATCHDOG_USEC": "3000000"})
    notifier.tell("READY=1", "up")
    assert notifier.watchdog is None
    assert caplog.records == []


def test_a_manager_that_has_gone_is_a_line_in_the_log(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    gone = tmp_path / "gone"
    Notifier({"NOTIFY_SOCKET": str(gone)}).tell("READY=1", "up")
    [record] = caplog.records
    assert f"NOTIFY_SOCKET {gone} does not hear: " in record.getMessage()


# The daemon


@pytest.fixture
def served(
    transactional_db: None, manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Manager]:
    """A manager for the daemons of this process, and a site for them."""
    for name, value in manager.environment.items():
        monkeypatch.setenv(name, value)
    with empty_site(LEASE=300):  # so the first heartbeat after the start is far away
        yield manager


def test_the_manager_hears_the_daemon_come_live_and_go(served: Manager) -> None:
    go_on = threading.Event()
    task = make_task(lambda ar: go_on.wait(DEADLINE), "slow")
    with running_daemon():
        assert served.hear() == {"READY": "1", "STATUS": "Jobs running: 0"}
        assert [served.hear(), served.hear()] == [{"WATCHDOG": "1"}] * 2
        task.request_run()
        *_before, heard = served.hear_until("STATUS", "Jobs running: 1")
        assert heard["WATCHDOG"] == "1"
        go_on.set()
        served.hear_until("STATUS", "Jobs running: 0")
    *signs, last = served.hear_until("STOPPING", "1")
    assert last["STATUS"] == "Stopping. Jobs running: 0"
    assert all(sign == {"WATCHDOG": "1"} for sign in signs)


def test_a_database_that_is_away_is_in_the_status_and_the_signs_go_on(served: Manager) -> None:
    with running_daemon() as (daemon,):
        assert served.hear()["READY"] == "1"
        assert daemon.daemon is not None
        daemon.daemon.heart._trusted = False  # until its next beat, which is far away
        heard = served.hear_until("STATUS", "The database does not answer. Jobs running: 0")
        assert heard[-1]["WATCHDOG"] == "1"
        assert served.hear() == {"WATCHDOG": "1"}


def test_the_daemon_is_ready_when_it_claims(
    served: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks, may_look = threading.Event(), threading.Event()
    look = agenda.agenda

    def wait_and_look(*args: Any) -> agenda.Agenda:
        looks.set()
        assert may_look.wait(DEADLINE)
        return look(*args)

    monkeypatch.setattr(agenda, "agenda", wait_and_look)
    with running_daemon():
        assert looks.wait(DEADLINE)
        served.hear_silence()
        may_look.set()
        assert served.hear()["READY"] == "1"


def test_a_blocked_loop_is_silent(served: Manager) -> None:
    begun, go_on = threading.Event(), threading.Event()

    async def hog(ar: Any) -> None:
        """Keep the event loop for itself."""
        begun.set()
        go_on.wait(DEADLINE)

    task = make_task(hog)
    with running_daemon():
        assert served.hear()["READY"] == "1"
        task.request_run()
        assert begun.wait(DEADLINE)
        served.hear_silence()
        go_on.set()
        served.hear_until("WATCHDOG", "1")


HANG = """
import threading
from linod import background_task

@background_task
async def hang(ar):
    threading.Event().wait(600)
"""


@pytest.mark.parametrize("manager", ["path"], indirect=True)
def test_a_hung_daemon_is_ended_as_systemd_does_and_says_where(
    process_env: dict[str, str], manager: Manager, tmp_path: Path
) -> None:
    app = tmp_path / "hanging"
    app.mkdir()
    (app / "__init__.py").touch()
    (app / "procedures.py").write_text(HANG)
    env = process_env | manager.environment
    env |= {
        "DJANGO_SETTINGS_MODULE": "tests.command_site.settings",
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path)]),
        "SITE_EXTRA_APP": "hanging",
        "SITE_LINOD": json.dumps({"RUN_DIR": str(tmp_path), "LEASE": 2}),
    }
    with started(env) as process:
        assert process.stderr is not None
        lines = Lines(process.stderr)
        manager.hear_until("READY", "1")
        BackgroundTask.objects.get(procedure="hang").request_run()
        wait_until(lambda: Job.objects.running().exists(), "it hangs")
        manager.hear_silence()
        process.send_signal(signal.SIGABRT)
        assert process.wait(LIMIT) == -signal.SIGABRT
        lines.join(LIMIT)
    assert lines.count("Fatal Python error: Aborted") == 1
    assert lines.count("in hang") == 1, lines.seen
    with started(env) as process:
        manager.hear_until("READY", "1")
        wait_until(lambda: Job.objects.filter(state="lost").exists(), "the job is taken over")
        process.terminate()
        assert process.wait(LIMIT) == 0
