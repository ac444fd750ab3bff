"""``make demo`` as a newcomer uses it: it comes up, works, lets one log in, and goes away."""

import http.cookiejar
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.example import EXAMPLE, Process, Site, absent, new_site
from tests.ports import free_port

START_LIMIT = 90  # seconds; on a busy machine all of it may be needed
WORK_LIMIT = 60
END_LIMIT = 90  # of the demo: its daemon waits up to 25 s for running jobs
SUCCEEDED = "SELECT COUNT(*) FROM linod_job WHERE state = 'succeeded' AND procedure = '{}'"
MOVING = "SELECT COUNT(*) FROM linod_job WHERE state = 'running' AND progress LIKE '%\"done\"%'"
ACTIVE = "SELECT COUNT(*) FROM linod_job WHERE state IN ('claimed', 'dispatched', 'running')"


def start(site: Site, *options: str) -> tuple[Process, str]:
    """Start the demo and wait until it says where it is."""
    demo = site.start("demo.py", *options)
    return demo, address_of(demo)


def address_of(demo: Process) -> str:
    """The address that the demo prints, once it does."""
    demo.wait_until(lambda: "Ctrl-C ends both" in demo.output, START_LIMIT, "it is up")
    address = re.search(r"http://127\.0\.0\.1:\d+/", demo.output)
    assert address is not None
    return address[0]


@pytest.fixture
def make(tmp_path: Path) -> list[str]:
    """``make`` on this checkout, whose environment is a folder that leads to this interpreter.

    So nothing is installed, and no other checkout's environment is touched.
    """
    if shutil.which("make") is None:
        absent("make is not on PATH")
    environment = tmp_path / "environment"
    python = environment / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
    python.chmod(0o755)
    (environment / ".pip").touch()
    return ["make", f"--directory={EXAMPLE.parent}", f"VENV={environment}"]


def child(site: Site, command: str) -> int:
    """The process of the demo that runs that management command."""
    [found] = [
        process
        for process in site.left_over()
        if f"\0{command}\0" in Path(f"/proc/{process}/cmdline").read_text()
    ]
    return found


def log_in(address: str, username: str, password: str) -> str:
    """Fill in the admin's login form; returns the page that follows."""
    cookies = http.cookiejar.CookieJar()
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(cookies))
    with browser.open(address, timeout=60) as response:
        assert response.status == 200
        assert response.url.endswith("/admin/login/?next=/linod/")
        assert "csrfmiddlewaretoken" in response.read().decode()
    [token] = [cookie.value for cookie in cookies if cookie.name == "csrftoken"]
    form = {"username": username, "password": password, "csrfmiddlewaretoken": token}
    data = urllib.parse.urlencode(form | {"next": "/linod/"}).encode()
    with browser.open(f"{address}admin/login/", data, timeout=60) as response:
        return str(response.read().decode())


def the_process(demo: Process) -> None:
    demo.popen.send_signal(signal.SIGINT)


def the_terminal(demo: Process) -> None:
    os.killpg(demo.popen.pid, signal.SIGINT)  # as Ctrl-C does: to the whole group


def a_supervisor(demo: Process) -> None:
    demo.popen.terminate()


@pytest.mark.parametrize("stop", [the_process, the_terminal, a_supervisor])
def test_the_demo_works_and_ends(
    stop: Callable[[Process], None], tmp_path: Path, django_db_blocker: Any
) -> None:
    with new_site("team", tmp_path, django_db_blocker) as site:
        port = free_port()
        demo, address = start(site, "--site", "team", "--port", str(port))
        assert f"{address}linod/" in demo.output
        assert address == f"http://127.0.0.1:{port}/"
        assert "robin with the password demo" in demo.output
        assert "Please enter the correct username" in log_in(address, "robin", "wrong")
        page = log_in(address, "robin", "demo")
        assert "<title>Live page" in page
        assert "1 daemon is alive" in page
        assert "Robin" in page
        for procedure in ("get_new_mail", "send_pending_emails_often", "clear_seen_messages"):
            query = SUCCEEDED.format(procedure)
            demo.wait_until(lambda q=query: site.number(q) > 0, WORK_LIMIT, f"{procedure} ran")
        arrived = "SELECT COUNT(*) FROM inbox_mail"
        demo.wait_until(lambda: site.number(arrived) > 2, WORK_LIMIT, "somebody wrote")
        assert "Start Background task #4 get_new_mail..." in demo.output
        stop(demo)
        assert demo.wait(END_LIMIT) == 0, demo.output
        assert "Stopping" in demo.output
        assert demo.output.count("linod has stopped") == 1
        assert "at once" not in demo.output
        assert "Traceback" not in demo.output
        assert site.left_over() == []
        assert site.number(ACTIVE) == 0


def test_make_demo_works_and_ends(make: list[str], tmp_path: Path, django_db_blocker: Any) -> None:
    with new_site("tour", tmp_path, django_db_blocker) as site:
        subprocess.run([*make, "PIP=true", "install"], env=site.env, check=True)
        demo = site.launch(*make, f"OPTIONS=--port={free_port()}", "demo")
        address = address_of(demo)
        assert "Installing" not in demo.output
        said = re.search(r"Log in as (\S+) with the password (\S+)\.", demo.output)
        assert said is not None
        assert "Live page |" in log_in(address, said[1], said[2])
        demo.wait_until(lambda: site.number(MOVING) > 0, WORK_LIMIT, "jobs run")
        assert child(site, "runserver") != child(site, "linod")
        the_terminal(demo)
        # make itself ends by the signal, after the demo.
        assert demo.wait(END_LIMIT) == -signal.SIGINT, demo.output
        assert site.left_over() == []
        assert "linod has stopped" in demo.output
        said = demo.output.replace("failed\nTraceback", "")  # a supplier does not answer
        assert not re.search("exit code|Traceback|at once", said), said
        assert site.number(ACTIVE) == 0


def test_what_make_test_installed_is_enough_for_the_demo(make: list[str]) -> None:
    subprocess.run([*make, "PIP=true", "install"], check=True)
    said = subprocess.run([*make, "--dry-run", "demo"], capture_output=True, text=True, check=True)
    [line] = [line for line in said.stdout.splitlines() if not line.startswith("make")]
    assert line.strip().endswith("/bin/python example_project/demo.py")


@pytest.mark.parametrize("command", ["linod", "runserver"])
def test_when_one_of_them_dies_the_other_ends_and_the_exit_code_says_so(
    command: str, tmp_path: Path, django_db_blocker: Any
) -> None:
    with new_site("team", tmp_path, django_db_blocker) as site:
        demo, _address = start(site, "--site", "team", "--port", str(free_port()))
        os.kill(child(site, command), signal.SIGKILL)
        assert demo.wait(END_LIMIT) == 1
        assert "ended by itself with exit code -9" in demo.output
        assert site.left_over() == []


def test_the_other_site_beside_one_that_runs(tmp_path: Path, django_db_blocker: Any) -> None:
    with socket.socket() as taken, new_site("noi", tmp_path, django_db_blocker) as site:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with suppress(OSError):  # it may be taken already
            taken.bind(("127.0.0.1", 8000))
            taken.listen()
        demo, address = start(site, "--site", "noi")
        assert not address.endswith(":8000/")
        query = SUCCEEDED.format("update_publisher_pages")
        demo.wait_until(lambda: site.number(query) > 0, WORK_LIMIT, "the pages are published")
        assert "72 pages have been updated." in demo.output
        assert demo.end(signal.SIGINT) == 0
        assert site.left_over() == []


def test_without_a_choice_it_is_the_site_where_one_can_watch_work(
    tmp_path: Path, django_db_blocker: Any
) -> None:
    with new_site("tour", tmp_path, django_db_blocker) as site:
        demo, address = start(site, "--port", str(free_port()))
        assert f"The site 'tour' runs at {address}linod/\n" in demo.output
        demo.wait_until(lambda: site.number(MOVING) > 1, WORK_LIMIT, "bars move")
        page = log_in(address, "robin", "demo")
        assert "<title>Live page" in page or "<title>(1) Live page" in page
        assert page.count("<progress") > 1
        assert 'class="line is-info"' in page
        assert "Log server answers" in page
        assert not re.search(r" #\d+-[0-9a-f]{8}:\d", page)  # what the log server adds for itself
        assert "print_catalogue" in page  # it is paused
        arrived = "SELECT COUNT(*) FROM inbox_mail"
        demo.wait_until(lambda: site.number(arrived) > 0, WORK_LIMIT, "somebody wrote")
        assert demo.end(signal.SIGINT) == 0, demo.output
        assert "GET /" not in demo.output
        assert "Traceback" not in demo.output.replace("failed\nTraceback", "")
        assert site.left_over() == []


def test_a_taken_port_is_one_clear_line(tmp_path: Path, django_db_blocker: Any) -> None:
    with socket.socket() as taken, new_site("team", tmp_path, django_db_blocker) as site:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        demo = site.start("demo.py", "--port", str(port))
        assert demo.wait(START_LIMIT) == 1
        assert demo.output == f"Port {port} is not free\n"


@pytest.mark.parametrize("port", ["0", "65536", "http"])
def test_a_port_that_cannot_be_is_refused(
    port: str, tmp_path: Path, django_db_blocker: Any
) -> None:
    with new_site("team", tmp_path, django_db_blocker) as site:
        demo = site.start("demo.py", "--port", port)
        assert demo.wait(START_LIMIT) == 2
        assert "argument --port: " in demo.output


def test_an_early_ctrl_c_leaves_nothing_behind(tmp_path: Path, django_db_blocker: Any) -> None:
    with new_site("team", tmp_path, django_db_blocker) as site:
        demo = site.start("demo.py", "--port", str(free_port()))
        # The demo itself and its first child, which migrates the database.
        demo.wait_until(lambda: len(site.left_over()) > 1, START_LIMIT, "it migrates")
        assert demo.end(signal.SIGINT) == 0, demo.output
        assert site.left_over() == []
