"""How much time a user's calendar entries take in a month."""

from __future__ import annotations

from typing import ClassVar

from django.conf import settings
from django.db import models


class MonthSummary(models.Model):
    """One user's entries of one month, counted; the procedure ``checksummaries`` keeps it right."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE)
    month = models.DateField(help_text="Its first day.")
    entries = models.PositiveIntegerField(default=0)
    minutes = models.PositiveIntegerField(default=0)

    class Meta:
        verbose_name_plural = "month summaries"
        ordering: ClassVar = ["-month", "user"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["user", "month"], name="summaries_one_each_month")
        ]

    def __str__(self) -> str:
        return f"{self.user} {self.month:%Y-%m}"
