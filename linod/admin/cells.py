"""What stands in the cells of the lists: states, moments, lengths of time, the last runs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.debug import SafeExceptionReporterFilter

from linod.capture import storable
from linod.history import Job
from linod.models import BackgroundTask
from linod.recent import Run
from linod.status import decimal_text, distance_text, moment_text, status_kind

#: The states of jobs in words.
STATES = dict(Job.State.choices)
#: The kinds of a task's status that have the colour of a job's state.
COLOURS = {
    "unknown": "lost",
    "requested": "waiting",
    "not_started": "waiting",
    "scheduled": "succeeded",
    "not_scheduled": "succeeded",
}


def state_cell(kind: str, text: str) -> str:
    """A coloured dot, and in words what it means; ``kind`` is a CSS class (``linod/admin.css``)."""
    return format_html(
        '<span class="linod-state linod-{}"><span class="linod-dot" aria-hidden="true"></span>'
        "{}</span>",
        kind,
        text,
    )


def job_state(job: Job) -> str:
    """The state of a job with its colour."""
    return state_cell(job.state, job_state_text(job))


def job_state_text(job: Job) -> str:
    """The state of a job; of one that was asked to stop and still runs, that too."""
    if job.state == Job.State.RUNNING and job.cancel_requested_at is not None:
        return _("%s, asked to stop") % job.get_state_display()
    return str(job.get_state_display())


def task_kind(task: BackgroundTask, is_running: bool) -> str:
    """What colour a task's status has."""
    kind = status_kind(task, is_running)
    if task.failures and kind not in {"unknown", "running", "requested"}:
        return "failed"
    return COLOURS.get(kind, kind)


def ago_cell(moment: datetime | None, now: datetime) -> str:
    """How long ago it was; the moment itself is told on hovering."""
    if moment is None:
        return "-"
    return format_html(
        '<time datetime="{}" title="{}">{}</time>',
        moment.isoformat(),
        moment_text(moment),
        distance_text(moment, now),
    )


def span_text(span: timedelta | None) -> str:
    """A length of time in seconds, or minutes and more.

    >>> span_text(timedelta(seconds=1.5)), span_text(timedelta(hours=30)), span_text(None)
    ('1.500 s', '1 day, 6:00:00', '-')
    """
    if span is None:
        return "-"
    seconds = span.total_seconds()
    if abs(seconds) < 60:
        return _("%s s") % decimal_text(seconds, 3)
    whole = timedelta(seconds=round(seconds))
    time = str(whole - timedelta(days=whole.days))
    if not whole.days:
        return time
    text = ngettext("%(number)d day, %(time)s", "%(number)d days, %(time)s", whole.days)
    return text % {"number": whole.days, "time": time}


def run_text(run: Run) -> str:
    """One run in a line: its state, when it was due, how long it took."""
    words = [str(STATES[run.state]), moment_text(run.due_at)]
    if run.duration is not None:
        words.append(span_text(run.duration))
    return ", ".join(words)


def runs_cell(runs: Sequence[Run], address: str) -> str:
    """The last runs as ticks, the newest at the right; one link to all of them.

    Height and pattern of a tick say what its colour says.
    """
    if not runs:
        return ""
    ticks = format_html_join(
        "", '<i class="linod-{}" title="{}"></i>', ((run.state, run_text(run)) for run in runs)
    )
    if not address:
        return format_html('<span class="linod-ticks">{}</span>', ticks)
    return format_html(
        '<a class="linod-ticks" href="{}" aria-label="{}">{}</a>', address, summary(runs), ticks
    )


def summary(runs: Sequence[Run]) -> str:
    """The last runs in words: "Last 3 runs: 2 succeeded, 1 failed; the newest: failed"."""
    counts = Counter(run.state for run in runs)
    numbers = ", ".join(f"{number} {STATES[state]}" for state, number in counts.most_common())
    head = ngettext("Last run: %(numbers)s", "Last %(count)d runs: %(numbers)s", len(runs))
    newest = _("the newest: %s") % run_text(runs[-1])
    return head % {"count": len(runs), "numbers": numbers} + f"; {newest}"


def masked(value: Any) -> Any:
    """A value of JSON in which what is named like a secret is left out, as in Django's reports."""
    if isinstance(value, dict):
        cleanse = SafeExceptionReporterFilter().cleanse_setting
        return {key: cleanse(key, masked(inner)) for key, inner in value.items()}
    return [masked(inner) for inner in value] if isinstance(value, list) else value


def as_json(value: Any) -> str:
    """A value for people: indented, without its secrets, and escaped."""
    text = storable(json.dumps(masked(value), indent=2, ensure_ascii=False, default=str))
    return format_html('<pre class="linod-json">{}</pre>', text)
