"""Tests of what both sites share: ``manage.py test``, on each site."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from django.apps import apps
from django.contrib import admin
from django.core.management import call_command
from django.test import TestCase, TransactionTestCase, override_settings
from django.urls import reverse

from common.demo_data import PASSWORD, USERNAME
from linod import BackgroundTask, Procedures, login

OWN_APPS = ("notify", "inbox", "calendars", "summaries", "checkdata", "publisher")


def counts() -> dict[str, int]:
    """How many rows each of the example's models has."""
    models = [model for model in apps.get_models() if model._meta.app_label in OWN_APPS]
    return {model._meta.label: model._default_manager.count() for model in models}


class InFolder:
    """Mails and pages go to a folder of the test's own."""

    def setUp(self: Any) -> None:
        folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, folder)
        changed = override_settings(MAILDIR=folder / "maildir", PUBLISHER_ROOT=folder / "pages")
        changed.enable()
        self.addCleanup(changed.disable)


class DemoDataTests(InFolder, TestCase):
    def test_loading_it_twice_changes_nothing(self) -> None:
        call_command("load_demo")
        once = counts()
        assert sum(once.values()) > 0
        call_command("load_demo")
        assert counts() == once

    def test_lively_tasks_run_often_or_at_once_and_say_what_they_do(self) -> None:
        call_command("load_demo", "--lively=3")
        tasks = BackgroundTask.objects.all()
        assert {task.log_level for task in tasks} == {"INFO"}
        assert {task.every for task in tasks if task.every_unit == "secondly"} == {3}
        assert {task.every for task in tasks if task.every_unit == "daily"} == {1}
        requested = {task.every_unit for task in tasks if task.requested_at}
        assert requested == {"daily"}


class SiteTests(InFolder, TestCase):
    def setUp(self) -> None:
        super().setUp()
        call_command("load_demo")

    def test_the_root_leads_to_the_live_page_after_a_login(self) -> None:
        response = self.client.get("/", follow=True)
        assert response.status_code == 200
        assert "Log in" in response.text
        assert self.client.login(username=USERNAME, password=PASSWORD)
        assert "<title>Live page" in self.client.get("/", follow=True).text

    def test_the_demo_login_opens_every_page_of_the_admin(self) -> None:
        assert self.client.login(username=USERNAME, password=PASSWORD)
        own = [model for model in admin.site._registry if model._meta.app_label in OWN_APPS]
        assert own
        for model in own:
            name = f"admin:{model._meta.app_label}_{model._meta.model_name}"
            listing = self.client.get(reverse(f"{name}_changelist"))
            assert listing.status_code == 200, model
            first = model._default_manager.first()
            if first is not None:
                page = self.client.get(reverse(f"{name}_change", args=[first.pk]))
                assert page.status_code == 200, model


class ProcedureTests(InFolder, TransactionTestCase):
    def test_every_procedure_succeeds_on_the_demo_data_and_leaves_a_job(self) -> None:
        call_command("load_demo")
        for procedure in Procedures.get_list_items():
            task = BackgroundTask.objects.get(procedure=procedure)
            with self.subTest(procedure=procedure.name):
                job = task.run(login(USERNAME))
                assert job.state == "succeeded", job.error
                assert bool(job.message) == (task.log_level == "INFO")
                assert procedure.help_text
