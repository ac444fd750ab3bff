"""Tests of the workshop: its demo data, and that its work can be stopped in the middle."""

from __future__ import annotations

from datetime import timedelta

from common.testing import run
from django.core.management import call_command
from django.test import TestCase
from django.utils import timezone

from linod import BackgroundTask, Job
from linod.exceptions import JobCancelled
from workshop import demo_data, procedures


class DemoDataTests(TestCase):
    def test_there_is_a_day_of_runs_once(self) -> None:
        call_command("load_demo")
        first = set(Job.objects.values_list("pk", flat=True))
        assert len(first) > 100
        now = timezone.now()
        assert {job.state for job in Job.objects.all()} == {"succeeded", "failed"}
        for job in Job.objects.all():
            assert now - timedelta(hours=25) < job.start_time < job.end_time < now
        call_command("load_demo")
        assert set(Job.objects.values_list("pk", flat=True)) == first

    def test_the_keys_sort_by_their_moments(self) -> None:
        now = timezone.now()
        keys = [demo_data.key(now + timedelta(milliseconds=n)) for n in range(10)]
        assert keys == sorted(keys)
        assert {key.version for key in keys} == {7}

    def test_one_task_is_paused_and_comes_back(self) -> None:
        call_command("load_demo")
        paused = BackgroundTask.objects.get(procedure=demo_data.PAUSED)
        assert paused.disabled
        assert paused.disabled_until > timezone.now()


class WorkTests(TestCase):
    def test_suppliers_answer_or_not(self) -> None:
        lines = run(procedures.ask_suppliers, silent=0, pause=0)
        assert len(lines) == 3
        with self.assertRaisesMessage(ConnectionError, "Copper Lane does not answer"):
            run(procedures.ask_suppliers, silent=1, pause=0)

    def test_work_stops_when_it_is_asked_to(self) -> None:
        class Stopping:
            """Asks the body to stop as soon as it shows progress."""

            def progress(self, done: float, total: float | None, text: str) -> None:
                raise JobCancelled("enough")

            def guard(self) -> None:
                """Nobody takes this over."""

        for work in (procedures.import_orders, procedures.check_links, procedures.back_up):
            with self.assertRaisesMessage(JobCancelled, "enough"):
                run(work, sink=Stopping())
