"""One mail to ``ADMINS`` when linod itself disables a task; people who disable one know it."""

from __future__ import annotations

import logging
import threading
from datetime import timedelta
from typing import Any

from django.core.mail import mail_admins
from django.db import connections

from linod import signals
from linod.history import Decision, Job
from linod.models import BackgroundTask

logger = logging.getLogger("linod")

#: At most one mail for a task in this time.
QUIET = timedelta(hours=1)
KINDS = (Decision.Kind.DISABLED, Decision.Kind.QUARANTINED)

_senders: set[threading.Thread] = set()


def connect() -> None:
    """Listen to the ledger."""
    signals.decision_made.connect(_on_decision, dispatch_uid="linod.alerts")


def flush(timeout: float) -> None:
    """Wait for mails under way, each at most ``timeout`` seconds: before the process ends."""
    for sender in list(_senders):
        sender.join(timeout)


def _on_decision(decision: Decision, **kwargs: Any) -> None:
    if decision.kind not in KINDS or decision.who or decision.task_id is None:
        return
    # In a thread of its own: a mail server may take long, and the engine must not wait.
    sender = threading.Thread(target=_send, args=(decision,), name="linod-mail", daemon=True)
    _senders.add(sender)
    sender.start()


def _send(decision: Decision) -> None:
    using = decision._state.db or "default"
    try:
        if not _was_told(decision, using):
            mail_admins(*_letter(decision, using))
    except OSError as error:
        # smtplib's errors are OSErrors: no mail server must not hide the failure itself.
        logger.warning("The mail to ADMINS about %s was not sent: %s", decision, error)
    finally:
        connections[using].close()
        _senders.discard(threading.current_thread())


def _was_told(decision: Decision, using: str) -> bool:
    return (
        Decision.objects.using(using)
        .filter(task=decision.task_id, kind__in=KINDS, who="", at__gt=decision.at - QUIET)
        .filter(at__lte=decision.at, pk__lt=decision.pk)
        .exists()
    )


def _letter(decision: Decision, using: str) -> tuple[str, str]:
    task = BackgroundTask.objects.using(using).get(pk=decision.task_id)
    job = Job.objects.using(using).filter(pk=decision.job).first()
    lines = [
        f"{task} was disabled: {decision.reason}",
        "It does not run by its rule until somebody enables it.",
        "",
        job.error if job is not None else "",
    ]
    return f"{task} was disabled", "\n".join(lines)
