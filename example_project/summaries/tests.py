"""Summaries say what the entries say."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Any

import pytest
from calendars.models import Entry
from common.testing import TakenOver, run, run_twice_at_once, steps
from django.contrib.auth import get_user_model
from django.test import TestCase, TransactionTestCase
from django.utils import timezone

from linod.exceptions import NotMine
from summaries.models import MonthSummary
from summaries.procedures import checksummaries


def user(name: str) -> Any:
    return get_user_model().objects.get_or_create(username=name)[0]


def entry(name: str, month: int, day: int, minutes: int, hour: int = 12) -> None:
    start = datetime(2026, month, day, hour, tzinfo=timezone.get_default_timezone())
    end = start + timedelta(minutes=minutes)
    Entry.objects.create(user=user(name), summary="x", start=start, end=end)


def summaries() -> set[tuple[str, date, int, int]]:
    rows = MonthSummary.objects.values_list("user__username", "month", "entries", "minutes")
    return set(rows)


class ChecksummariesTests(TestCase):
    def test_entries_are_counted_by_user_and_month(self) -> None:
        entry("anna", 3, 1, 30)
        entry("anna", 3, 31, 45)
        entry("anna", 4, 1, 60)
        entry("ben", 3, 15, 10)
        lines = run(checksummaries)
        assert lines == ["INFO 3 summaries are right now: 3 were added, 0 corrected, 0 removed."]
        assert summaries() == {
            ("anna", date(2026, 3, 1), 2, 75),
            ("anna", date(2026, 4, 1), 1, 60),
            ("ben", date(2026, 3, 1), 1, 10),
        }

    def test_its_progress_reaches_the_end(self) -> None:
        entry("anna", 3, 1, 30)
        entry("ben", 3, 15, 10)
        assert steps(checksummaries) == [(1, 2), (2, 2)]

    def test_a_month_begins_at_midnight_of_the_site(self) -> None:
        entry("anna", 4, 1, 30, hour=0)  # 22:00 on 31 March in UTC
        run(checksummaries)
        assert {month for _user, month, _entries, _minutes in summaries()} == {date(2026, 4, 1)}

    def test_what_is_wrong_is_mended(self) -> None:
        entry("anna", 3, 1, 30)
        entry("anna", 4, 1, 60)
        run(checksummaries)
        MonthSummary.objects.filter(month=date(2026, 3, 1)).update(minutes=7)
        MonthSummary.objects.create(user=user("ben"), month=date(2026, 1, 1), entries=1, minutes=1)
        Entry.objects.filter(user__username="anna").latest("start").delete()
        lines = run(checksummaries)
        assert lines == ["INFO 1 summaries are right now: 0 were added, 1 corrected, 2 removed."]
        assert summaries() == {("anna", date(2026, 3, 1), 1, 30)}
        assert run(checksummaries)[-1].endswith("0 were added, 0 corrected, 0 removed.")

    def test_a_broken_entry_takes_no_time(self) -> None:
        entry("anna", 3, 1, -30)
        run(checksummaries)
        assert summaries() == {("anna", date(2026, 3, 1), 1, 0)}

    def test_a_job_that_was_taken_over_writes_nothing(self) -> None:
        entry("anna", 3, 1, 30)
        with pytest.raises(NotMine):
            run(checksummaries, sink=TakenOver())
        assert summaries() == set()


class TogetherTests(TransactionTestCase):
    def test_two_runs_at_once_agree(self) -> None:
        for month in range(1, 13):
            entry("anna", month, 3, 30)
            entry("ben", month, 3, 30)
        run_twice_at_once(checksummaries)
        assert len(summaries()) == 24
