"""The output of ``linod --supervisor`` in the hands of a real ``supervisord``.

It runs as the current user, in a folder of its own; what the machine supervises is not touched.
"""

import getpass
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.example import EXAMPLE, STOP_LIMIT, Process, Site, absent, new_site
from tests.test_team_daemon import DAEMONS, EVERY_SECOND, check_instants

pytestmark = pytest.mark.database

START_LIMIT = 90
#: Seconds in which the work of a killed daemon is taken over: a lease, and some.
TAKE_OVER_LIMIT = 120
SUPERVISORD = """\
[supervisord]
nodaemon=true
user={user}
logfile={folder}/supervisord.log
pidfile={folder}/supervisord.pid
childlogdir={folder}

[unix_http_server]
file={folder}/supervisor.sock

[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface

[supervisorctl]
serverurl=unix://{folder}/supervisor.sock

[include]
files={folder}/conf.d/*.conf
"""
RUNNING = "SELECT COUNT(*) FROM linod_job WHERE state IN ('claimed', 'dispatched', 'running')"
DONE = """
SELECT COUNT(DISTINCT "procedure") FROM linod_job JOIN linod_daemon USING (owner)
WHERE linod_job.state = 'succeeded' AND pid = {}
"""
ENDS = "SELECT DISTINCT state FROM linod_job"


class Supervisor:
    """A supervisord of ours, with the daemon of a site as its only program."""

    def __init__(self, site: Site, folder: Path) -> None:
        self.site = site
        self.folder = folder
        self.process: Process

    def install(self) -> None:
        """Do what the printed text says, for another user and another folder of logs."""
        project = self.folder / "project"
        shutil.copytree(EXAMPLE, project, ignore=shutil.ignore_patterns("var", "__pycache__"))
        said = subprocess.run(
            [sys.executable, "manage.py", "linod", "--supervisor"],
            cwd=project, env=self.site.env, capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        parts = re.split(r"^# File (\S+) \(.*\)\n\n", said, flags=re.MULTILINE)
        (script, text), (conf, settings) = zip(parts[1::2], parts[2::2], strict=True)
        assert script == f"{project}/linod.sh"
        Path(script).write_text(text)
        Path(script).chmod(0o755)
        assert "\nuser=www-data\n" in settings
        assert "=/var/log/supervisor/" in settings
        settings = settings.replace("user=www-data", f"user={getpass.getuser()}")
        settings = settings.replace("/var/log/supervisor", str(self.folder))
        (self.folder / "conf.d").mkdir()
        (self.folder / "conf.d" / Path(conf).name).write_text(settings)
        own = SUPERVISORD.format(folder=self.folder, user=getpass.getuser())
        (self.folder / "supervisord.conf").write_text(own)

    def start(self) -> None:
        """Start supervisord, which starts the daemon."""
        self.process = self.site.launch("supervisord", "-c", f"{self.folder}/supervisord.conf")

    def control(self, *command: str) -> str:
        """What supervisorctl answers."""
        done = subprocess.run(
            ["supervisorctl", "-c", f"{self.folder}/supervisord.conf", *command],
            env=self.site.env, capture_output=True, text=True, check=False, timeout=STOP_LIMIT,
        )  # fmt: skip
        return done.stdout.strip()

    @property
    def pid(self) -> int:
        """The process that supervisord watches; 0: none."""
        answer = self.control("pid", "linod_team")
        return int(answer) if answer.isdecimal() else 0

    @property
    def log(self) -> str:
        """What the daemons have said."""
        return (self.folder / "linod_team.log").read_text()

    def wait_until_it_works(self, seconds: float, *, not_as: int = 0) -> int:
        """Wait until a daemon, another one than ``not_as``, has done each task; returns its pid."""
        self.process.wait_until(
            lambda: self.pid not in (0, not_as), START_LIMIT, "supervisord starts the daemon"
        )
        pid = self.pid
        query = DONE.format(pid)
        self.process.wait_until(lambda: self.site.number(query) == 2, seconds, "each task runs")
        return pid


@pytest.fixture
def supervisor(tmp_path: Path, django_db_blocker: Any) -> Iterator[Supervisor]:
    """A supervisord that is not started yet, and the site with two tasks each second."""
    for program in ("supervisord", "supervisorctl"):
        if shutil.which(program) is None:
            absent(f"{program} is not on PATH (Debian: apt-get install supervisor)")
    kind = os.environ.get("LINOD_TEST_DB", "sqlite")
    with (
        # Not pytest's tmp_path: a socket's path must be short.
        tempfile.TemporaryDirectory(prefix="linod") as folder,
        new_site("team", tmp_path, django_db_blocker, kind) as site,
    ):
        site.manage("migrate", "--verbosity=0")
        site.manage("load_demo")
        site.python(EVERY_SECOND)
        found = Supervisor(site, Path(folder))
        found.install()
        try:
            yield found
        finally:
            for process in site.left_over():
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)


def test_the_daemon_under_supervision(supervisor: Supervisor) -> None:
    site = supervisor.site
    supervisor.start()
    first = supervisor.wait_until_it_works(START_LIMIT)
    # linod.sh has replaced itself: what supervisord signals is Python.
    assert Path(f"/proc/{first}/cmdline").read_text().split("\0")[1:3] == ["manage.py", "linod"]

    os.kill(first, signal.SIGKILL)
    second = supervisor.wait_until_it_works(TAKE_OVER_LIMIT, not_as=first)

    answer = supervisor.control("restart", "linod_team")
    assert answer == "linod_team: stopped\nlinod_team: started"
    assert supervisor.log.count("linod has stopped") == 1
    third = supervisor.wait_until_it_works(START_LIMIT, not_as=second)
    assert len({first, second, third}) == 3

    assert supervisor.control("stop", "linod_team") == "linod_team: stopped"
    assert "STOPPED" in supervisor.control("status", "linod_team")
    assert supervisor.log.count("Start linod") == 3
    assert supervisor.log.count("linod has stopped") == 2
    assert "Traceback" not in supervisor.log
    assert supervisor.log.count("at once") == 0
    assert sorted(site.rows(DAEMONS)) == [("running",), ("stopped",), ("stopped",)]
    assert site.number(RUNNING) == 0
    assert {state for (state,) in site.rows(ENDS)} <= {"succeeded", "lost"}
    check_instants(site)

    assert supervisor.control("shutdown") == "Shut down"
    assert supervisor.process.wait(STOP_LIMIT) == 0
    assert site.left_over() == []
