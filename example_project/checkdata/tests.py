"""Broken rows are found, reported, and mended where that needs no thinking."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

from calendars.models import Entry, RecurringEvent
from common.testing import run, steps
from common.tests import InFolder
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.test import TestCase
from django.utils import timezone
from notify.models import MailMode, MailPreference, Message
from publisher.models import Page

from checkdata.checking import Checker
from checkdata.models import Problem
from checkdata.procedures import checkdata
from linod import BackgroundTask, Procedures


def total(found: int, fixed: int = 0) -> str:
    number = len(Checker.known)
    return f"INFO {number} checks have been run. Found {found} and fixed {fixed} problems."


class CheckdataTests(InFolder, TestCase):
    def test_its_first_line(self) -> None:
        assert Procedures.checkdata.help_text == "Run all data checkers."

    def test_the_demo_data_is_sound(self) -> None:
        call_command("load_demo")
        lines = run(checkdata)
        assert "INFO Run 1 checkers on unbound data..." in lines
        assert "INFO Run 1 checkers on 72 pages..." in lines
        assert lines[-1] == total(0)
        assert not Problem.objects.exists()

    def test_broken_rows_are_reported_and_kept(self) -> None:
        anna = get_user_model().objects.create_user("anna", "anna@example.com")
        get_user_model().objects.create_user("homeless")
        silent = get_user_model().objects.create_user("silent")
        MailPreference.objects.create(user=silent, mail_mode=MailMode.NEVER)
        now = timezone.now()
        old = now - timedelta(hours=2)
        Entry.objects.create(user=anna, summary="x", start=now, end=now - timedelta(hours=1))
        Message.objects.create(user=anna, subject="lost", claim=uuid4(), claimed_at=old)
        Message.objects.create(user=anna, subject="on its way", claim=uuid4(), claimed_at=now)
        Message.objects.create(user=anna, subject="refused", refusal="550 nobody here")
        event = RecurringEvent.objects.create(user=anna, summary="x", every_unit="daily")
        RecurringEvent.objects.filter(pk=event.pk).update(every=0)
        draft = Page.objects.create(slug="draft", title="Draft", published=False)
        Page.objects.create(slug="bare", title=" ", body="", parent=draft)
        lines = run(checkdata)
        assert lines[-1] == total(8)
        found = {problem.text for problem in Problem.objects.all()}
        assert "It ends before it begins" in found
        assert "The mail server refuses it: 550 nobody here" in found
        assert "This user wants mail and has no address" in found
        assert "It was being mailed when the run ended; nobody knows whether it arrived" in found
        assert {"It has no title", "It has no text"} < found
        assert "Nobody finds it: Draft is not published" in found
        assert any(text.startswith("Its rule makes no sense: every: ") for text in found)
        assert sum(line.startswith("WARNING ") for line in lines) == 8

    def test_its_progress_reaches_the_end_of_each_kind_of_row(self) -> None:
        for slug in "ab":
            Page.objects.create(slug=slug, title=slug, body="text")
        said = steps(checkdata)
        assert said[0] == (1, 1)  # unbound data
        assert {(1, 2), (2, 2)} < set(said)
        assert all(1 <= done <= total for done, total in said)

    def test_known_problems_keep_their_date_and_mended_ones_go(self) -> None:
        page = Page.objects.create(slug="a", title="A", body="")
        Page.objects.create(slug="b", title="B", body="")
        run(checkdata)
        before = dict(Problem.objects.values_list("row", "found_at"))
        Page.objects.filter(pk=page.pk).update(body="text")
        Page.objects.create(slug="c", title="C", body="")
        run(checkdata)
        after = dict(Problem.objects.values_list("row", "found_at"))
        assert len(before) == len(after) == 2
        [kept] = before.keys() & after.keys()
        assert before[kept] == after[kept]

    def test_a_missing_task_is_made_only_when_asked(self) -> None:
        BackgroundTask.objects.filter(procedure=Procedures.checkdata).delete()
        lines = run(checkdata)
        text = "Unbound data: (\N{BLACK STAR}) No background task for checkdata"
        assert f"WARNING {text}" in lines
        assert lines[-1] == total(1)
        lines = run(checkdata, fix=True)
        assert f"INFO {text}: fixed" in lines
        assert lines[-1] == total(0, fixed=1)
        assert BackgroundTask.objects.filter(procedure=Procedures.checkdata).exists()
        assert not Problem.objects.exists()
