"""The texts that make a service of the daemon: read by those who will read them."""

from __future__ import annotations

import configparser
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from linod import deployment
from linod.deployment import Deployment

ROOT = Path(__file__).parents[1]
ENVIRONMENTS = [None, *([Path(sys.prefix)] if sys.prefix != sys.base_prefix else [])]
SHOW = """\
import os, sys
print(os.getcwd(), sys.prefix, *sys.argv, sep="\\n")
"""


def make(folder: Path, **values: object) -> Deployment:
    given = {
        "site": "my site",
        "folder": folder,
        "python": Path(sys.executable),
        "command": ("manage.py", "linod"),
        "environment": Path(sys.prefix),
        "grace": 25.0,
    }
    return Deployment(**{**given, **values})  # type: ignore[arg-type]


@pytest.fixture(params=["plain", "with blank, 100% & 'quote'"])
def folder(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    place = tmp_path / str(request.param)
    place.mkdir()
    (place / "manage.py").write_text(SHOW)
    return place


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_the_script_starts_the_command_in_its_folder(
    folder: Path, environment: Path | None
) -> None:
    here = make(folder, environment=environment)
    here.script.write_text(deployment.linod_sh(here))
    here.script.chmod(0o755)
    said = subprocess.run([here.script], capture_output=True, text=True, check=True, cwd="/")
    assert said.stdout.splitlines() == [str(folder), sys.prefix, "manage.py", "linod"]
    assert here.script.read_text().splitlines()[:2] == ["#!/bin/bash", "set -e  # exit on error"]


def test_the_script_execs_so_that_signals_arrive(folder: Path) -> None:
    (folder / "manage.py").write_text("import os; print(os.getpid())")
    here = make(folder, environment=None)
    here.script.write_text(deployment.linod_sh(here))
    with subprocess.Popen(["/bin/bash", here.script], stdout=subprocess.PIPE, text=True) as process:
        said, _ = process.communicate(timeout=30)
    assert int(said) == process.pid


def test_supervisor_reads_its_configuration(folder: Path) -> None:
    here = make(folder)
    parser = configparser.RawConfigParser(inline_comment_prefixes=(";", "#"))
    parser.read_string(deployment.supervisor_conf(here))
    (section,) = parser.sections()
    assert section == "program:linod_my_site"
    values = dict(parser[section])
    # Supervisor merges variables with "%", then splits as a shell does.
    assert shlex.split(values.pop("command") % {}) == [str(folder / "linod.sh")]
    assert values == {
        "user": "www-data",
        "autostart": "true",
        "autorestart": "true",
        "startretries": "100",
        "stopsignal": "TERM",
        "stopasgroup": "true",
        "killasgroup": "true",
        "stopwaitsecs": "35",
        "stdout_logfile": "/var/log/supervisor/linod_my_site.log",
        "redirect_stderr": "true",
    }


# Not a service that LINOD_REQUIRE_SERVICES asks for: a machine without systemd needs no unit.
@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is absent")
def test_systemd_understands_its_unit(folder: Path, tmp_path: Path) -> None:
    unit = deployment.systemd(make(folder))
    assert verify(unit, tmp_path) == []
    (wrong,) = verify(unit.replace("WatchdogSec=", "WatchdogSecs="), tmp_path)
    assert "WatchdogSecs" in wrong


def verify(unit: str, folder: Path) -> list[str]:
    """What systemd finds wrong with a unit."""
    path = folder / "linod_site.service"
    path.write_text(unit)
    said = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", path],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    return [line for line in said.stderr.splitlines() if "linod_site" in line]


def test_the_unit_gives_the_daemon_its_time(folder: Path) -> None:
    lines = deployment.systemd(make(folder, grace=0.5)).splitlines()
    assert {
        "Type=notify", "WatchdogSec=60", "KillSignal=SIGTERM", "KillMode=mixed",
        "TimeoutStopSec=11", "Restart=on-failure", "User=www-data",
    } <= set(lines)  # fmt: skip


def printed(*command: str, **env: str) -> str:
    said = subprocess.run(
        [sys.executable, *command],
        env=os.environ | {"PYTHONPATH": str(ROOT)} | env,
        capture_output=True, text=True, check=True, timeout=60, cwd=env.get("FOLDER"),
    )  # fmt: skip
    assert said.stderr == ""
    return said.stdout


MANAGE = """\
import os, sys
from django.core.management import execute_from_command_line
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
execute_from_command_line(sys.argv)
"""


def test_paths_are_those_of_the_process(tmp_path: Path) -> None:
    manage = tmp_path / "manage.py"
    manage.write_text(MANAGE)
    said = printed(
        str(manage), "linod", "--supervisor", FOLDER="/", DJANGO_SETTINGS_MODULE="tests.settings"
    )
    assert f"cd {tmp_path}\n" in said
    assert said.count("manage.py linod\n") == 1
    other = "tests.command_site.settings"
    said = printed(str(manage), "linod", "--systemd", FOLDER="/", DJANGO_SETTINGS_MODULE=other)
    assert f"ExecStart={sys.executable} manage.py linod --settings={other}\n" in said


def test_without_a_manage_py_django_itself_is_the_command(tmp_path: Path) -> None:
    env = {"FOLDER": str(tmp_path), "DJANGO_SETTINGS_MODULE": "tests.settings"}
    said = printed("-m", "django", "linod", "--systemd", **env)
    assert f"WorkingDirectory={tmp_path}\n" in said
    assert f"ExecStart={sys.executable} -m django linod --settings=tests.settings\n" in said
