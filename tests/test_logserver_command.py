"""The log server as a process: in the daemon, alone, left out, and for commands of a moment."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.logs import Wire, messages_in, wait_for_message
from tests.test_command import LIMIT, env, linod, make, run, site, started
from tests.waiting import wait_until

__all__ = ["env", "site"]  # fixtures


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def path(folder: Path) -> Path:
    return folder / "lino.log"


def end(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=LIMIT)
    assert (process.returncode, out) == (0, ""), err


def test_the_daemon_writes_the_site_s_log(site: dict[str, str], folder: Path, path: Path) -> None:
    task = make("hello")
    site = site | {"SITE_LOGGING": str(folder)}
    with started(site) as process:
        wait_for_message(path, f"The log server writes {path}")
        task.request_run()
        wait_until(lambda: "Good bye" in path.read_text(), "the job's line is in the file")
        # Another process of the site, for a moment.
        says = "import logging; logging.getLogger('shop').info('from the shell')"
        shell = [sys.executable, "-m", "django", "shell", "-v0", "--no-startup", "-c", says]
        assert run(shell, site, stderr=subprocess.PIPE).stderr == ""
        assert "from the shell" in messages_in(path)
        process.send_signal(signal.SIGHUP)
        end(process)
    messages = messages_in(path)
    assert any(message.startswith("Start the background tasks runner") for message in messages)
    assert messages[-1] == "linod has stopped"
    assert not any("No log server" in message for message in messages)
    assert sorted(each.name for each in folder.iterdir()) == ["lino.log", "linod.lock"]


def test_a_second_daemon_is_a_client_until_the_first_is_gone(
    site: dict[str, str], folder: Path, path: Path
) -> None:
    site = site | {"SITE_LOGGING": str(folder)}
    with started(site) as first:
        wait_for_message(path, f"The log server writes {path}")
        with started(site) as second:
            wait_for_message(path, f"Another log server writes {path}")
            first.kill()
            first.communicate(timeout=LIMIT)
            wait_until(
                lambda: messages_in(path).count(f"The log server writes {path}") == 2,
                "the second one takes over",
            )
            end(second)


def test_the_log_server_alone_needs_no_database(
    env: dict[str, str], folder: Path, path: Path
) -> None:
    options = {"LOG_DIR": str(folder), "LOG_FILE": "site.log", "LOG_FORMAT": "<{message}>"}
    nowhere = {"LINOD_TEST_DB": "sqlite", "LINOD_TEST_DB_NAME": "/no/where"}
    path = folder / "site.log"
    with started(
        env | nowhere | {"SITE_LINOD": json.dumps(options)}, "--log-server-only"
    ) as process:
        wait_until((folder / "linod.sock").exists, "the log server listens")
        with Wire(folder) as wire:
            wire.greet()
            wire.send(1, "before")
            wire.wait_for(1)
            path.rename(folder / "site.log.1")
            process.send_signal(signal.SIGHUP)
            wire.send(2, "after")
            wire.wait_for(2)
        end(process)
    pid = os.getpid()
    assert path.read_text().splitlines()[1:] == [f"<after> #{pid}-0000000a:2"]


def test_the_daemon_without_log_server(site: dict[str, str], folder: Path) -> None:
    task = make("hello")
    site = site | {"SITE_LOGGING": str(folder)}
    with started(site, "--no-log-server") as process:
        task.request_run()
        wait_until(lambda: task.jobs.ended().count(), "the job runs without it")
        end(process)  # that there is no log server needs no reason: it was asked for
    assert not folder.exists()
    assert "Good bye" in task.jobs.get().message  # capturing needs no log server


@pytest.mark.parametrize("arguments", [[], ["--log-server-only"]])
def test_a_folder_that_cannot_be_written_is_one_line(
    site: dict[str, str], tmp_path: Path, arguments: list[str]
) -> None:
    (tmp_path / "file").touch()
    folder = tmp_path / "file" / "log"
    said = linod(site | {"SITE_LINOD": json.dumps({"LOG_DIR": str(folder)})}, *arguments)
    assert (said.returncode, said.stdout) == (1, "")
    assert said.stderr == f"CommandError: No log server in {folder}: Not a directory\n"
