"""``manage.py linod`` as a process: what it prints, what it refuses, how it ends."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

import pytest
from django.core.management import CommandError, call_command, execute_from_command_line
from django.db import ProgrammingError, connection

from linod import clock, foreground, health, reloading
from linod.history import Daemon, Decision, Job
from linod.management.commands.linod import Command
from linod.models import BackgroundTask
from tests.daemons import wait_until

ROOT = Path(__file__).parents[1]
LIMIT = 120  # seconds that any of these processes gets


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """The environment of a site that needs no database, or none that is there."""
    return os.environ | {
        "DJANGO_SETTINGS_MODULE": "tests.command_site.settings",
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path)]),
        "SITE_LINOD": json.dumps({"RUN_DIR": str(tmp_path), "GRACE": 5.0}),
        "COLUMNS": "80",
    }


@pytest.fixture
def site(process_env: dict[str, str], env: dict[str, str]) -> dict[str, str]:
    """The environment of the site on this test's database."""
    return process_env | env | {"LINOD_TEST_DB_NAME": process_env["LINOD_TEST_DB_NAME"]}


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "django", "linod", *arguments]


def linod(env: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return run(command(*arguments), env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def run(command: list[Any], env: dict[str, str], **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, check=False, env=env, text=True, timeout=LIMIT, **more)


@contextmanager
def started(env: dict[str, str], *arguments: str, **more: Any) -> Iterator[subprocess.Popen[str]]:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command(*arguments), env=env, **(pipes | more)) as process:
        try:
            yield process
        finally:
            process.kill()


class Lines(threading.Thread):
    """Reads what a process says, line by line, so that a test can wait for it."""

    def __init__(self, stream: IO[str]) -> None:
        super().__init__(daemon=True)
        self.stream = stream
        self.seen: list[str] = []
        self.start()

    def run(self) -> None:
        with suppress(ValueError):
            for line in self.stream:
                self.seen.append(line.rstrip("\n"))

    def count(self, text: str) -> int:
        return sum(text in line for line in self.seen)

    def wait_for(self, text: str, times: int = 1) -> None:
        wait_until(
            lambda: self.count(text) >= times, lambda: f"it says {text!r}; it says {self.seen}"
        )


def make(procedure: str, **values: Any) -> BackgroundTask:
    """A row of a procedure that only the site's process knows."""
    return BackgroundTask.objects.create(procedure=procedure, **values)


def job_of(task: BackgroundTask) -> Job:
    return Job.objects.get(task=task)


# Refusals


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--lst"], "unrecognized arguments: --lst; did you mean --list?"),
        (["--heath"], "unrecognized arguments: --heath; did you mean --health?"),
        (["--forecast", "-1h"], "unrecognized arguments: -1h"),
        (["--", "--list"], "unrecognized arguments: -- --list"),
        (["hello"], "unrecognized arguments: hello"),
        (["two\nlines"], "unrecognized arguments: two\\x0alines"),
        (["--run"], "argument --run: expected one argument"),
        (["--list", "--once"], "argument --once: not allowed with argument -l/--list"),
        (["--health", "--run", "x"], "argument --run: not allowed with argument --health"),
        (["--json"], "--json goes with --list"),
        (["--once", "--json"], "--json goes with --list"),
        (
            ["--log-server-only"],
            "No log server: neither LINOD['LOG_DIR'] nor LOGGING names a folder; see"
            " linod.loghandler.logging_config",
        ),
        (
            ["--once", "--log-server-only"],
            "argument --log-server-only: not allowed with argument --once",
        ),
        (["--log-server-only", "--no-log-server"], "--no-log-server goes with the daemon"),
        (["--list", "--no-log-server"], "--no-log-server goes with the daemon"),
        (
            ["--forecast", "soon"],
            "argument --forecast: 'soon' is no duration such as 90m, 24h or 7d",
        ),
        (["--forecast", "0h"], "argument --forecast: '0h' must be from 1s to 3660d"),
        (["--forecast", "9999d"], "argument --forecast: '9999d' must be from 1s to 3660d"),
    ],
)
def test_a_wrong_option_is_one_line(
    env: dict[str, str], arguments: list[str], message: str
) -> None:
    said = linod(env, *arguments)
    assert (said.returncode, said.stdout, said.stderr) == (1, "", f"CommandError: {message}\n")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"LEASSE": 3}, "LINOD has no key 'LEASSE', did you mean 'LEASE'?"),
        ({"LEASE": "3"}, "LINOD['LEASE'] must be int or float, not '3'"),
        ({"DATABASE": "x"}, "LINOD['DATABASE'] names 'x', which DATABASES lacks"),
    ],
)
def test_a_mistyped_setting_is_one_line(
    env: dict[str, str], setting: dict[str, Any], message: str
) -> None:
    said = linod(env | {"SITE_LINOD": json.dumps(setting)})
    assert (said.returncode, said.stdout, said.stderr) == (1, "", f"CommandError: {message}\n")


@pytest.mark.parametrize("arguments", [[], ["--run", "hello"], ["--health"]])
def test_an_unapplied_migration_is_one_line(
    env: dict[str, str], tmp_path: Path, arguments: list[str]
) -> None:
    said = linod(
        env | {"LINOD_TEST_DB": "sqlite", "LINOD_TEST_DB_NAME": str(tmp_path / "new")}, *arguments
    )
    assert (said.returncode, said.stdout) == (1, "")
    assert said.stderr.startswith("CommandError: Migrations are not applied (")
    assert said.stderr.endswith("); run: manage.py migrate\n")
    assert said.stderr.count("\n") == 1


def test_others_are_migrated_before_linod_is_and_after_it_was(
    env: dict[str, str], tmp_path: Path
) -> None:
    new = env | {"LINOD_TEST_DB": "sqlite", "LINOD_TEST_DB_NAME": str(tmp_path / "new")}
    for arguments in (["contenttypes"], ["linod"], ["linod", "zero"]):
        migrate = [sys.executable, "-m", "django", "migrate", "--verbosity=0", *arguments]
        said = run(migrate, new, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert (said.returncode, said.stdout, said.stderr) == (0, "", "")


def test_a_database_that_cannot_be_opened_is_one_line(env: dict[str, str], tmp_path: Path) -> None:
    nowhere = {"LINOD_TEST_DB": "sqlite", "LINOD_TEST_DB_NAME": str(tmp_path / "no" / "where")}
    said = linod(env | nowhere, "--list")
    message = "The database 'default' does not answer: unable to open database file"
    assert (said.returncode, said.stdout, said.stderr) == (1, "", f"CommandError: {message}\n")


@pytest.mark.parametrize("server", ["postgresql", "mariadb"])
def test_a_server_that_does_not_answer_is_one_line(env: dict[str, str], server: str) -> None:
    pytest.importorskip({"postgresql": "psycopg", "mariadb": "MySQLdb"}[server])
    nowhere = {"LINOD_TEST_DB": server, f"LINOD_{server.upper()}_PORT": "1"}
    said = linod(env | nowhere)
    assert (said.returncode, said.stdout) == (1, "")
    assert said.stderr.startswith("CommandError: The database 'default' does not answer: ")
    assert said.stderr.count("\n") == 1


@pytest.mark.parametrize("arguments", [[], ["--once"], ["--run", "hello"], ["--reload"]])
def test_a_database_that_takes_no_writes_is_one_line(
    site: dict[str, str], arguments: list[str]
) -> None:
    said = linod(site | {"SITE_READ_ONLY": "1"}, *arguments)
    assert (said.returncode, said.stdout) == (1, "")
    (line,) = said.stderr.splitlines()
    assert line.startswith("CommandError: The database 'default' cannot be used: ")
    assert re.search("read.?only", line, re.IGNORECASE)


# Listing


def test_list_prints_and_does_nothing(site: dict[str, str]) -> None:
    make("hello", every_unit="secondly", every=10)
    make("polite", every_unit="daily")
    make("broken", every_unit="daily", disabled=True)
    make("stubborn")
    before = list(BackgroundTask.objects.values())
    said = linod(site, "-l")
    assert said.returncode == 0
    heading, first, second = said.stdout.splitlines()
    assert heading == "2 scheduled jobs:"
    assert first.startswith("[1] Every 10 seconds do hello() (last run: [never], next run: ")
    assert second.startswith("[2] Every 1 day at 20:00:00 do polite() (last run: [never], ")
    assert said.stderr.splitlines() == [
        "No task yet, the daemon makes it: awaiting",
        "Disabled, so not in the list: broken",
    ]
    assert list(BackgroundTask.objects.values()) == before
    assert not Daemon.objects.exists()
    assert not Job.objects.exists()


def test_the_help_says_what_it_always_said() -> None:
    parser = Command().create_parser("manage.py", "linod")
    assert parser.description == "Run a Lino daemon for this site."
    assert "-l, --list            Just list the jobs, don't run them." in parser.format_help()


def test_list_as_json(site: dict[str, str]) -> None:
    task = make("hello", every_unit="secondly", every=10)
    (item,) = json.loads(linod(site, "--list", "--json").stdout)
    assert item.pop("next_run") is not None
    assert item == {
        "no": 1,
        "task": task.pk,
        "procedure": "hello",
        "known": True,
        "rule": "every 10 seconds",
        "last_run": None,
    }


def test_list_without_jobs(site: dict[str, str]) -> None:
    said = linod(site, "--list")
    assert (said.returncode, said.stdout) == (0, "This site has no scheduled jobs.\n")


def test_the_list_says_what_is_disabled(site: dict[str, str]) -> None:
    make("hello", every_unit="daily", disabled=True)
    make("polite", disabled=True)
    said = linod(site, "--list")
    assert said.stdout == "This site has no scheduled jobs.\n"
    assert said.stderr.splitlines()[1:] == ["Disabled, so not in the list: hello"]


def test_a_closed_stdout_is_no_trouble(site: dict[str, str]) -> None:
    closing = ["sh", "-c", '"$@" >&-', "sh"]
    said = run([*closing, *command("--list")], site, stderr=subprocess.PIPE)
    assert said.returncode == 0
    assert said.stderr.startswith("No task yet")
    assert said.stderr.count("\n") == 1


def test_no_file_gets_the_number_of_a_closed_stream() -> None:
    code = (
        "import os, sys; from linod import terminal; terminal.occupy_closed_streams();"
        "sys.stderr.write(' '.join(os.readlink(f'/proc/self/fd/{n}') for n in range(2)))"
    )
    closing = ["sh", "-c", '"$@" <&- >&-', "sh"]
    said = run([*closing, sys.executable, "-c", code], dict(os.environ), stderr=subprocess.PIPE)
    assert said.stderr == "/dev/null /dev/null"


def test_a_reader_that_goes_away_is_no_trouble(site: dict[str, str]) -> None:
    for number in range(200):
        make("hello", every_unit="daily", name=f"number {number}")
    reading, writing = os.pipe()
    os.close(reading)
    with started(site, "--list", stdout=writing) as process:
        os.close(writing)
        _out, said = process.communicate(timeout=LIMIT)
    assert process.returncode == 0
    assert "Traceback" not in said
    assert "BrokenPipe" not in said


def test_an_answer_without_a_place_is_one_line(site: dict[str, str]) -> None:
    with open("/dev/full", "w") as full:
        said = run(command("--list"), site, stdout=full, stderr=subprocess.PIPE)
    message = "CommandError: The answer could not be written: No space left on device\n"
    assert (said.returncode, said.stderr) == (1, message)


def test_forecast_and_health_answer(site: dict[str, str]) -> None:
    make("polite", every_unit="daily")
    said = linod(site, "--forecast", "2d")
    assert said.returncode == 0
    assert [line.split()[2] for line in said.stdout.splitlines()] == ["polite", "polite"]
    said = linod(site, "--health")
    assert said.returncode == 1
    assert said.stdout == (
        "PROBLEM: no daemon runs; start one with: manage.py linod\nok: nothing is overdue\n"
    )


# Running one


def test_why_answers_and_refuses_in_one_line(site: dict[str, str]) -> None:
    assert linod(site, "--run", "hello").returncode == 0
    told = linod(site, "--why", "hello")
    assert told.returncode == 0, told.stderr
    assert "succeeded after" in told.stdout
    assert told.stdout.splitlines()[-1] == "next: nothing (the task has no recurrence)"
    for arguments, words in (
        (("--why", "helo"), "did you mean hello?"),
        (("--why", "hello", "--at", "soon"), "'soon' is no moment such as 20:00"),
        (("--at", "20:00"), "--at goes with --why"),
    ):
        refused = linod(site, *arguments)
        assert (refused.returncode, refused.stdout) == (1, "")
        (line,) = refused.stderr.splitlines()
        assert words in line


def test_answers_speak_the_terminals_encoding(site: dict[str, str]) -> None:
    make("hello").disable("Überdruss")
    said = linod(site | {"PYTHONIOENCODING": "ascii"}, "--why", "hello")
    assert (said.returncode, said.stderr) == (0, "")
    assert "the task is disabled: \\xdcberdruss (since" in said.stdout


@pytest.mark.parametrize("option", ["--why", "--run"])
def test_a_name_that_is_no_text_is_not_there(site: dict[str, str], option: str) -> None:
    said = run([*command(option), b"\xff"], site, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert (said.returncode, said.stdout) == (1, "")
    (line,) = said.stderr.splitlines()
    assert re.fullmatch(r"CommandError: There is no .* '\\udcff'", line)


def test_run_shows_the_job_and_succeeds(site: dict[str, str]) -> None:
    task = make("hello")
    said = linod(site, "--run", "hello")
    assert said.returncode == 0
    assert said.stdout.splitlines() == [
        f"Start Background task #{task.pk} hello...",
        "Hello \\x1b[31mwörld",
        "heard as well",
        "Good bye",
    ]
    *progress, outcome = said.stderr.splitlines()
    assert progress == [
        "[######..................]  25 % 1/4 greetings",
        "[########################] 100 % 4/4 greetings",
    ]
    assert outcome.startswith(f"Background task #{task.pk} hello succeeded after ")
    assert (job_of(task).state, job_of(task).trigger) == ("succeeded", "request")


def test_run_has_a_bar_on_a_terminal(site: dict[str, str]) -> None:
    make("hello")
    ours, theirs = pty.openpty()
    with started(site | {"TERM": "xterm"}, "--run", "hello", stderr=theirs) as process:
        os.close(theirs)
        process.communicate(timeout=LIMIT)
        said = b""
        with suppress(OSError):  # how a terminal says that the other side has gone
            while piece := os.read(ours, 4096):
                said += piece
    os.close(ours)
    assert process.returncode == 0
    pictures = [picture.strip() for picture in said.decode().split("\r") if "[#" in picture]
    assert pictures[0].startswith("[######..................]  25 % 1/4 greetings")
    assert pictures[-1].startswith("[########################] 100 % 4/4 greetings")


def test_run_goes_on_when_nobody_listens(site: dict[str, str]) -> None:
    task = make("hello")
    reading, writing = os.pipe()
    os.close(reading)
    with started(site, "--run", "hello", stdout=writing) as process:
        os.close(writing)
        _out, said = process.communicate(timeout=LIMIT)
    assert process.returncode == 0
    assert said.splitlines()[-1].startswith(f"Background task #{task.pk} hello succeeded")
    assert job_of(task).message.count("Good bye") == 1


def test_run_speaks_the_terminals_encoding(site: dict[str, str]) -> None:
    make("hello")
    said = linod(site | {"PYTHONIOENCODING": "ascii"}, "--run", "hello")
    assert (said.returncode, said.stdout.splitlines()[1]) == (0, "Hello \\x1b[31mw\\xf6rld")


def test_run_fails_with_the_reason(site: dict[str, str]) -> None:
    task = make("broken", every_unit="daily")
    said = linod(site, "--run", f"#{task.pk}")
    assert said.returncode == 1
    assert "ValueError: no such thing" in said.stderr
    assert said.stderr.splitlines()[-2:] == [
        said.stderr.splitlines()[-2],
        f"Background task #{task.pk} broken is disabled now: ValueError: no such thing",
    ]
    assert job_of(task).state == "failed"


def test_run_takes_the_first_task_of_the_procedure(site: dict[str, str]) -> None:
    later = make("hello", seqno=9)
    first = make("hello", seqno=2)
    assert linod(site, "--run", "hello").returncode == 0
    assert linod(site, "--run", str(later.pk)).returncode == 0
    assert [job.task_id for job in Job.objects.order_by("id")] == [first.pk, later.pk]


def test_run_makes_the_row_that_is_missing(site: dict[str, str]) -> None:
    assert linod(site, "--run", "hello").returncode == 0
    assert BackgroundTask.objects.get(procedure="hello").last_end_time is not None


def test_run_refuses_what_it_cannot_find(site: dict[str, str]) -> None:
    gone = make("gone")
    for name, message in (
        ("helo", "There is no procedure 'helo', did you mean hello?"),
        ("#987654", "There is no background task '#987654'"),
        (
            f"#{gone.pk}",
            f"Background task #{gone.pk} gone: its procedure is not declared here",
        ),
    ):
        said = linod(site, "--run", name)
        assert (said.returncode, said.stdout, said.stderr) == (1, "", f"CommandError: {message}\n")
    assert not Job.objects.exists()


def test_run_refuses_a_task_that_runs(site: dict[str, str]) -> None:
    task = make("hello")
    now = clock.db_now()
    Job.objects.create(
        task=task, active_task=task.pk, procedure="hello", due_at=now, state="running",
        trigger="schedule", owner=uuid4(), lease_until=now + timedelta(hours=1), host="elsewhere",
    )  # fmt: skip
    said = linod(site, "--run", "hello")
    message = f"CommandError: Background task #{task.pk} hello is already running, by elsewhere\n"
    assert (said.returncode, said.stdout, said.stderr) == (1, "", message)


@pytest.mark.parametrize(
    ("name", "signals"),
    [
        ("polite", [signal.SIGINT]),
        ("polite", [signal.SIGTERM]),
        ("awaiting", [signal.SIGINT]),
        ("stubborn", [signal.SIGINT, signal.SIGINT]),
    ],
)
def test_run_is_cancelled_by_a_signal(
    site: dict[str, str], name: str, signals: list[signal.Signals]
) -> None:
    task = make(name, every_unit="daily")
    with started(site, "--run", name) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        out, err = Lines(process.stdout), Lines(process.stderr)
        out.wait_for("begun")
        for number, each in enumerate(signals):
            process.send_signal(each)
            err.wait_for("Cancelling" if number == 0 else "Ended now")
        assert process.wait(LIMIT) == 1
    task.refresh_from_db()
    assert job_of(task).state == "cancelled"
    assert not task.disabled


# The daemon


def test_once_takes_what_is_due(site: dict[str, str]) -> None:
    task = make("hello")
    task.request_run()
    said = linod(site, "--once")
    assert said.returncode == 0
    assert said.stdout == ""
    assert said.stderr.count("Start linod") == 1
    assert "No log server" not in said.stderr  # nobody expects one of it
    assert said.stderr.count("INFO Good bye") == 1
    assert job_of(task).state == "succeeded"


def test_once_tells_of_failures(site: dict[str, str]) -> None:
    well, ill = make("hello"), make("broken")
    well.request_run()
    ill.request_run()
    said = linod(site, "--once")
    assert said.returncode == 1
    assert said.stderr.count("ValueError: no such thing") == 1
    assert [job_of(task).state for task in (well, ill)] == ["succeeded", "failed"]


@pytest.mark.parametrize("logging", ["0", "1"])
def test_the_daemon_speaks_once_and_ends_by_a_signal(site: dict[str, str], logging: str) -> None:
    task = make("hello")
    with started(site | {"SITE_LOGGING": logging}) as process:
        assert process.stderr is not None
        lines = Lines(process.stderr)
        lines.wait_for("Start linod")
        task.request_run()
        lines.wait_for("Good bye")
        healthy = linod(site, "--health")
        process.send_signal(signal.SIGTERM)
        assert process.wait(LIMIT) == 0
        lines.join(LIMIT)
    assert healthy.returncode == 0
    assert healthy.stdout.startswith("ok: the daemon ")
    once = (
        "Start the background tasks runner using <Logger linod (",
        "No log server because no folder is named for it (LINOD['LOG_DIR'])",
        "Start linod", "Start Background task", "heard as well", "linod has stopped",
    )  # fmt: skip
    for text in once:
        assert lines.count(text) == 1, lines.seen
    assert lines.count("SITE ") == (len(lines.seen) if logging == "1" else 0)
    assert linod(site, "--health").returncode == 1


def test_a_signal_while_the_daemon_comes_up_is_heard(site: dict[str, str]) -> None:
    with started(site) as process:
        assert process.stderr is not None
        lines = Lines(process.stderr)
        lines.wait_for("Start linod")
        process.send_signal(signal.SIGTERM)
        assert process.wait(LIMIT) == 0
        lines.join(LIMIT)
    assert lines.count("linod has stopped") == 1


def test_the_daemon_survives_without_a_terminal(site: dict[str, str]) -> None:
    task = make("hello")
    task.request_run()
    closing = ["sh", "-c", '"$@" >&- 2>&-', "sh"]
    said = run([*closing, *command("--once")], site)
    assert said.returncode == 0
    assert job_of(task).state == "succeeded"


UNWALKED = """
import gc
from linod import background_task

@background_task
def unwalked():
    return gc.get_freeze_count()
"""


def test_what_was_loaded_is_left_alone_by_the_garbage_collector(
    site: dict[str, str], tmp_path: Path
) -> None:
    app = tmp_path / "loaded"
    app.mkdir()
    (app / "__init__.py").touch()
    (app / "procedures.py").write_text(UNWALKED)
    task = make("unwalked")
    task.request_run()
    assert linod(site | {"SITE_EXTRA_APP": "loaded"}, "--once").returncode == 0
    assert job_of(task).result > 10_000


PROCEDURES = "from linod import background_task\n"
ONE_MORE = "@background_task\ndef number_{0}(ar):\n    ar.info('from number {0}')\n"


def test_reload_begins_anew_with_the_code(site: dict[str, str], tmp_path: Path) -> None:
    app = tmp_path / "changing"
    app.mkdir()
    (app / "__init__.py").touch()
    module = app / "procedures.py"
    module.write_text(PROCEDURES + ONE_MORE.format(1))
    with started(
        site | {"SITE_EXTRA_APP": "changing", "PYTHONFAULTHANDLER": "1"}, "--reload"
    ) as process:
        assert process.stderr is not None
        lines = Lines(process.stderr)
        lines.wait_for("6 procedures")
        change(module, "this is no Python", lines, "is not loaded")
        change(
            module,
            PROCEDURES + ONE_MORE.format(1) + ONE_MORE.format(2),
            lines,
            # Not a line of what comes up then: a change after that would be a further one.
            "The code has changed",
        )
        lines.wait_for("7 procedures")
        BackgroundTask.objects.get(procedure="number_2").request_run()
        lines.wait_for("from number 2")
        process.send_signal(signal.SIGINT)
        try:
            assert process.wait(LIMIT) == 0
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGABRT)  # PYTHONFAULTHANDLER: where each thread stands
            lines.join(LIMIT)
            pytest.fail("\n".join(lines.seen))
        lines.join(LIMIT)
    assert lines.count("The code has changed") == 1
    assert lines.count("linod has stopped") == 2
    assert set(Daemon.objects.values_list("pid", "state")) == {(process.pid, "stopped")}


def test_a_file_that_is_being_written_is_read_when_it_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    module = tmp_path / "procedures.py"
    module.touch()
    pieces = ["this is", " no Python"]

    def write_on(seconds: float) -> None:
        if pieces:
            with module.open("a") as file:
                file.write(pieces.pop(0))

    monkeypatch.setattr(reloading.time, "sleep", write_on)
    assert reloading.refuse_broken(None, module)
    assert "procedures.py is not loaded: invalid syntax" in caplog.text
    module.write_text("this = True")
    assert not reloading.refuse_broken(None, module)
    module.unlink()
    assert not reloading.refuse_broken(None, module)


def test_an_error_is_said_when_the_code_changes_in_the_same_moment(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Failing:
        async def run(self) -> int:
            raise RuntimeError("out of paper")

    def serve_and_see_a_change(serve: Callable[[], None]) -> None:
        serve()
        raise SystemExit(reloading.CHANGED)

    started: list[str] = []
    monkeypatch.setenv(reloading.autoreload.DJANGO_AUTORELOAD_ENV, "false")
    monkeypatch.setattr(reloading.autoreload, "run_with_reloader", serve_and_see_a_change)
    monkeypatch.setattr(reloading.autoreload, "get_child_arguments", lambda: ["linod"])
    monkeypatch.setattr(reloading.logging, "shutdown", lambda: None)
    monkeypatch.setattr(reloading.os, "execv", lambda path, arguments: started.append(path))
    # Where the program is not replaced, the error is raised.
    with pytest.raises(RuntimeError, match="out of paper"):
        reloading.Reloading(Failing()).run()  # type: ignore[arg-type]
    assert started == ["linod"]
    (said,) = (record for record in caplog.records if record.levelname == "ERROR")
    assert said.exc_info is not None
    assert str(said.exc_info[1]) == "out of paper"


def change(module: Path, text: str, lines: Lines, said: str) -> None:
    """Write a file, again and again: the reloader may be still coming up and not see it."""
    moment = module.stat().st_mtime
    new = module.with_suffix(".new")

    def seen() -> object:
        nonlocal moment
        moment += 1
        new.write_text(text)
        os.utime(new, (moment, moment))
        new.replace(module)  # whole at once
        threading.Event().wait(0.5)
        return lines.count(said)

    wait_until(seen, lambda: f"the reloader sees the change; the daemon says {lines.seen}")


# In this process


def test_an_early_interrupt_is_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(using: str) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(health, "refusal", interrupt)
    with pytest.raises(SystemExit) as ended:
        execute_from_command_line(["manage.py", "linod"])
    assert ended.value.code == 130
    assert capsys.readouterr().err == ""


@pytest.mark.django_db(transaction=True)
def test_what_the_database_refuses_is_one_line_and_whole_in_the_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(using: str, name: str) -> BackgroundTask:
        raise ProgrammingError("permission denied for table linod_job\nLINE 1: SELECT")

    monkeypatch.setattr(foreground, "find_task", refuse)
    arguments = ["manage.py", "linod", "--run", "hello"]
    with pytest.raises(SystemExit) as ended:
        execute_from_command_line(arguments)
    message = "The database 'default' cannot be used: permission denied for table linod_job"
    assert (ended.value.code, capsys.readouterr().err) == (1, f"CommandError: {message}\n")
    with pytest.raises(CommandError, match=message) as raised:
        execute_from_command_line([*arguments, "--traceback"])
    assert isinstance(raised.value.__cause__, ProgrammingError)


@pytest.mark.django_db(transaction=True)
def test_called_from_code() -> None:
    BackgroundTask.objects.all().delete()
    call_command("linod", list=True)
    call_command("linod", "--once")
    with pytest.raises(SystemExit) as ended:
        call_command("linod", "--health")
    assert ended.value.code == 1
    with pytest.raises(CommandError, match="--json goes with --list"):
        call_command("linod", "--json")
    assert not Decision.objects.exists()
    assert connection.is_usable()
