"""Recurring events and the calendar entries that come of them."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, ClassVar

from django.conf import settings
from django.db import models
from django.utils import timezone

from linod.mixins import RecurrenceSet


class RecurringEvent(RecurrenceSet):
    """Something that happens again and again; its occurrences become calendar entries."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE)
    summary = models.CharField(max_length=200)
    minutes = models.PositiveIntegerField("duration in minutes", default=60)

    class Meta:
        ordering: ClassVar = ["pk"]

    def __str__(self) -> str:
        return self.summary

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Write the row; what its start lacks is taken from this moment."""
        self.fill_start(timezone.now())
        super().save(*args, **kwargs)


class EntryQuerySet(models.QuerySet["Entry"]):
    """Calendar entries, chosen by adjectives."""

    def unannounced(self, after: datetime, until: datetime) -> EntryQuerySet:
        """Those that begin in this span and whose user was not told yet."""
        return self.filter(start__gt=after, start__lte=until, notified_at=None)


class Entry(models.Model):
    """An entry in somebody's calendar; ``event`` is None when a person made it by hand."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE)
    event = models.ForeignKey(
        RecurringEvent,
        models.CASCADE,
        null=True,
        blank=True,
        editable=False,
        related_name="entries",
    )
    summary = models.CharField(max_length=200)
    start = models.DateTimeField(db_index=True)
    end = models.DateTimeField()
    notified_at = models.DateTimeField(null=True, blank=True, editable=False)

    objects = EntryQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "entries"
        ordering: ClassVar = ["start", "pk"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["event", "start"], name="calendars_one_entry_each_time")
        ]

    def __str__(self) -> str:
        return self.summary

    @property
    def duration(self) -> timedelta:
        """From start to end."""
        return self.end - self.start
