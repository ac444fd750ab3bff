"""Entries are made once for each time that a rule names, and announced once."""

from __future__ import annotations

from datetime import time, timedelta
from typing import Any

import pytest
from common.testing import TakenOver, run, run_twice_at_once, steps
from django.contrib.auth import get_user_model
from django.db import IntegrityError
from django.test import TestCase, TransactionTestCase
from django.utils import timezone
from notify.models import Message

from calendars.models import Entry, RecurringEvent
from calendars.procedures import HORIZON, event_notification_scheduler, generate_calendar_entries
from linod.exceptions import NotMine


def daily(**fields: Any) -> RecurringEvent:
    user, _made = get_user_model().objects.get_or_create(username="anna")
    event = RecurringEvent(
        **{
            "user": user,
            "summary": "Coffee",
            "minutes": 15,
            "every_unit": "daily",
            "start_date": timezone.localdate() - timedelta(days=3),
            "start_time": time(9),
        }
        | fields
    )
    event.save()
    return event


def entry(minutes: float, **fields: Any) -> Entry:
    user, _made = get_user_model().objects.get_or_create(username="anna")
    start = timezone.now() + timedelta(minutes=minutes)
    end = start + timedelta(hours=1)
    return Entry.objects.create(
        **{"user": user, "summary": "Dentist", "start": start, "end": end} | fields
    )


class GenerateTests(TestCase):
    def test_each_occurrence_in_sight_gets_one_entry(self) -> None:
        event = daily()
        lines = run(generate_calendar_entries)
        days = HORIZON.days
        assert lines == [f"INFO {days} calendar entries were made, 0 are obsolete and gone."]
        first = Entry.objects.earliest("start")
        assert timezone.localtime(first.start).time() == time(9)
        assert first.duration == timedelta(minutes=15)
        assert (first.user, first.event, first.summary) == (event.user, event, "Coffee")
        assert first.start > timezone.now()

    def test_a_second_run_doubles_nothing(self) -> None:
        daily()
        run(generate_calendar_entries)
        before = set(Entry.objects.values_list("pk", "start"))
        again = run(generate_calendar_entries)
        assert again == ["INFO 0 calendar entries were made, 0 are obsolete and gone."]
        assert set(Entry.objects.values_list("pk", "start")) == before

    def test_the_database_refuses_doubles_in_any_case(self) -> None:
        made = entry(10, event=daily())
        with pytest.raises(IntegrityError):
            entry(10, event=made.event, start=made.start)

    def test_a_changed_rule_replaces_what_is_to_come_and_nothing_else(self) -> None:
        event = daily()
        run(generate_calendar_entries)
        past = entry(-600, event=event)
        announced = Entry.objects.filter(event=event).latest("start")
        announced.notified_at = timezone.now()
        announced.save()
        by_hand = entry(600)
        event.start_time = time(14)
        event.save()
        run(generate_calendar_entries)
        kept = {past.pk, announced.pk, by_hand.pk}
        assert set(Entry.objects.filter(pk__in=kept).values_list("pk", flat=True)) == kept
        others = Entry.objects.exclude(pk__in=kept)
        assert {timezone.localtime(row.start).time() for row in others} == {time(14)}
        assert others.count() == HORIZON.days

    def test_a_rule_that_makes_no_sense_is_reported_and_the_others_are_served(self) -> None:
        broken = daily(summary="Broken")
        RecurringEvent.objects.filter(pk=broken.pk).update(every=0)
        fine = daily(summary="Fine")
        report, _total = run(generate_calendar_entries)
        assert report.startswith(f"ERROR Recurring event #{broken.pk} is left out: every: ")
        assert set(Entry.objects.values_list("event", flat=True)) == {fine.pk}

    def test_its_progress_reaches_the_end(self) -> None:
        daily(summary="Fine")
        broken = daily(summary="Broken")
        RecurringEvent.objects.filter(pk=broken.pk).update(every=0)
        assert steps(generate_calendar_entries) == [(1, 2), (2, 2)]

    def test_an_event_that_never_happens_has_no_entries(self) -> None:
        daily(every_unit="never")
        run(generate_calendar_entries)
        assert not Entry.objects.exists()

    def test_a_job_that_was_taken_over_writes_nothing(self) -> None:
        daily()
        with pytest.raises(NotMine):
            run(generate_calendar_entries, sink=TakenOver())
        assert not Entry.objects.exists()


class ReminderTests(TestCase):
    def test_entries_that_begin_soon_are_announced_once(self) -> None:
        soon = entry(20)
        entry(300, summary="Later")
        entry(-1, summary="Begun")
        assert run(event_notification_scheduler) == ["INFO 1 reminder was queued."]
        message = Message.objects.get()
        begin = timezone.localtime(soon.start)
        assert (message.user, message.subject) == (
            soon.user,
            f"Reminder: Dentist at {begin:%H:%M}",
        )
        assert run(event_notification_scheduler) == ["INFO 0 reminders were queued."]
        assert Message.objects.count() == 1

    def test_a_job_that_was_taken_over_announces_nothing(self) -> None:
        entry(20)
        with pytest.raises(NotMine):
            run(event_notification_scheduler, sink=TakenOver())
        assert not Message.objects.exists()
        assert run(event_notification_scheduler) == ["INFO 1 reminder was queued."]


class TogetherTests(TransactionTestCase):
    def test_two_runs_at_once_make_each_entry_once(self) -> None:
        for number in range(5):
            daily(summary=f"Event {number}")
        run_twice_at_once(generate_calendar_entries)
        assert Entry.objects.count() == 5 * HORIZON.days

    def test_two_runs_at_once_announce_each_entry_once(self) -> None:
        for number in range(20):
            entry(20, summary=f"Entry {number}")
        run_twice_at_once(event_notification_scheduler)
        assert Message.objects.count() == 20
