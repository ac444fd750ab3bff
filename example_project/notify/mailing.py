"""From queued notifications to mail.

No notification is mailed twice. It is claimed first; a mail server that says no gives the claim
back, and one that falls silent in the middle does not: whether that mail went out, nobody here can
know, so a person decides (the admin has "Mail again", and ``checkdata`` reports such rows).
"""

from __future__ import annotations

from collections import defaultdict
from email.errors import MessageError
from smtplib import SMTPException, SMTPRecipientsRefused, SMTPResponseException

from django.conf import settings
from django.core import mail
from django.core.mail import EmailMessage
from django.core.mail.backends.base import BaseEmailBackend
from django.db import transaction

from linod import BaseRequest
from notify.models import MailMode, Message


def mail_singly(ar: BaseRequest) -> int:
    """Mail each notification of users who want them at once; returns how many were sent."""
    keys = Message.objects.pending(MailMode.OFTEN).order_by("pk").values_list("pk", flat=True)
    return _mail(ar, [[key] for key in keys])


def mail_digests(ar: BaseRequest) -> int:
    """Mail all waiting notifications of a user as one letter; returns how many were sent."""
    by_user = defaultdict(list)
    waiting = Message.objects.pending(MailMode.DAILY).order_by("user_id", "pk")
    for user, key in waiting.values_list("user_id", "pk"):
        by_user[user].append(key)
    return _mail(ar, list(by_user.values()))


def _mail(ar: BaseRequest, letters: list[list[int]]) -> int:
    if not letters:
        return 0
    sent = 0
    try:
        with mail_server() as connection:
            for done, keys in enumerate(letters, start=1):
                sent += _mail_letter(ar, connection, keys)
                ar.progress(done, len(letters), "letters")
    except (OSError, SMTPException) as error:
        # No reason to fail: that would disable the task, and the mail server will be back.
        ar.warning("The mail server is away, what is left waits: %s", error)
    return sent


def _mail_letter(ar: BaseRequest, connection: BaseEmailBackend, keys: list[int]) -> int:
    with transaction.atomic():
        ar.guard()
        messages = Message.objects.claim(keys)
    token = messages[0].claim if messages else None
    if token is None:
        return 0
    try:
        connection.send_messages([compose(messages)])
    except (SMTPRecipientsRefused, SMTPResponseException, MessageError, ValueError) as error:
        refusal = str(error) if is_final(error) else ""
        Message.objects.release(token, refusal)
        ar.warning("Mail to %s was refused: %s", messages[0].user, error)
        return 0
    Message.objects.confirm(token)
    return len(messages)


def mail_server() -> BaseEmailBackend:
    """The site's mail server; Django 6.1 has it in another place."""
    return mail.mailers.default if hasattr(mail, "mailers") else mail.get_connection()


def compose(messages: list[Message]) -> EmailMessage:
    """One letter with these notifications, all to the same user."""
    first = messages[0]
    if len(messages) == 1:
        subject, body = first.subject, first.body
    else:
        subject = f"{len(messages)} notifications"
        body = "\n\n".join(f"* {message.subject}\n{message.body}" for message in messages)
    return EmailMessage(
        subject=" ".join(subject.split()),
        body=body,
        from_email=settings.DEFAULT_FROM_EMAIL,
        to=[first.user.email],
        headers={"Message-ID": f"<{first.claim}@notify.example.com>"},
    )


def is_final(error: Exception) -> bool:
    """Whether tomorrow's answer would be the same: replies of 500 and above, bad addresses."""
    if isinstance(error, SMTPRecipientsRefused):
        return all(code >= 500 for code, _reason in error.recipients.values())
    if isinstance(error, SMTPResponseException):
        return int(error.smtp_code) >= 500
    return True
