"""A notification, and how often a user wants to get such mail."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar
from uuid import UUID, uuid4

from django.conf import settings
from django.db import models
from django.utils import timezone


class MailMode(models.TextChoices):
    """How often a user wants mail."""

    OFTEN = "often", "as soon as possible"
    DAILY = "daily", "once a day"
    NEVER = "never", "never"


class MailPreference(models.Model):
    """How often one user wants mail; a user without such a row wants it as soon as possible."""

    user = models.OneToOneField(settings.AUTH_USER_MODEL, models.CASCADE)
    mail_mode = models.CharField(max_length=5, choices=MailMode.choices, default=MailMode.OFTEN)

    def __str__(self) -> str:
        return f"{self.user}: {self.get_mail_mode_display()}"

    @classmethod
    def of(cls, user: Any) -> str:
        """The mail mode of that user."""
        chosen = cls.objects.filter(user=user).values_list("mail_mode", flat=True).first()
        return chosen or MailMode.OFTEN


class MessageQuerySet(models.QuerySet["Message"]):
    """Notifications, chosen by adjectives."""

    def pending(self, mail_mode: str) -> MessageQuerySet:
        """Those that such a mailing has to send: not seen, not sent, and nobody is at it."""
        unsent = self.filter(sent_at=None, seen_at=None, claim=None, refusal="")
        return unsent.filter(mail_mode=mail_mode).exclude(user__email="")

    def seen(self) -> MessageQuerySet:
        """Those that their user has seen."""
        return self.filter(seen_at__isnull=False)

    def unconfirmed(self) -> MessageQuerySet:
        """Those that somebody began to send and never said how it went."""
        return self.filter(claim__isnull=False, sent_at=None)

    def notify(self, user: Any, subject: str, body: str = "") -> Message:
        """Queue a notification for that user."""
        return self.create(
            user=user, subject=subject[:200], body=body, mail_mode=MailPreference.of(user)
        )

    def claim(self, keys: Iterable[int]) -> list[Message]:
        """Take these notifications for mailing; whoever else tries at the same time gets others.

        A single conditional UPDATE decides, on every database, and no lock outlives it while the
        mail server answers. (``select_for_update(skip_locked=True)`` would have to hold its
        transaction open during the whole conversation, and SQLite has none.)
        """
        token = uuid4()
        free = self.filter(pk__in=list(keys), claim=None, sent_at=None)
        free.update(claim=token, claimed_at=timezone.now())
        return list(self.filter(claim=token).select_related("user").order_by("pk"))

    def confirm(self, token: UUID) -> int:
        """Say that the notifications of this claim are sent."""
        return self.filter(claim=token).update(sent_at=timezone.now())

    def release(self, token: UUID, refusal: str = "") -> int:
        """Give the claim back: to be tried again, or with the reason why that is of no use."""
        return self.filter(claim=token).update(claim=None, claimed_at=None, refusal=refusal)


class Message(models.Model):
    """A notification to a user."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE)
    subject = models.CharField(max_length=200)
    body = models.TextField(blank=True)
    mail_mode = models.CharField(max_length=5, choices=MailMode.choices, default=MailMode.OFTEN)
    created = models.DateTimeField(default=timezone.now)
    claim = models.UUIDField(null=True, blank=True, editable=False, db_index=True)
    claimed_at = models.DateTimeField(null=True, blank=True, editable=False)
    sent_at = models.DateTimeField(null=True, blank=True, editable=False)
    seen_at = models.DateTimeField(null=True, blank=True)
    refusal = models.TextField(
        blank=True, editable=False, help_text="Why the mail server will never take it."
    )

    objects = MessageQuerySet.as_manager()

    class Meta:
        indexes: ClassVar = [models.Index(fields=["sent_at", "mail_mode"])]
        verbose_name = "notification"

    def __str__(self) -> str:
        return self.subject
