"""The handler: what it sends, that it never waits, what becomes of it in forks and at the end."""

from __future__ import annotations

import logging
import logging.config
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from linod import logsender
from linod.exceptions import JobTimedOut
from linod.loghandler import LinodHandler, logging_config
from tests.logs import logging_to, messages_in, records_in, serving, wait_for_message
from tests.waiting import DEADLINE, wait_until

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def path(folder: Path) -> Path:
    return folder / "lino.log"


def test_a_record_as_it_stands_in_the_file(folder: Path, path: Path) -> None:
    with serving(folder), logging_to(folder, "shop.orders") as (logger, handler):
        logger.warning("Order %d of %s", 7, "Tõnu")
        handler.flush(DEADLINE)
        assert handler._sender.pending == 0
        line = path.read_text().splitlines()[1]
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} WARNING shop\.orders: Order 7 of Tõnu"
        rf" #{os.getpid()}-[0-9a-f]{{8}}:1",
        line,
    )


def test_a_traceback_stands_below(folder: Path, path: Path) -> None:
    with serving(folder), logging_to(folder) as (logger, handler):
        try:
            raise ValueError("two\nlines")
        except ValueError:
            logger.exception("It failed", stack_info=True)
        handler.flush(DEADLINE)
    first, *below = path.read_text().splitlines()[1:]
    assert "It failed" in first
    assert below[0] == "    Traceback (most recent call last):"
    assert "    ValueError: two" in below
    assert "    lines" in below
    assert "    Stack (most recent call last):" in below
    assert first.endswith(f"+{len(below)}")


def test_a_record_whose_arguments_do_not_fit_is_told(folder: Path, path: Path) -> None:
    with serving(folder), logging_to(folder) as (logger, handler):
        logger.info("%d pieces", "many")
        handler.flush(DEADLINE)
    (message,) = messages_in(path)
    assert message.startswith("A log message could not be formatted: '%d pieces' (")
    assert "TypeError" in message


def test_a_formatter_of_the_site_is_used(folder: Path, path: Path) -> None:
    with serving(folder), logging_to(folder) as (logger, handler):
        handler.setFormatter(logging.Formatter("<%(message)s>"))
        try:
            raise ValueError("x")
        except ValueError:
            logger.exception("It failed")
        handler.flush(DEADLINE)
    assert messages_in(path) == ["<It failed>"]
    assert "    ValueError: x\n" in path.read_text()


def test_secrets_do_not_leave_the_process(folder: Path, path: Path) -> None:
    secret = settings.SECRET_KEY
    with serving(folder), logging_to(folder) as (logger, handler):
        logger.info("key %s, %s", secret, "postgres://robin:hunter2@db/site")
        try:
            raise ValueError(f"{secret} Authorization: Basic cm9iaW46")
        except ValueError:
            logger.exception("Cookie: sessionid=abc")
        handler.flush(DEADLINE)
    text = path.read_text()
    assert "key ***, postgres://***@db/site" in text
    assert "ValueError: *** Authorization: ***" in text
    assert "Cookie: ***" in text
    for each in (secret, "hunter2", "cm9iaW46", "sessionid"):
        assert each not in text


def test_what_is_too_long_loses_its_middle(folder: Path, path: Path) -> None:
    with serving(folder), logging_to(folder) as (logger, handler):
        logger.info("head%stail", "\x1b\u20ac" * 500_000)
        logger.info("next")
        handler.flush(DEADLINE)
    first, second = messages_in(path)
    assert second == "next"
    assert first.startswith("head\\x1b€")
    assert first.endswith("€tail")
    assert "characters left out" in first


def test_threads_keep_their_order(folder: Path, path: Path) -> None:
    with serving(folder), logging_to(folder) as (logger, handler):

        def work(name: int) -> None:
            for number in range(500):
                logger.info("%d %d", name, number)

        threads = [threading.Thread(target=work, args=(name,)) for name in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        handler.flush(20)
    found = [tuple(map(int, message.split())) for message in messages_in(path)]
    assert len(found) == 4000
    for name in range(8):
        assert [number for who, number in found if who == name] == list(range(500))


def test_nothing_is_lost_while_servers_come_and_go(folder: Path, path: Path) -> None:
    with logging_to(folder) as (logger, handler):
        for round_ in range(5):
            for number in range(200):
                logger.info("%d", round_ * 400 + number)
            with serving(folder):
                for number in range(200, 400):
                    logger.info("%d", round_ * 400 + number)
                if round_ % 2:
                    handler.flush(DEADLINE)
        with serving(folder):
            handler.flush(DEADLINE)
    assert messages_in(path) == [str(number) for number in range(2000)]


def test_what_is_written_already_is_not_waited_for_again(
    folder: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that was lost when everything was written and nothing heard."""
    expected: list[str] = []
    with serving(folder), logging_to(folder) as (logger, handler):
        sender = handler._sender
        for round_ in range(3):
            with monkeypatch.context() as patch:
                patch.setattr(sender, "_hear", lambda: None)
                for number in range(600):
                    logger.info("%d %d %s", round_, number, "x" * 500)
                    expected.append(f"{round_} {number}")
                wait_until(lambda: len(records_in(path)) == len(expected), "all is written")
                with sender._lock:
                    sender._lose()
            handler.flush(DEADLINE)
            assert sender.pending == 0
    assert [" ".join(message.split()[:2]) for message in messages_in(path)] == expected


def test_without_a_server_nobody_waits_and_what_is_dropped_is_counted(
    folder: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logsender, "MAX_RECORDS", 100)
    with logging_to(folder) as (logger, handler):
        longest = 0.0
        for number in range(1000):
            begin = time.perf_counter()
            logger.log(logging.ERROR if number >= 990 else logging.INFO, "record %d", number)
            longest = max(longest, time.perf_counter() - begin)
        assert longest < 0.05
        assert handler._sender.pending == 75 + 10  # errors have places of their own
        with serving(folder):
            handler.flush(DEADLINE)
            logger.info("after")
            handler.flush(DEADLINE)
    messages = messages_in(path)
    expected = [f"record {number}" for number in (*range(75), *range(990, 1000))]
    assert messages[:85] == expected
    assert re.fullmatch(
        r"915 records dropped since [-0-9: ]{19}: no room, no log server", messages[85]
    )
    assert messages[86:] == ["after"]


def test_large_records_fill_the_window_by_their_bytes(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logsender, "MAX_BYTES", 100_000)
    with logging_to(folder) as (logger, handler):
        for _ in range(100):
            logger.error("x" * 5000)
        assert 15 <= handler._sender.pending <= 20
        assert handler._sender._bytes < 110_000


def test_a_burst_waits_for_a_server_that_answers(
    folder: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logsender, "MAX_RECORDS", 50)
    monkeypatch.setattr(logsender, "MAX_WAIT", 5.0)
    with serving(folder), logging_to(folder) as (logger, handler):
        logger.info("first")
        handler.flush(DEADLINE)
        for number in range(2000):
            logger.info("%d", number)
        handler.flush(DEADLINE)
    assert messages_in(path) == ["first", *map(str, range(2000))]


def test_the_keeper_delivers_what_is_said_last(folder: Path, path: Path) -> None:
    with serving(folder), logging_to(folder) as (logger, handler):
        for number in range(20):
            logger.debug("%d", number)
        wait_for_message(path, "19")
        wait_until(lambda: not handler._sender.pending, "it is acknowledged")


def test_a_keeper_with_nothing_to_do_ends(
    folder: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then the process may fork without a second thread."""
    monkeypatch.setattr(logsender, "IDLE", 0.02)
    with serving(folder), logging_to(folder) as (logger, handler):
        for message in ("one", "two"):
            logger.info(message)
            wait_for_message(path, message)
            wait_until(lambda: handler._sender._keeper is None, "the keeper ends")


def test_a_signal_s_handler_may_log(folder: Path, path: Path) -> None:
    with serving(folder), logging_to(folder) as (logger, handler):
        count = 0

        def on_alarm(*args: Any) -> None:
            nonlocal count
            count += 1
            logger.info("alarm %d", count)

        former = signal.signal(signal.SIGALRM, on_alarm)
        try:
            for number in range(3000):
                if not number % 20:  # the alarm comes while one of the next records is under way
                    signal.setitimer(signal.ITIMER_REAL, 0.00005)
                logger.info("record %d", number)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, former)
        handler.flush(DEADLINE)
    messages = messages_in(path)
    assert count > 10
    assert [each for each in messages if each[0] == "a"] == [
        f"alarm {number}" for number in range(1, count + 1)
    ]
    assert [each for each in messages if each[0] == "r"] == [
        f"record {number}" for number in range(3000)
    ]


def test_a_forked_child_has_a_sender_of_its_own(folder: Path, path: Path) -> None:
    with logging_to(folder) as (logger, handler):
        logger.info("parent 1")  # waits in the parent: the child must not send it too
        child = os.fork()
        if not child:
            logger.info("child 1")
            handler.flush(DEADLINE)
            os._exit(0)
        with serving(folder):
            os.waitpid(child, 0)
            logger.info("parent 2")
            handler.flush(DEADLINE)
            child = os.fork()  # now with a connection
            if not child:
                logger.info("child 2")
                handler.flush(DEADLINE)
                os._exit(0)
            os.waitpid(child, 0)
            logger.info("parent 3")
            handler.flush(DEADLINE)
    found = sorted(messages_in(path))
    assert [each for each in found if each[0] == "p"] == ["parent 1", "parent 2", "parent 3"]
    assert "child 2" in found
    senders = {
        re.search("#([0-9]+-[0-9a-f]{8}):1$", line)[1]  # type: ignore[index]
        for line in path.read_text().splitlines()
        if line.endswith(":1")
    }
    assert len(senders) == len({pid.partition("-")[0] for pid in senders}) >= 2


SCRIPT = """
import logging, logging.config, os, sys
from linod.loghandler import logging_config
logging.config.dictConfig(logging_config(sys.argv[1]))
"""


def run(folder: Path, *lines: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", SCRIPT + "\n".join(lines), str(folder)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_command_that_lives_for_a_moment_delivers(folder: Path, path: Path) -> None:
    with serving(folder):
        done = run(folder, "for n in range(500): logging.info('%d', n)")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert messages_in(path) == [str(number) for number in range(500)]


def test_a_child_of_multiprocessing_delivers(folder: Path, path: Path) -> None:
    with serving(folder):
        done = run(
            folder,
            "import multiprocessing, warnings",
            "warnings.simplefilter('ignore')",
            "logging.info('parent')",
            "context = multiprocessing.get_context('fork')",
            "child = context.Process(target=logging.info, args=('child',))",
            "child.start(); child.join()",
        )
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(messages_in(path)) == ["child", "parent"]


def test_a_command_without_a_server_ends_soon_and_says_what_is_lost(folder: Path) -> None:
    begin = time.monotonic()
    done = run(folder, "logging.info('1')", "logging.error('2')")
    assert time.monotonic() - begin < 5
    assert done.returncode == 0
    assert done.stderr == (f"linod: 2 log records not written, no log server answers in {folder}\n")


def test_a_command_waits_for_a_server_that_begins_again(folder: Path, path: Path) -> None:
    folder.mkdir()
    (folder / "linod.lock").touch()
    with subprocess.Popen(
        [sys.executable, "-c", f"{SCRIPT}\nlogging.info('it')\nprint(flush=True)", str(folder)],
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with serving(folder):
            assert process.wait(DEADLINE) == 0
    assert messages_in(path) == ["it"]


def test_the_module_needs_no_django(folder: Path) -> None:
    done = run(folder, "assert not [name for name in sys.modules if name.startswith('django')]")
    assert (done.returncode, done.stderr) == (0, "")


def test_one_line_in_the_settings(folder: Path, path: Path) -> None:
    config = logging_config(folder, "WARNING")
    root = logging.getLogger()
    former, level = list(root.handlers), root.level
    try:
        with serving(folder):
            logging.config.dictConfig(config)
            (handler,) = [each for each in root.handlers if isinstance(each, LinodHandler)]
            logging.getLogger("shop.one").warning("heard")
            logging.getLogger("shop.one").info("not heard")
            handler.flush(DEADLINE)
            root.removeHandler(handler)
            handler.close()
    finally:
        root.handlers[:] = former
        root.setLevel(level)
    assert records_in(path)[0].endswith("WARNING shop.one: heard")
    assert len(records_in(path)) == 1


def test_a_handler_that_was_closed_can_be_used_again(folder: Path, path: Path) -> None:
    with serving(folder), logging_to(folder) as (logger, handler):
        logger.info("one")
        handler.close()
        logger.info("two")
        handler.flush(DEADLINE)
    assert messages_in(path) == ["one", "two"]


def test_an_interrupted_call_loses_nothing_of_others(
    folder: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A body that ignores its end is interrupted wherever it is, perhaps in here."""
    with serving(folder), logging_to(folder) as (logger, handler):
        logger.info("one")
        handler.flush(DEADLINE)
        hear = handler._sender._hear

        def interrupted() -> None:
            if threading.current_thread() is threading.main_thread():
                raise JobTimedOut
            hear()

        with monkeypatch.context() as patch:
            patch.setattr(handler._sender, "_hear", interrupted)
            with pytest.raises(JobTimedOut):
                logger.warning("two")
        logger.warning("three")
        handler.flush(DEADLINE)
    assert messages_in(path) == ["one", "two", "three"]
