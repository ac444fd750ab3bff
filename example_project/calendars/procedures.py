"""What ``calendars`` does in the background."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import transaction
from django.utils import timezone
from notify.models import Message

from calendars.models import Entry, RecurringEvent
from linod import BaseRequest, schedule_daily, schedule_often
from linod.exceptions import InvalidRecurrence

#: How long before an entry begins its user is told.
NOTICE = timedelta(minutes=30)
#: How far into the future entries are made.
HORIZON = timedelta(days=60)


@schedule_often(300)
def event_notification_scheduler(ar: BaseRequest) -> None:
    """Queue notifications for calendar entries that begin soon."""
    now = timezone.now()
    soon = Entry.objects.unannounced(now, now + NOTICE).select_related("user")
    told = sum(_announce(ar, entry, now) for entry in soon)
    ar.info("%d %s queued.", told, "reminder was" if told == 1 else "reminders were")


def _announce(ar: BaseRequest, entry: Entry, now: datetime) -> bool:
    """Queue a reminder; False when another run was first."""
    with transaction.atomic():
        ar.guard()
        if not Entry.objects.filter(pk=entry.pk, notified_at=None).update(notified_at=now):
            return False
        begin = timezone.localtime(entry.start)
        subject = f"Reminder: {entry.summary} at {begin:%H:%M}"
        Message.objects.notify(entry.user, subject, f"It begins on {begin:%A, %d %B at %H:%M}.")
    return True


@schedule_daily
def generate_calendar_entries(ar: BaseRequest) -> None:
    """Write the calendar entries of recurring events."""
    now = timezone.now()
    events = list(RecurringEvent.objects.values_list("pk", flat=True))
    made = gone = 0
    for done, key in enumerate(events, start=1):
        try:
            added, removed = _generate(ar, key, now)
        except InvalidRecurrence as error:
            ar.error("Recurring event #%d is left out: %s", key, error)
        else:
            made, gone = made + added, gone + removed
        ar.progress(done, len(events), "events")
    ar.info("%d calendar entries were made, %d are obsolete and gone.", made, gone)


def _generate(ar: BaseRequest, key: int, now: datetime) -> tuple[int, int]:
    """Make what the event's rule names and remove what it does not name any more.

    Only entries in the future are touched, and only those whose user was not reminded of them.
    Two runs at once do not double entries: the event's row is locked (on SQLite, the database).
    """
    with transaction.atomic():
        ar.guard()
        event = RecurringEvent.objects.select_for_update().filter(pk=key).first()
        if event is None:
            return 0, 0
        wanted = set(event.recurrence.between(now, now + HORIZON))
        present = set(event.entries.filter(start__gt=now).values_list("start", flat=True))
        length = timedelta(minutes=event.minutes)
        Entry.objects.bulk_create(
            Entry(
                user_id=event.user_id,
                event=event,
                summary=event.summary,
                start=start,
                end=start + length,
            )
            for start in sorted(wanted - present)
        )
        obsolete = event.entries.filter(start__in=present - wanted, notified_at=None)
        removed, _by_model = obsolete.delete()
    return len(wanted - present), removed
