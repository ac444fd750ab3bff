"""The faults that the last run of all checkers found."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from django.db import models, transaction
from django.utils import timezone

from checkdata.checking import Fault


class ProblemManager(models.Manager["Problem"]):
    """Keeps the table as the last run left it."""

    @transaction.atomic
    def replace(self, faults: Iterable[Fault]) -> None:
        """These faults stand and no others; those known before keep the date of their finding."""
        known = {Fault(row.checker, row.row, row.text): row.pk for row in self.select_for_update()}
        standing = dict.fromkeys(faults)
        self.filter(pk__in=[pk for fault, pk in known.items() if fault not in standing]).delete()
        self.bulk_create(
            Problem(checker=fault.checker, row=fault.row, text=fault.text)
            for fault in standing
            if fault not in known
        )


class Problem(models.Model):
    """A fault that still stands."""

    checker = models.CharField(max_length=100)
    row = models.CharField(max_length=200)
    text = models.TextField()
    found_at = models.DateTimeField(default=timezone.now)

    objects = ProblemManager()

    class Meta:
        ordering: ClassVar = ["pk"]

    def __str__(self) -> str:
        return f"{self.row}: {self.text}"
