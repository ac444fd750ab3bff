"""Why a task did or did not run: the ledger's answers and its lines, as a page shows them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from django import forms
from django.contrib.admin.widgets import AdminSplitDateTime
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from linod import ledger
from linod.answers import clock_note, is_answerable
from linod.models import BackgroundTask
from linod.status import moment_text
from linod.telling import reason_of

#: How many lines of the ledger are shown.
LINES = 50


class ClockField(forms.SplitDateTimeField):
    """A date and a time of the site's clocks, also one that they leave out or show twice."""

    def compress(self, data_list: Any) -> datetime | None:
        """As the command understands it: of the two the first, and shifted where there is none."""
        zone = timezone.get_current_timezone()
        with timezone.override(UTC):  # its clocks never change, so nothing is refused
            typed = super().compress(data_list)
        if typed is None:
            return None
        found = typed.replace(tzinfo=zone)
        if not is_answerable(found):
            raise forms.ValidationError(self.error_messages["invalid_date"], code="invalid_date")
        return found


class MomentForm(forms.Form):
    """The moment that somebody asks about; nothing: the last ones."""

    at = ClockField(label=_("At"), required=False, widget=AdminSplitDateTime)


def answered(task: BackgroundTask, given: Mapping[str, str]) -> dict[str, Any]:
    """What the page shows: the form, the answers and the lines of the ledger."""
    form = MomentForm(given) if given else MomentForm()
    at = form.cleaned_data["at"] if form.is_bound and form.is_valid() else None
    return {
        "form": form,
        "note": "" if at is None else clock_note(at),
        "answers": answers(task, at),
        "decisions": decisions(task),
    }


def answers(task: BackgroundTask, at: datetime | None) -> list[dict[str, Any]]:
    """What became of the last due instants, or of those of one moment."""
    return [
        {
            "moment": "" if each.moment is None else moment_text(each.moment),
            "headline": each.headline,
            "detail": each.detail,
            "job": each.job,
        }
        for each in ledger.why(task, at and at.astimezone(UTC))
    ]


def decisions(task: BackgroundTask) -> list[dict[str, Any]]:
    """The last lines of the ledger about the task, the newest first."""
    return [
        {
            "at": moment_text(line.at),
            "kind": line.get_kind_display(),
            "due_at": "" if line.due_at is None else moment_text(line.due_at),
            "reason": reason_of(line),
            "who": line.who,
        }
        for line in task.decisions.order_by("-at", "-id")[:LINES]
    ]
