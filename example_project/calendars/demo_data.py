"""Recurring events of the demo, and one appointment that begins soon."""

from datetime import time, timedelta

from django.contrib.auth import get_user_model
from django.utils import timezone

from calendars.models import Entry, RecurringEvent


def load() -> None:
    """Make them, unless there are some."""
    if RecurringEvent.objects.exists():
        return
    users = {user.get_username(): user for user in get_user_model().objects.all()}
    monday = timezone.localdate() - timedelta(days=timezone.localdate().weekday())
    events = [
        ("robin", "Team meeting", 60, {"every_unit": "weekly", "monday": True}, time(10)),
        ("luc", "Backup check", 15, {"every_unit": "daily"}, time(9)),
        (
            "mathieu",
            "Invoices",
            120,
            {"every_unit": "monthly", "positions": "-1", **WORKDAYS},
            None,
        ),
        (
            "monique",
            "Phone duty",
            240,
            {"every_unit": "weekly", "every": 2, "friday": True},
            time(8),
        ),
    ]
    for user, summary, minutes, rule, clock in events:
        event = RecurringEvent(user=users[user], summary=summary, minutes=minutes, **rule)
        event.start_date, event.start_time = monday, clock or time(14)
        event.full_clean()
        event.save()
    start = timezone.now().replace(second=0, microsecond=0) + timedelta(minutes=20)
    Entry.objects.create(
        user=users["robin"], summary="Dentist", start=start, end=start + timedelta(minutes=45)
    )


WORKDAYS = dict.fromkeys(("monday", "tuesday", "wednesday", "thursday", "friday"), True)
