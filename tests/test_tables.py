"""The tables that people know, to the letter, and the action behind "Run now"."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.core.exceptions import PermissionDenied
from django.utils import translation

from linod import BackgroundTasks, LogLevels, Procedures, RunJob, show
from linod.models import BackgroundTask
from linod.procedures import declare
from linod.requests import BaseRequest
from linod.sync import sync
from tests.daemons import only_these_procedures

LOG_LEVELS = """\
========== ========== ===============
 value      text       Numeric value
---------- ---------- ---------------
 DEBUG      DEBUG      10
 INFO       INFO       20
 WARNING    WARNING    30
 ERROR      ERROR      40
 CRITICAL   CRITICAL   50
========== ========== ===============
"""

PROCEDURES = """\
=========================== =========================== =========================== ================================
 value                       name                        text                        Suggested recurrency
--------------------------- --------------------------- --------------------------- --------------------------------
 send_pending_emails_often   send_pending_emails_often   send_pending_emails_often   every=300, every_unit=secondly
 checkdata                   checkdata                   checkdata                   every=1, every_unit=daily
=========================== =========================== =========================== ================================
"""  # noqa: E501

TASKS = """\
===== =========================== =============== ========== =============
 No.   Background procedure        Logging level   Disabled   Status
----- --------------------------- --------------- ---------- -------------
 1     send_pending_emails_often   WARNING         No         Not started
 2     checkdata                   INFO            Yes        Disabled
===== =========================== =============== ========== =============
"""


@pytest.fixture(autouse=True)
def _registry() -> Iterator[None]:
    with only_these_procedures():
        declare(lambda: None, "send_pending_emails_often", every_unit="secondly", every=300)
        declare(lambda: None, "checkdata", every_unit="daily")
        yield


def test_log_levels(capsys: pytest.CaptureFixture[str]) -> None:
    show(LogLevels)
    assert capsys.readouterr().out == LOG_LEVELS


def test_procedures(capsys: pytest.CaptureFixture[str]) -> None:
    show(Procedures)
    assert capsys.readouterr().out == PROCEDURES


def test_headings_are_in_the_language_of_the_reader(capsys: pytest.CaptureFixture[str]) -> None:
    with translation.override("de"):
        show(Procedures)
    heading = capsys.readouterr().out.splitlines()[1]
    assert heading.split() == ["Wert", "Name", "Text", "Vorgeschlagene", "Wiederholung"]


@pytest.mark.parametrize("every", ["abc", None, [1, 2], 2.0])
def test_procedures_are_shown_as_they_were_declared(
    every: object, capsys: pytest.CaptureFixture[str]
) -> None:
    found = declare(lambda: None, "odd", every_unit="daily", every=every)
    show(Procedures)
    assert f" every={every}, every_unit=daily\n" in capsys.readouterr().out
    assert found.every_value == every


@pytest.mark.django_db
def test_background_tasks(capsys: pytest.CaptureFixture[str]) -> None:
    BackgroundTask.objects.all().delete()
    sync()
    BackgroundTask.objects.get(procedure=Procedures.checkdata).disable("for this test")
    show(BackgroundTasks)
    assert capsys.readouterr().out == TASKS


@pytest.mark.django_db
def test_an_empty_table_has_its_headings(capsys: pytest.CaptureFixture[str]) -> None:
    BackgroundTask.objects.all().delete()
    show(BackgroundTasks)
    lines = capsys.readouterr().out.splitlines()
    assert (
        lines[0] == lines[3] == "===== ====================== =============== ========== ========"
    )
    assert len(lines) == 4


@pytest.mark.django_db
def test_run_job_asks_the_daemons_on_somebody_s_behalf() -> None:
    users = get_user_model()
    BackgroundTask.objects.all().delete()
    first, second = sync()
    robin = users.objects.create_user("robin")
    with pytest.raises(PermissionDenied, match="robin has no permission to run background tasks"):
        RunJob.run(BaseRequest(robin), first)
    assert not BackgroundTask.objects.filter(requested_at__isnull=False).exists()
    robin.user_permissions.add(Permission.objects.get(codename="run_backgroundtask"))
    robin = users.objects.get(pk=robin.pk)
    assert RunJob.run(BaseRequest(robin), first, second) == 2
    first.refresh_from_db()
    assert first.requested_at is not None
    assert first.requested_by == robin
    assert RunJob.run(BaseRequest(), second) == 1  # the site itself needs no permission
    assert str(RunJob.label) == "Run now"
    assert str(RunJob.help_text) == "Manually run this task immediately."
    assert BackgroundTasks.run_now is RunJob
