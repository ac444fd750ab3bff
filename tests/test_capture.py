"""A job's log: what is kept, what is escaped, what is left out, and who else hears it."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from linod import capture
from linod.capture import HEAD, TAIL, Capture, storable


@pytest.fixture(autouse=True)
def _logging() -> Iterator[None]:
    """What a test does to the logging of this process is undone."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    filters = {handler: list(handler.filters) for handler in handlers}
    root.handlers = [handler for handler in handlers if handler is not capture.handler]
    yield
    root.handlers, root.level = handlers, level
    for handler, former in filters.items():
        handler.filters = former
    logging.Logger.manager._clear_cache()  # type: ignore[attr-defined]


@contextmanager
def capturing(level: int = logging.INFO) -> Iterator[Capture]:
    log = Capture(level)
    capture.install(level)
    token = capture.current.set(log)
    try:
        yield log
    finally:
        capture.current.reset(token)


class Heard(logging.Handler):
    """A handler of the site, as LOGGING would make it."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def test_a_line_says_when_how_loud_and_what() -> None:
    with capturing() as log:
        logging.getLogger("shop").warning("%d left", 3)
    day, time, level, text = log.drain_all().split(" ", 3)
    assert (len(day), len(time), level, text) == (10, 8, "WARNING", "3 left\n")


def test_every_logger_is_heard_once_from_the_level_on() -> None:
    hermit = logging.getLogger("shop.hermit")
    hermit.propagate = False
    hermit.addHandler(logging.NullHandler())
    with capturing(logging.INFO) as log:
        logging.getLogger().info("root")
        logging.getLogger("shop").info("shop")
        logging.getLogger("shop.deep.down").info("deep")
        hermit.info("hermit")
        logging.getLogger("shop.hermit.child").error("child")
        logging.getLogger("shop").debug("quiet")
    said = [line.rpartition(" ")[2] for line in log.drain_all().splitlines()]
    assert said == ["root", "shop", "deep", "hermit", "child"]


def test_debug_is_heard_when_the_job_wants_it() -> None:
    with capturing(logging.DEBUG) as log:
        logging.getLogger("shop").debug("detail")
    assert log.drain_all().endswith("DEBUG detail\n")


def test_outside_a_job_nothing_is_kept() -> None:
    with capturing() as log:
        pass
    logging.getLogger("shop").error("later")
    assert log.drain_all() == ""


def test_each_job_has_its_own_lines_in_threads_and_in_tasks() -> None:
    capture.install()
    logger = logging.getLogger("shop")
    logs = {name: Capture(logging.INFO) for name in ("a", "b", "c", "d")}
    meeting = threading.Barrier(2)

    def job(name: str) -> None:
        capture.current.set(logs[name])
        meeting.wait(10)
        logger.info("I am %s", name)

    threads = [threading.Thread(target=job, args=(name,)) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)

    async def ajob(name: str) -> None:
        capture.current.set(logs[name])
        await asyncio.sleep(0)
        await asyncio.gather(asyncio.create_task(child(name)), asyncio.to_thread(worker, name))

    async def child(name: str) -> None:
        logger.info("I am %s", name)

    def worker(name: str) -> None:
        logger.info("I am %s", name)

    async def both() -> None:
        await asyncio.gather(
            asyncio.create_task(ajob("c")),
            asyncio.create_task(ajob("d")),
        )

    asyncio.run(both())
    for name, times in (("a", 1), ("b", 1), ("c", 2), ("d", 2)):
        assert [line[-6:] for line in logs[name].drain_all().splitlines()] == [
            f"I am {name}"
        ] * times


def test_what_databases_refuse_is_escaped() -> None:
    with capturing() as log:
        logging.getLogger("shop").info("a\0b \ud800 \udfff \U0001f600 \xe9")
    assert log.drain_all().endswith("a\\x00b \\ud800 \\udfff \U0001f600 \xe9\n")
    assert storable("plain") == "plain"


class Broken:
    def __str__(self) -> str:
        raise ZeroDivisionError

    __repr__ = __str__


def test_a_message_that_cannot_be_formatted_does_not_end_the_job(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with capturing() as log:
        logging.getLogger("shop").info("%d of %d", 3)  # noqa: PLE1206 - that is the mistake
        logging.getLogger("shop").info(Broken())
        logging.getLogger("shop").info("%s", Broken())
        logging.getLogger("shop").info("still here")
    lines = log.drain_all().splitlines()
    assert len(lines) == 4
    assert "A log message could not be formatted: '%d of %d' (" in lines[0]
    assert lines[0].endswith("TypeError")
    assert "'Broken'" in lines[1]
    assert lines[2].endswith("ZeroDivisionError")
    assert lines[3].endswith("still here")


def test_exceptions_bring_their_traceback() -> None:
    with capturing() as log:
        try:
            raise ValueError("boom")
        except ValueError:
            logging.getLogger("shop").exception("failed")
    text = log.drain_all()
    assert "ERROR failed\nTraceback (most recent call last):" in text
    assert text.endswith("ValueError: boom\n")


def test_a_huge_line_keeps_its_head_and_its_tail() -> None:
    log = Capture(logging.INFO)
    text = "<" + "x" * (10 * 1024 * 1024) + ">"
    log.add_text(text)
    kept = log.drain_all()
    left_out = len(text) - HEAD - TAIL
    assert kept == f"{text[:HEAD]}\n... {left_out} characters left out ...\n{text[-TAIL:]}"


def test_many_lines_keep_the_first_and_the_last() -> None:
    log = Capture(logging.INFO)
    lines = [f"line {n}\n" for n in range(200_000)]
    pieces = []
    for n, line in enumerate(lines):
        log.add_text(line)
        if n % 10_000 == 0:
            pieces.append(log.drain())
    pieces.append(log.drain_all())
    kept = "".join(pieces)
    whole = "".join(lines)
    assert kept.startswith(whole[:HEAD])
    assert kept.endswith(lines[-1])
    head, mark, tail = kept.partition(" characters left out ...\n")
    head, _, left_out = head.rpartition("\n... ")
    assert mark
    assert len(head) == HEAD
    assert whole.endswith(tail)
    assert len(tail) <= TAIL
    assert len(head) + int(left_out) + len(tail) == len(whole)


def test_exactly_what_fits_is_kept_whole() -> None:
    log = Capture(logging.INFO)
    log.add_text("h" * HEAD)
    log.add_text("t" * TAIL)
    assert log.drain_all() == "h" * HEAD + "t" * TAIL
    assert log.drain_all() == ""


def test_install_is_idempotent() -> None:
    capture.install()
    handlers = list(logging.getLogger().handlers)
    capture.install()
    assert logging.getLogger().handlers == handlers
    assert handlers.count(capture.handler) == 1


def test_the_site_hears_what_it_heard_before() -> None:
    """Django's own example: the root at WARNING, one logger louder, both with one handler."""
    root, heard = logging.getLogger(), Heard()
    root.addHandler(heard)
    root.setLevel(logging.WARNING)
    loud = logging.getLogger("shop.loud")
    loud.setLevel(logging.DEBUG)
    quiet = logging.getLogger("shop.quiet")
    hermit = logging.getLogger("shop.second_hermit")
    hermit.propagate = False
    hermit.addHandler(heard)
    middle = Heard()
    quiet.addHandler(middle)
    try:
        with capturing() as log:
            loud.debug("loud debug")
            logging.getLogger("shop.loud.child").info("child info")
            quiet.info("quiet info")
            quiet.warning("quiet warning")
            hermit.info("hermit info")
            logging.getLogger("linod.job").info("linod info")
    finally:
        loud.setLevel(logging.NOTSET)
    assert heard.lines == ["loud debug", "child info", "quiet warning", "linod info"]
    assert middle.lines == ["quiet warning"]
    said = [line.partition(" INFO ")[2] for line in log.drain_all().splitlines()]
    assert said == ["child info", "quiet info", "", "hermit info", "linod info"]


def test_a_root_without_handlers_keeps_its_last_resort(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(root, "level", logging.WARNING)
    monkeypatch.setattr(logging, "lastResort", Heard())
    logging.lastResort.setLevel(logging.WARNING)  # type: ignore[union-attr] # as Python's own
    capture.install()
    logging.getLogger("shop").warning("heard")
    logging.getLogger("shop").info("not heard")
    elsewhere = logging.getLogger("shop.elsewhere")
    monkeypatch.setattr(elsewhere, "handlers", [logging.NullHandler()])
    elsewhere.warning("heard by its own handler")
    assert isinstance(logging.lastResort, Heard)
    assert logging.lastResort.lines == ["heard"]
