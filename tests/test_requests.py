"""What a procedure receives: its voice, its arguments, its progress, and the wish that it stops."""

from __future__ import annotations

import inspect
import logging
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.db import connection
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

from linod import BaseRequest, login
from linod.capture import Capture
from linod.exceptions import JobCancelled, JobTimedOut
from linod.requests import Cancellation, daemon_user, terminal_logger


class Sink:
    """Remembers what it is given, as whoever runs a job would."""

    def __init__(self) -> None:
        self.seen: list[tuple[Any, ...]] = []
        self.guards = 0

    def progress(self, done: float, total: float | None, text: str) -> None:
        self.seen.append((done, total, text))

    def guard(self) -> None:
        self.guards += 1


def request_at(level: str) -> tuple[BaseRequest, Capture]:
    log = Capture(getattr(logging, level))
    return BaseRequest(log_level=level, capture=log), log


def test_the_level_of_the_task_decides_what_is_said() -> None:
    ar, log = request_at("WARNING")
    ar.debug("1")
    ar.info("2")
    ar.warning("3 of %d", 5)
    ar.error("4")
    ar.critical("5")
    lines = [line.split(" ", 2)[2] for line in log.drain_all().splitlines()]
    assert lines == ["WARNING 3 of 5", "ERROR 4", "CRITICAL 5"]


async def test_every_voice_has_an_awaitable_twin() -> None:
    ar, log = request_at("DEBUG")
    await ar.adebug("a")
    await ar.ainfo("b")
    await ar.awarning("c")
    await ar.aerror("d")
    await ar.acritical("e")
    lines = [line.split(" ", 2)[2] for line in log.drain_all().splitlines()]
    assert lines == ["DEBUG a", "INFO b", "WARNING c", "ERROR d", "CRITICAL e"]


def test_a_record_is_kept_whatever_level_its_logger_has(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("shop.silent")
    logger.setLevel(logging.CRITICAL)
    log = Capture(logging.INFO)
    BaseRequest(None, logger, capture=log).info("heard")
    assert log.drain_all().endswith("INFO heard\n")
    assert [record.getMessage() for record in caplog.records] == ["heard"]


def test_a_record_names_the_line_that_spoke(caplog: pytest.LogCaptureFixture) -> None:
    frame = inspect.currentframe()
    assert frame is not None
    BaseRequest().warning("here", stack_info=True)
    line = frame.f_lineno - 1
    (record,) = caplog.records
    assert (record.pathname, record.lineno) == (__file__, line)
    assert record.funcName == "test_a_record_names_the_line_that_spoke"
    assert "BaseRequest().warning" in str(record.stack_info)


def test_an_exception_is_told_with_its_traceback() -> None:
    ar, log = request_at("INFO")
    error = ValueError("given")
    try:
        raise KeyError("handled")
    except KeyError:
        ar.exception("first")
    ar.error("second", exc_info=error)
    ar.warning("third", extra={"colour": "red"})
    text = log.drain_all()
    assert "ERROR first\nTraceback" in text
    assert "KeyError: 'handled'" in text
    assert "ERROR second\nValueError: given" in text
    with pytest.raises(TypeError, match=r"ar.log\(\) knows no option 'colour'"):
        ar.info("fourth", colour="red")


def test_a_level_that_no_list_knows_counts_as_info() -> None:
    log = Capture(logging.DEBUG)
    ar = BaseRequest(log_level="LOUD", capture=log)
    ar.debug("quiet")
    ar.info("heard")
    assert log.drain_all().endswith("INFO heard\n")


def test_arguments_are_the_procedure_s_own() -> None:
    given = {"days": 7}
    ar = BaseRequest(arguments=given)
    ar.arguments["days"] = 8
    assert given == {"days": 7}
    assert BaseRequest().arguments == {}


@pytest.mark.parametrize("broken", [[1, 2], "{days: 7", 7])
def test_arguments_that_are_no_object_are_refused_where_they_are_read(broken: Any) -> None:
    ar = BaseRequest(arguments=broken)
    with pytest.raises(TypeError, match="arguments: must be a JSON object, not "):
        _ = ar.arguments


def test_progress_reaches_whoever_runs_the_job() -> None:
    sink = Sink()
    ar = BaseRequest(sink=sink)
    ar.progress(1)
    ar.progress(2, 5, "two \ud800")
    assert sink.seen == [(1, None, ""), (2, 5, "two \\ud800")]
    BaseRequest().progress(3)  # nobody runs it: nobody hears


@pytest.mark.parametrize(("done", "total"), [(float("nan"), None), (1, float("inf"))])
def test_progress_is_a_finite_number(done: float, total: float | None) -> None:
    with pytest.raises(ValueError, match="takes finite numbers, not"):
        BaseRequest(sink=Sink()).progress(done, total)
    with pytest.raises(TypeError, match="must be real number, not str"):
        BaseRequest(sink=Sink()).progress("half")  # type: ignore[arg-type]


def test_the_first_reason_to_stop_stands() -> None:
    cancellation = Cancellation()
    ar = BaseRequest(cancellation=cancellation, sink=Sink())
    ar.check_cancelled()
    cancellation.set("too long", JobTimedOut)
    cancellation.set("somebody cancelled it", JobCancelled)
    for check in (ar.check_cancelled, lambda: ar.progress(1)):
        with pytest.raises(JobTimedOut, match="too long"):
            check()


def test_guard_asks_whoever_runs_the_job() -> None:
    sink = Sink()
    BaseRequest(sink=sink).guard()
    assert sink.guards == 1
    BaseRequest().guard()  # a request from the shell: there is no job to lose


def test_login_speaks_to_the_current_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    ar = login()
    assert ar.user is None
    ar.debug("not shown")
    ar.info("%d pages", 72)
    logging.getLogger("linod.terminal").warning("another logger of that name")
    assert capsys.readouterr().out == "72 pages\n"
    assert login().logger is terminal_logger()


@pytest.mark.django_db
def test_login_finds_the_user() -> None:
    users = get_user_model()
    robin = users.objects.create_user("robin")
    assert login("robin").user == robin
    users.objects.create_user("zoe")
    with pytest.raises(
        users.DoesNotExist, match=r"^There is no user 'robi', did you mean 'robin'\?$"
    ):
        login("robi")
    with pytest.raises(users.DoesNotExist, match=r"^There is no user 'peter'$"):
        login("peter")


@pytest.mark.django_db
def test_the_daemon_looks_for_its_user_only(caplog: pytest.LogCaptureFixture) -> None:
    with (
        override_settings(LINOD={"DAEMON_USER": "robi"}),
        CaptureQueriesContext(connection) as seen,
    ):
        assert daemon_user() is None
    assert len(seen) == 1
    assert "there is no user 'robi'" in caplog.text
