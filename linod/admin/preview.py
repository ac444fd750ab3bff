"""The next runs of a rule, while it is typed and after it was saved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django import forms
from django.utils import translation
from django.utils.formats import date_format
from django.utils.translation import gettext as _

from linod import clock
from linod.exceptions import InvalidRecurrence, MissingExtra
from linod.models import RULE_FIELDS, BackgroundTask
from linod.recurrence import Recurrence
from linod.rules import BY_WALL_CLOCK
from linod.series import TICK
from linod.status import distance_text
from linod.wording import is_ambiguous

#: How many runs are shown.
NUMBER = 10


@dataclass(frozen=True)
class Run:
    """A run that comes: when, by the clocks of the rule's zone, and what is odd about it."""

    moment: datetime
    text: str
    distance: str
    mark: str = ""


@dataclass(frozen=True)
class Preview:
    """A rule in words and its next runs; or what is wrong with it, by field."""

    words: str = ""
    runs: tuple[Run, ...] = ()
    note: str = ""
    errors: Mapping[str, list[str]] | None = None

    def as_json(self) -> dict[str, Any]:
        """What the page's script shows."""
        runs = [
            {"at": run.moment.isoformat(), "text": run.text, "in": run.distance, "mark": run.mark}
            for run in self.runs
        ]
        return {
            "words": self.words, "runs": runs, "note": self.note, "errors": self.errors or {}
        }  # fmt: skip


def of_task(task: BackgroundTask, now: datetime) -> Preview:
    """The preview of a task as it stands; changes nothing but its missing start."""
    try:
        task.fill_start(now)
        return of_rule(task.recurrence, now)
    except InvalidRecurrence as error:
        return Preview(errors={error.field: [error.remedy(translation)]})
    except MissingExtra as error:
        return Preview(errors={"every_unit": [error.said(translation)]})


def of_rule(rule: Recurrence, now: datetime) -> Preview:
    """The preview of a rule; a start that is made just now is an occurrence."""
    words = rule.describe(translation)
    words = words[:1].upper() + words[1:]
    moment = now.replace(microsecond=0) - TICK
    moments: list[datetime] = []
    while len(moments) < NUMBER and (found := rule.next_after(moment)) is not None:
        moments.append(found)
        moment = found
    runs = tuple(_run(rule, moments, n, now) for n in range(len(moments)))
    return Preview(words, runs, _note(rule, runs))


def _note(rule: Recurrence, runs: tuple[Run, ...]) -> str:
    if rule.every_unit == "never":
        return _("It runs on request only.")
    if not runs:
        return _("There is no run any more.")
    return _("Then it ends.") if len(runs) < NUMBER else ""


def _run(rule: Recurrence, moments: list[datetime], number: int, now: datetime) -> Run:
    moment = moments[number]
    local = moment.astimezone(rule.zone)
    clock_time = "H:i:s" if local.second else "H:i"
    text = f"{date_format(local, f'D Y-m-d {clock_time}')} {local.isoformat()[-6:]}"
    before = moments[number - 1] if number else now
    return Run(moment, text, distance_text(moment, now), mark(rule, before, moment))


def zone_text(local: datetime) -> str:
    """How far its clocks are from UTC, as "UTC+01:00"."""
    return f"UTC{local.isoformat()[-6:]}"


def mark(rule: Recurrence, before: datetime, moment: datetime) -> str:
    """What a change of the clocks does to a run; empty for most runs."""
    local, former = moment.astimezone(rule.zone), before.astimezone(rule.zone)
    usual = rule.wall_start.time()
    if rule.every_unit in BY_WALL_CLOCK and local.time() != usual:
        return _("shifted: the clocks leave out %s") % f"{usual:%H:%M:%S}"
    if is_ambiguous(moment, rule.zone):
        return (
            _("the clocks show this time twice: this is the second")
            if local.fold
            else _("the clocks show this time twice: this is the first")
        )
    if local.utcoffset() != former.utcoffset():
        zones = {"former": zone_text(former), "now": zone_text(local)}
        return _("the clocks have changed: %(former)s to %(now)s") % zones
    return ""


class RuleForm(forms.ModelForm):  # type: ignore[type-arg]
    """The fields of a rule by themselves, as they are typed."""

    class Meta:
        model = BackgroundTask
        fields = sorted(RULE_FIELDS - {"disabled"})


def of_input(values: Mapping[str, str]) -> Preview:
    """The preview of what somebody has typed so far."""
    form = RuleForm(values)
    if not form.is_valid():
        return Preview(errors={name: list(map(str, each)) for name, each in form.errors.items()})
    return of_task(form.instance, clock.db_now())
