"""A mail that came in."""

from __future__ import annotations

from typing import ClassVar

from django.conf import settings
from django.db import models
from django.utils import timezone


class Mail(models.Model):
    """A mail that came in; each is stored once."""

    key = models.CharField(
        max_length=64,
        unique=True,
        editable=False,
        help_text="SHA-256 of the Message-ID: those are long, and databases fold their case.",
    )
    message_id = models.TextField(editable=False)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.SET_NULL,
        null=True,
        blank=True,
        help_text="Whom it is addressed to, when that is a user of this site.",
    )
    sender = models.CharField(max_length=200)
    subject = models.CharField(max_length=200, blank=True)
    body = models.TextField(blank=True)
    sent_at = models.DateTimeField(null=True, blank=True)
    received_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering: ClassVar = ["-pk"]

    def __str__(self) -> str:
        return self.subject or "(no subject)"
