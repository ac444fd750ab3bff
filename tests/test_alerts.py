"""The mail that says that linod disabled a task."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import django
import pytest
from django.core import mail
from django.test import override_settings

from linod import alerts
from linod.models import BackgroundTask
from linod.requests import BaseRequest
from linod.testing import clock, run_due_jobs
from tests.daemons import make_task, only_these_procedures, wait_until

pytestmark = pytest.mark.django_db(transaction=True)

#: Before Django 6.0 the setting took pairs only; since then they are deprecated.
ADMIN = "admin@example.org" if django.VERSION >= (6, 0) else ("Admin", "admin@example.org")


@pytest.fixture(autouse=True)
def _site() -> Iterator[None]:
    with only_these_procedures(), override_settings(ADMINS=[ADMIN]):
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


def without_mail_server() -> override_settings:
    """Settings that lead to a port where nobody listens."""
    backend = "django.core.mail.backends.smtp.EmailBackend"
    if hasattr(mail, "mailers"):  # since Django 6.1
        options = {"host": "127.0.0.1", "port": 1}
        return override_settings(MAILERS={"default": {"BACKEND": backend, "OPTIONS": options}})
    return override_settings(EMAIL_BACKEND=backend, EMAIL_HOST="127.0.0.1", EMAIL_PORT=1)


def test_an_absent_mail_server_is_a_log_line(caplog: pytest.LogCaptureFixture) -> None:
    task = make_task(fail)
    with without_mail_server():
        task.run(BaseRequest())
        alerts.flush(10)
    assert "was not sent" in caplog.text


def test_an_hour_later_and_for_another_task_it_is_told_again() -> None:
    with clock.freeze():
        tasks = [make_task(fail, name) for name in ("one", "two")]
        for minutes, letters in ((0, 2), (59, 2), (2, 4)):
            clock.move(f"{minutes} minutes")
            for task in tasks:
                task.enable()
                task.run(BaseRequest())
            alerts.flush(10)
            assert len(mail.outbox) == letters


def test_a_failure_that_does_not_disable_is_not_told() -> None:
    task = make_task(fail, disable_after=2, max_attempts=2)
    task.run(BaseRequest())
    alerts.flush(10)
    assert mail.outbox == []


def test_a_rule_that_cannot_be_used_is_told() -> None:
    with clock.freeze():
        task = make_task(fail, every_unit="daily")
        BackgroundTask.objects.filter(pk=task.pk).update(every=0)
        clock.move("1 day")
        assert run_due_jobs() == []
    alerts.flush(10)
    (letter,) = mail.outbox
    assert "every: give a whole number from 1 on" in str(letter.body)
