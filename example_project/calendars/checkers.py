"""What can be wrong with calendars."""

from __future__ import annotations

from collections.abc import Iterator

from checkdata.checking import Checker, Finding

from calendars.models import Entry, RecurringEvent
from linod.exceptions import InvalidRecurrence


class EntryChecker(Checker):
    """An entry must not end before it begins."""

    model = Entry

    def check(self, row: Entry) -> Iterator[Finding]:
        if row.end < row.start:
            yield Finding("It ends before it begins")


class RecurringEventChecker(Checker):
    """A recurring event must have a rule that can be answered."""

    model = RecurringEvent

    def check(self, row: RecurringEvent) -> Iterator[Finding]:
        try:
            _ = row.recurrence
        except InvalidRecurrence as error:
            yield Finding(f"Its rule makes no sense: {error}")
