"""What can be wrong with notifications."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from checkdata.checking import Checker, Finding
from django.contrib.auth import get_user_model
from django.utils import timezone

from notify.models import MailMode, MailPreference, Message

#: A mail server that has not answered by then never will.
PATIENCE = timedelta(hours=1)


class MessageChecker(Checker):
    """What was begun must have come to an end, and what was refused is worth knowing."""

    model = Message

    def check(self, row: Message) -> Iterator[Finding]:
        unconfirmed = row.claimed_at is not None and row.sent_at is None
        if unconfirmed and row.claimed_at < timezone.now() - PATIENCE:
            yield Finding("It was being mailed when the run ended; nobody knows whether it arrived")
        if row.refusal:
            yield Finding(f"The mail server refuses it: {row.refusal}")


class AddressChecker(Checker):
    """Who wants mail needs an address."""

    model = get_user_model()

    def check(self, row: Any) -> Iterator[Finding]:
        if row.is_active and not row.email and MailPreference.of(row) != MailMode.NEVER:
            yield Finding("This user wants mail and has no address")
