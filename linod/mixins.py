"""What linod's rows share with the rest of the family: an order of their own, and a recurrence."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any, Self

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models, router, transaction
from django.utils import translation
from django.utils.translation import gettext_lazy as _
from django.utils.translation import gettext_noop

from linod import clock
from linod.choices import Recurrences
from linod.columns import LARGEST, Checked
from linod.exceptions import ChangedMeanwhile, InvalidRecurrence, MissingExtra
from linod.recurrence import Recurrence
from linod.rowrules import rule_of
from linod.rules import WEEKDAYS, as_zone, default_start

if TYPE_CHECKING:
    from dateutil.rrule import rrule


class Sequenced(Checked):
    """A row with a place among its siblings; a row without a number goes to the end.

    Numbers may have gaps, and two rows may share one: then the older row comes first. They end at
    1,000,000,000; a row that has this number, or was given a larger one by other means, stays the
    last.
    """

    seqno = models.IntegerField(
        _("No."), blank=True, help_text=_("The place in the order; empty means the end.")
    )

    class Meta:
        abstract = True

    def fill_in(self, using: str | None = None) -> None:
        """Put a row without a number at the end."""
        super().fill_in(using)
        seqno: Any = self.seqno  # None until it is saved
        if seqno is None:
            siblings = self.get_siblings(using).filter(seqno__lt=LARGEST)
            last = siblings.aggregate(last=models.Max("seqno"))["last"]
            self.seqno = (last or 0) + 1

    def get_siblings(self, using: str | None = None) -> models.QuerySet[Self]:
        """All rows that share this row's order, in their order, this one among them."""
        using = using or self._state.db or router.db_for_write(type(self), instance=self)
        return type(self)._base_manager.using(using).order_by("seqno", "pk")

    def move_up(self) -> bool:
        """Change places with the row before this one; False when this is the first."""
        return self._move(-1)

    def move_down(self) -> bool:
        """Change places with the row behind this one; False when this is the last."""
        return self._move(+1)

    def renumber_siblings(self) -> int:
        """Make room: rows that stand in the way of this row's number go behind it.

        Call it after a number was set by hand. Writes nothing but numbers, and only those that
        have to change; returns how many.
        """
        others = [row for row in self._numbers() if row[0] != self.pk]
        free = min(self.seqno + 1, LARGEST)
        wanted = []
        for pk, seqno in others:
            if self.seqno <= seqno < free:
                wanted.append((pk, seqno, free))
                free = min(free + 1, LARGEST)
        return self._write_numbers(wanted)

    def _numbers(self) -> list[tuple[Any, int]]:
        return list(self.get_siblings().values_list("pk", "seqno"))

    def _move(self, step: int) -> bool:
        with transaction.atomic(using=self.get_siblings().db):
            rows = self._numbers()
            here = next((i for i, (pk, _seqno) in enumerate(rows) if pk == self.pk), None)
            if here is None:
                raise ChangedMeanwhile(gettext_noop("%(row)s does not exist any more"), row=self)
            there = here + step
            if not 0 <= there < len(rows):
                return False
            numbers = strictly_rising([seqno for _pk, seqno in rows])
            rows[here], rows[there] = rows[there], rows[here]
            self._write_numbers([(*row, new) for row, new in zip(rows, numbers, strict=True)])
        self.refresh_from_db(fields=["seqno"])
        return True

    def _write_numbers(self, wanted: list[tuple[Any, int, int]]) -> int:
        """Write (key, old number, new number), each only where the old number still stands."""
        changes = [(pk, old, new) for pk, old, new in wanted if old != new]
        siblings = self.get_siblings()
        with transaction.atomic(using=siblings.db):
            for pk, old, new in changes:
                if not siblings.filter(pk=pk, seqno=old).update(seqno=new):
                    message = gettext_noop("The order was changed meanwhile; nothing was moved")
                    raise ChangedMeanwhile(message)
        return len(changes)


def strictly_rising(numbers: list[int], end: int = LARGEST) -> list[int]:
    """The same numbers, where repeated ones give way upwards, and from ``end`` on downwards.

    >>> strictly_rising([1, 2, 2, 3, 7])
    [1, 2, 3, 4, 7]
    >>> strictly_rising([1, 9, 9], end=9)
    [1, 8, 9]
    """
    rising: list[int] = []
    for number in numbers:
        rising.append(max(number, rising[-1] + 1) if rising else number)
    highest = range(end - len(rising) + 1, end + 1)
    return [min(pair) for pair in zip(rising, highest, strict=True)]


class RecurrenceSet(Checked):
    """The fields of a recurrence, and what they mean: :attr:`recurrence`.

    Dates and times are wall-clock ones in the row's :attr:`time_zone`.
    """

    every_unit = models.CharField(
        _("Recurrence"),
        max_length=12,
        blank=True,
        default="never",
        choices=Recurrences.as_choices(),
        help_text=_("The unit of the interval; empty means never."),
    )
    every = models.IntegerField(
        _("Repeat every"), default=1, help_text=_("How many units from one run to the next.")
    )
    start_date = models.DateField(
        _("Start date"), null=True, blank=True, help_text=_("Empty means the day it is saved.")
    )
    start_time = models.TimeField(
        _("Start time"),
        null=True,
        blank=True,
        help_text=_("Empty means 20:00 for units of a day or longer, else the moment it is saved."),
    )
    end_date = models.DateField(
        _("End date"), null=True, blank=True, help_text=_("No run after this day.")
    )
    end_time = models.TimeField(
        _("End time"),
        null=True,
        blank=True,
        help_text=_("No run after this time of the last day; empty means the end of that day."),
    )
    positions = models.CharField(
        _("Positions"),
        max_length=50,
        blank=True,
        help_text=_(
            'Which of the matching days of a month or year: "1" is the first, "-1" the last; '
            "several are separated by blanks."
        ),
    )
    monday = models.BooleanField(_("Monday"), default=False)
    tuesday = models.BooleanField(_("Tuesday"), default=False)
    wednesday = models.BooleanField(_("Wednesday"), default=False)
    thursday = models.BooleanField(_("Thursday"), default=False)
    friday = models.BooleanField(_("Friday"), default=False)
    saturday = models.BooleanField(_("Saturday"), default=False)
    sunday = models.BooleanField(_("Sunday"), default=False)
    max_events = models.PositiveIntegerField(
        _("Number of events"),
        null=True,
        blank=True,
        help_text=_("How often it occurs from the start on; missed runs count."),
    )
    cron = models.CharField(
        _("Cron expression"),
        max_length=100,
        blank=True,
        help_text=_("Minute, hour, day of month, month, day of week; only with the unit cron."),
    )
    time_zone = models.CharField(
        _("Time zone"),
        max_length=64,
        blank=True,
        help_text=_("Such as Europe/Brussels; empty means the time zone of the site."),
    )

    class Meta:
        abstract = True

    def fill_in(self, using: str | None = None) -> None:
        """No unit at all is never."""
        super().fill_in(using)
        unit: Any = self.every_unit
        if unit is None:
            self.every_unit = "never"

    def clean(self) -> None:
        """Refuse a rule that cannot be answered, with the name of the field to mend.

        No unit becomes ``never``, ``per_weekday`` becomes ``weekly``.
        """
        super().clean()
        self.every_unit = (
            "weekly" if self.every_unit == "per_weekday" else self.every_unit or "never"
        )
        misfits = self.misfits()
        if any(field.name in misfits for field in RecurrenceSet._meta.fields):
            return  # there is no rule to look at, as clean_fields() has said
        try:
            if self.start_date is None or self.start_time is None:
                self._recurrence_with(*self._start_from(clock.db_now(self._state.db)))
            else:
                self.recurrence  # noqa: B018 (it is built to be checked)
        except InvalidRecurrence as error:
            raise ValidationError({error.field: error.remedy(translation)}) from error
        except MissingExtra as error:
            raise ValidationError({"every_unit": error.said(translation)}) from error

    def fill_start(self, moment: datetime) -> None:
        """Set what is missing of the start from ``moment`` (aware); see :func:`default_start`.

        A row that never recurs begins nowhere: its start is set when it gets a unit.
        """
        if self.every_unit not in ("never", "", None):
            self.start_date, self.start_time = self._start_from(moment)

    @property
    def recurrence(self) -> Recurrence:
        """The rule that the fields describe.

        Raises :class:`linod.exceptions.InvalidRecurrence` when they describe none.
        """
        return self._recurrence_with(self.start_date, self.start_time)

    @property
    def weekdays(self) -> frozenset[int]:
        """The days of the week that are ticked, 0 is Monday."""
        return frozenset(n for n, name in enumerate(WEEKDAYS) if getattr(self, name))

    @property
    def weekdays_text(self) -> str:
        """The days of the week that are ticked, in words: "Monday, Thursday"."""
        fields = [self._meta.get_field(WEEKDAYS[n]) for n in sorted(self.weekdays)]
        return ", ".join(str(getattr(field, "verbose_name", "")) for field in fields)

    @property
    def every_text(self) -> str:
        """When it happens, as a person says it: "Every 2 weeks on Tuesday at 09:00".

        In the language that is active, as all texts of rows.
        """
        text = self.recurrence.describe(translation)
        return text[:1].upper() + text[1:]

    def get_next_suggested_date(self, moment: datetime) -> datetime | None:
        """The first occurrence after ``moment`` (aware), in the row's time zone; None at the end.

        Whether something else happens at that time is not looked at.
        """
        found = self.recurrence.next_after(moment)
        return found and found.astimezone(as_zone(self._zone_name))

    def is_available_on(self, day: date) -> bool:
        """Whether the ticked days of the week allow this day; none ticked allows every day."""
        return not self.weekdays or day.weekday() in self.weekdays

    def find_start_date(self, day: date) -> date:
        """The first day from ``day`` on that :meth:`is_available_on` allows."""
        return next(
            later
            for later in (day + timedelta(days=n) for n in range(7))
            if self.is_available_on(later)
        )

    def build_rrule(self) -> rrule | None:
        """The rule for other programs, as :class:`dateutil.rrule.rrule` of naive wall-clock times.

        None for a unit that has no such form (never, cron). It knows no clock changes: around
        them, and for units below a day across them, :attr:`recurrence` is right.
        """
        return self.recurrence.build_rrule()

    @property
    def _zone_name(self) -> str:
        return self.time_zone or settings.TIME_ZONE

    def _start_from(self, moment: datetime) -> tuple[date, time]:
        day, clock_time = default_start(self.every_unit, moment, as_zone(self._zone_name))
        return (
            day if self.start_date is None else self.start_date,
            clock_time if self.start_time is None else self.start_time,
        )

    def _recurrence_with(self, start_date: date | None, start_time: time | None) -> Recurrence:
        return rule_of(
            self.every_unit or "never",
            self.every,
            start_date,
            start_time,
            self.end_date,
            self.end_time,
            self.weekdays,
            self.positions,
            self.max_events,
            self.cron,
            self._zone_name,
        )
