"""The mail that says that linod disabled a task."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.core import mail
from django.test import override_settings

from linod import alerts
from linod.models import BackgroundTask
from linod.requests import BaseRequest
from tests.daemons import make_task, only_these_procedures, wait_until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _site() -> Iterator[None]:
    admins = [("Admin", "admin@example.org")]
    with only_these_procedures(), override_settings(ADMINS=admins):
        BackgroundTask.objects.all().delete()
        yield
        alerts.flush(10)


def fail(ar: Any) -> None:
    """Fail."""
    raise ValueError("no such account")


def test_a_failure_that_disables_is_told_once_an_hour() -> None:
    task = make_task(fail)
    task.run(BaseRequest())
    wait_until(lambda: len(mail.outbox) == 1, "a mail is sent")
    (letter,) = mail.outbox
    assert letter.to == ["admin@example.org"]
    assert f"{task} was disabled" in letter.subject
    assert "ValueError: no such account" in str(letter.body)
    task.enable()
    task.run(BaseRequest())
    alerts.flush(10)
    task.refresh_from_db()
    assert task.disabled
    assert len(mail.outbox) == 1


def test_what_people_do_is_not_told() -> None:
    task = make_task(fail)
    task.disable("on holiday", user="anna")
    task.disable("for a reason of the site's code")
    alerts.flush(10)
    assert mail.outbox == []


def test_an_absent_mail_server_is_a_log_line(caplog: pytest.LogCaptureFixture) -> None:
    task = make_task(fail)
    backend = "django.core.mail.backends.smtp.EmailBackend"
    with override_settings(EMAIL_BACKEND=backend, EMAIL_HOST="127.0.0.1", EMAIL_PORT=1):
        task.run(BaseRequest())
        alerts.flush(10)
    assert "was not sent" in caplog.text
