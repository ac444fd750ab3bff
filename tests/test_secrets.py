"""What a body gives away by mistake is masked before anything of it is kept or shown."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import django
import pytest
from django.apps import apps
from django.contrib.auth.models import User
from django.core import mail
from django.test import Client, override_settings
from django.urls import reverse

from linod import alerts
from linod.loghandler import LinodHandler
from linod.models import BackgroundTask, Job
from linod.requests import BaseRequest
from tests.daemons import make_task, only_these_procedures
from tests.logs import serving
from tests.waiting import DEADLINE, wait_until

pytestmark = pytest.mark.django_db(transaction=True)

SAID = (
    "key canary-1 of https://robin:canary-2@shop.example/ with password=canary-3,"
    " Authorization: Bearer canary-4"
)
#: What has to be seen instead: that something was said there.
SEEN = "key *** of https://***@shop.example/ with password=***"
ADMIN = "admin@example.org" if django.VERSION >= (6, 0) else ("Admin", "admin@example.org")


@pytest.fixture(autouse=True)
def _site(tmp_path: Path) -> Iterator[None]:
    own = {"SITE": "tests", "RUN_DIR": "/nowhere", "LOG_DIR": str(tmp_path)}
    with (
        only_these_procedures(),
        override_settings(ADMINS=[ADMIN], SHOP_API_KEY="canary-1", LINOD=own),
    ):
        BackgroundTask.objects.all().delete()
        yield
        alerts.flush(10)


def give_away(ar: Any) -> None:
    """Say what must not be said, in each way there is."""
    ar.info(SAID)
    logging.getLogger("shop").warning(SAID)
    ar.progress(1, 2, SAID)
    raise RuntimeError(SAID)


def addresses(task: BackgroundTask, job: Job) -> Iterator[str]:
    yield from (reverse("linod:live"), reverse("linod:state"))
    for name in ("backgroundtask", "job", "decision", "daemon"):
        yield reverse(f"admin:linod_{name}_changelist")
    for name in ("backgroundtask_change", "backgroundtask_why"):
        yield reverse(f"admin:linod_{name}", args=[task.pk])
    for name in ("job_change", "job_live", "job_log"):
        yield reverse(f"admin:linod_{name}", args=[job.pk])
    for line in task.decisions.all():
        yield reverse("admin:linod_decision_change", args=[line.pk])


def test_no_page_no_row_no_file_and_no_mail_has_a_secret(tmp_path: Path) -> None:
    task = make_task(give_away)
    file = LinodHandler(str(tmp_path))
    logging.getLogger().addHandler(file)
    try:
        with serving(tmp_path):
            job = task.run(BaseRequest())
            file.flush(DEADLINE)
    finally:
        logging.getLogger().removeHandler(file)
        file.close()
    wait_until(lambda: len(mail.outbox) == 1, "a mail is sent")
    boss, found = Client(), {}
    boss.force_login(User.objects.create_superuser("boss"))
    for address in addresses(task, job):
        response = boss.get(address)
        assert response.status_code == 200
        content = response.getvalue() if response.streaming else response.content
        found[address] = content.decode()
    for model in apps.get_app_config("linod").get_models():
        found[model.__name__] = str(list(model._default_manager.values()))
    found["file"] = "".join(path.read_text() for path in tmp_path.glob("*.log"))
    found["mail"] = str(mail.outbox[0].body)
    assert [place for place, text in found.items() if "canary" in text] == []
    shown = {place for place, text in found.items() if SEEN in text}
    task_page, job_page = (
        reverse(f"admin:linod_{name}_change", args=[row.pk])
        for name, row in (("backgroundtask", task), ("job", job))
    )
    assert shown >= {"BackgroundTask", "Job", "JobLog", "Decision", "file", "mail"}
    assert shown >= {task_page, job_page, reverse("linod:live")}


def test_a_result_is_kept_without_secrets() -> None:
    job = make_task(lambda ar: {"said": [SAID]}, "answer").run(BaseRequest())
    (said,) = Job.objects.get(pk=job.pk).result["said"]
    assert said.startswith(SEEN)
    assert "canary" not in said
