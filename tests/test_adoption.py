"""Procedures from what a site has already: management commands, and jobs of ``schedule``."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from datetime import time
from typing import Any

import pytest
import schedule
from django.core.management import BaseCommand, CommandError

from linod import Procedures, adopt_schedule, command_procedure
from linod.capture import Capture
from linod.exceptions import DuplicateProcedure
from linod.procedures import declare
from linod.requests import BaseRequest
from linod.running import Body, Outcome
from tests.daemons import only_these_procedures


@pytest.fixture(autouse=True)
def _registry() -> Iterator[None]:
    with only_these_procedures():
        yield
    schedule.clear()


class Talkative(BaseCommand):
    """A management command that says things in all the usual ways."""

    def add_arguments(self, parser: Any) -> None:
        parser.add_argument("what")
        parser.add_argument("--days", type=int, default=1)
        parser.add_argument("--fail", action="store_true")

    def handle(self, *args: Any, **options: Any) -> str:
        self.stdout.write(f"What: {options['what']}, days: {options['days']}")
        self.stdout.write(self.style.SUCCESS("two\nlines"))
        self.stderr.write("a complaint")
        self.stdout.write("no end of line", ending="")
        if options["fail"]:
            raise CommandError("it failed")
        return ""


@pytest.fixture
def _talkative(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("django.core.management.get_commands", lambda: {"talk": Talkative()})


def run(name: str) -> tuple[Outcome, list[str]]:
    log = Capture(logging.INFO)
    outcome = Body(Procedures.find(name), BaseRequest(capture=log), log).call()
    return outcome, [line.split(" ", 2)[-1] for line in log.drain_all().splitlines()]


@pytest.mark.usefixtures("_talkative")
def test_what_a_command_prints_is_in_the_job_s_log() -> None:
    declared = command_procedure(
        "talk", "mail", options={"days": 3}, every_unit="daily", at="06:00"
    )
    assert declared is Procedures.talk
    assert declared.every_unit == "daily"
    assert declared.help_text == "Run the management command talk."
    outcome, lines = run("talk")
    assert outcome == Outcome("succeeded")
    assert lines == [
        "INFO What: mail, days: 3", "INFO two", "INFO lines", "WARNING a complaint",
        "INFO no end of line",
    ]  # fmt: skip


@pytest.mark.usefixtures("_talkative")
def test_a_command_that_fails_is_a_failed_job() -> None:
    command_procedure("talk", "mail", "--fail", name="talk_and_fail")
    outcome, lines = run("talk_and_fail")
    assert outcome.state == "failed"
    assert outcome.error.endswith("CommandError: it failed\n")
    assert "INFO no end of line" in lines


def test_an_unknown_command_or_option_is_told_by_the_job() -> None:
    command_procedure("clearsession")
    outcome, _lines = run("clearsession")
    assert "CommandError: Unknown command: 'clearsession'" in outcome.error
    command_procedure("check", options={"colour": "red"})
    assert "Unknown option(s) for check command: colour" in run("check")[0].error


@pytest.mark.django_db
def test_a_real_command_runs() -> None:
    command_procedure("clearsessions", every_unit="daily")
    assert run("clearsessions") == (Outcome("succeeded"), [])


def test_two_of_one_command_need_two_names() -> None:
    command_procedure("talk", "mail")
    with pytest.raises(DuplicateProcedure) as caught:
        command_procedure("talk", "spam")
    text = str(caught.value)
    assert f"{__name__}.command_procedure('talk mail')" in text
    assert f"{__name__}.command_procedure('talk spam')" in text
    assert command_procedure("talk", "spam", name="talk_spam") is Procedures.talk_spam


# Jobs of the package ``schedule``

CALLS: list[Any] = []


def tidy(*args: Any, **options: Any) -> str:
    """Tidy up.

    And more.
    """
    CALLS.append((args, options))
    return "tidied"


def feed(cat: str) -> None: ...


async def fetch() -> str:
    return "fetched"


def test_every_kind_of_job_becomes_a_procedure() -> None:
    def nightly() -> None: ...
    def yearly_quarter() -> None: ...
    def on_the_half() -> None: ...
    def on_mondays() -> None: ...

    schedule.every(10).minutes.do(tidy, 1, days=2)
    schedule.every().day.at("03:30").do(nightly)
    schedule.every(13).weeks.do(yearly_quarter)
    schedule.every(2).hours.at(":30").do(on_the_half)
    schedule.every().monday.at("13:15").do(on_mondays)
    schedule.every(30).seconds.do(fetch)
    adopted = adopt_schedule()
    assert {each.name: each.kwargs for each in adopted} == {
        "tidy": {"every_unit": "minutely", "every": 10},
        "nightly": {"every_unit": "daily", "every": 1, "start_time": time(3, 30)},
        "yearly_quarter": {"every_unit": "weekly", "every": 13},
        "on_the_half": {"every_unit": "hourly", "every": 2, "start_time": time(0, 30)},
        "on_mondays": {
            "every_unit": "weekly", "every": 1, "monday": True, "start_time": time(13, 15),
        },
        "fetch": {"every_unit": "secondly", "every": 30},
    }  # fmt: skip
    assert list(Procedures) == adopted
    assert Procedures.tidy.help_text == "Tidy up."
    assert schedule.get_jobs() == []  # nothing runs twice
    assert adopt_schedule() == []
    assert run("tidy")[0] == Outcome("succeeded", result="tidied")
    assert CALLS == [((1,), {"days": 2})]
    assert run("fetch")[0] == Outcome("succeeded", result="fetched")


def test_another_scheduler_than_the_package_s_own() -> None:
    mine = schedule.Scheduler()
    mine.every().hour.do(feed, "Tom")
    schedule.every().hour.do(tidy)
    assert [each.name for each in adopt_schedule(mine)] == ["feed"]
    assert len(schedule.get_jobs()) == 1


def test_what_has_no_counterpart_is_refused_and_nothing_is_adopted() -> None:
    schedule.every().hour.do(tidy)
    makers: list[Callable[[], schedule.Job]] = [
        lambda: schedule.every(5).to(10).minutes.do(feed, "Tom"),
        lambda: schedule.every().hour.until("2099-01-01").do(feed, "Tom"),
        lambda: schedule.every().hour.do(lambda: None),
        lambda: schedule.every(1.5).hours.do(feed, "Tom"),  # type: ignore[arg-type]
    ]
    for make in makers:
        job = make()
        with pytest.raises(ValueError, match=r"can(not)? be adopted"):
            adopt_schedule()
        assert len(Procedures) == 0
        assert len(schedule.get_jobs()) == 2
        schedule.cancel_job(job)


def test_one_function_in_two_jobs_is_refused_and_nothing_is_adopted() -> None:
    schedule.every().monday.do(tidy)
    schedule.every().thursday.do(tidy)
    with pytest.raises(DuplicateProcedure, match=r"the name 'tidy': Job.* and Job"):
        adopt_schedule()
    schedule.clear()
    schedule.every().hour.do(feed, "Tom")
    schedule.every().hour.do(tidy)
    declare(tidy)
    with pytest.raises(DuplicateProcedure, match=r"'tidy': .*test_adoption.tidy \(.* and Job"):
        adopt_schedule()
    assert [each.name for each in Procedures] == ["tidy"]
    assert len(schedule.get_jobs()) == 2
