"""One mail to ``ADMINS`` when linod itself disables a task; people who disable one know it."""

from __future__ import annotations

import atexit
import logging
import threading
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.core.mail import mail_admins
from django.db.models import Q
from django.utils.translation import gettext as _

from linod import signals
from linod.history import Decision, Job
from linod.models import BackgroundTask

logger = logging.getLogger("linod")

#: At most one mail for a task in this time.
QUIET = timedelta(hours=1)
#: Most decisions in a row, less than that apart, that are looked at.
CHAIN = 1000
#: Seconds that a process waits at its end for a mail under way.
EXIT_PATIENCE = 10.0
KINDS = (Decision.Kind.DISABLED, Decision.Kind.QUARANTINED)

_senders: set[threading.Thread] = set()


def connect() -> None:
    """Listen to the ledger."""
    signals.decision_made.connect(_on_decision, dispatch_uid="linod.alerts")


def flush(timeout: float) -> None:
    """Wait for mails under way, each at most ``timeout`` seconds: before the process ends."""
    for sender in list(_senders):
        sender.join(timeout)


# A command that lives half a second delivers its mail before it ends.
atexit.register(flush, EXIT_PATIENCE)


def _on_decision(decision: Decision, **kwargs: Any) -> None:
    # What linod decides of itself names the job that failed, or quarantines the row.
    by_linod = decision.kind == Decision.Kind.QUARANTINED or decision.job is not None
    if decision.kind not in KINDS or not by_linod or not settings.ADMINS or _was_told(decision):
        return
    letter = _letter(decision)
    if letter is None:
        return
    # In a thread of its own: a mail server may take long, and the engine must not wait.
    sender = threading.Thread(target=_send, args=letter, name="linod-mail", daemon=True)
    _senders.add(sender)
    sender.start()


def _was_told(decision: Decision) -> bool:
    """Whether a mail of the last hour spoke of this task already.

    Which decisions had a mail follows from their times, since the last hour without any.
    """
    lines = Decision.objects.using(decision._state.db).filter(task=decision.task_id, kind__in=KINDS)
    by_linod = lines.filter(Q(kind=Decision.Kind.QUARANTINED) | Q(job__isnull=False))
    earlier = by_linod.filter(at__lte=decision.at, pk__lt=decision.pk).order_by("-at", "-pk")
    series = [decision.at]
    for at in earlier.values_list("at", flat=True)[:CHAIN]:
        if series[-1] - at > QUIET:
            break
        series.append(at)
    told = series[-1]
    for at in reversed(series):
        if at - told > QUIET:
            told = at
    return told != decision.at or (len(series) > 1 and series[-1] == decision.at)


def _letter(decision: Decision) -> tuple[str, str] | None:
    """Subject and text; None when the task was deleted meanwhile."""
    using = decision._state.db
    task = BackgroundTask.objects.using(using).filter(decisions=decision).first()
    if task is None:
        return None
    job = Job.objects.using(using).filter(pk=decision.job).first() if decision.job else None
    lines = [
        _("%(task)s was disabled: %(reason)s") % {"task": task, "reason": decision.reason},
        _("It does not run by its rule until somebody enables it."),
        "",
        job.error if job is not None else "",
    ]
    return _("%(task)s was disabled") % {"task": task}, "\n".join(lines)


def _send(subject: str, text: str) -> None:
    try:
        mail_admins(subject, text)
    except OSError as error:
        # smtplib's errors are OSErrors: no mail server must not hide the failure itself.
        logger.warning("The mail to ADMINS was not sent: %s: %s", subject, error)
    finally:
        _senders.discard(threading.current_thread())
