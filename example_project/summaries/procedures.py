"""What ``summaries`` does in the background."""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import date

from calendars.models import Entry
from django.contrib.auth import get_user_model
from django.db import transaction
from django.utils import timezone

from linod import BaseRequest, schedule_daily
from summaries.models import MonthSummary


@schedule_daily(run_after="generate_calendar_entries")
def checksummaries(ar: BaseRequest) -> None:
    """Recompute all summaries."""
    users = list(get_user_model().objects.order_by("pk").values_list("pk", flat=True))
    tally: Counter[str] = Counter()
    for done, user in enumerate(users, start=1):
        with transaction.atomic():
            ar.guard()
            tally += _correct(user)
        ar.progress(done, len(users), "users")
    ar.info(
        "%d summaries are right now: %d were added, %d corrected, %d removed.",
        *(tally[name] for name in ("right", "added", "corrected", "removed")),
    )


def _correct(user: int) -> Counter[str]:
    """Write what is wrong in one user's summaries; says how many rows that were.

    The user's row is locked, so that the second of two runs finds what the first has written.
    """
    locked = get_user_model().objects.select_for_update().filter(pk=user)
    right = count(user) if locked.first() else {}
    rows = {row.month: row for row in MonthSummary.objects.filter(user_id=user)}
    tally = Counter(right=len(right))
    for month, (entries, minutes) in right.items():
        row = rows.pop(month, None)
        if row is None:
            tally["added"] += 1
            row = MonthSummary(user_id=user, month=month)
        elif (row.entries, row.minutes) == (entries, minutes):
            continue
        else:
            tally["corrected"] += 1
        row.entries, row.minutes = entries, minutes
        row.save()
    tally["removed"] = len(rows)
    MonthSummary.objects.filter(pk__in=[row.pk for row in rows.values()]).delete()
    return tally


def count(user: int) -> dict[date, tuple[int, int]]:
    """Number and minutes of the user's entries by the month in which they begin (local time)."""
    spans = defaultdict(list)
    for start, end in Entry.objects.filter(user_id=user).values_list("start", "end").iterator():
        minutes = max(0, int((end - start).total_seconds()) // 60)
        spans[timezone.localdate(start).replace(day=1)].append(minutes)
    return {month: (len(minutes), sum(minutes)) for month, minutes in spans.items()}
