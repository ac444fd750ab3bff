"""Notifications and mail preferences in the admin."""

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone

from notify.models import MailPreference, Message


@admin.register(Message)
class MessageAdmin(admin.ModelAdmin):
    """Notifications, newest first."""

    list_display = ("subject", "user", "mail_mode", "created", "sent_at", "seen_at")
    list_filter = ("mail_mode", "user")
    list_select_related = ("user",)
    search_fields = ("subject", "body")
    ordering = ("-pk",)
    readonly_fields = ("created", "claimed_at", "sent_at", "refusal")
    actions = ("mark_as_seen", "mail_again")

    @admin.action(description="Mark as seen")
    def mark_as_seen(self, request: HttpRequest, rows: QuerySet[Message]) -> None:
        count = rows.filter(seen_at=None).update(seen_at=timezone.now())
        self.message_user(request, f"{count} marked as seen.")

    @admin.action(description="Mail again")
    def mail_again(self, request: HttpRequest, rows: QuerySet[Message]) -> None:
        count = rows.update(claim=None, claimed_at=None, sent_at=None, refusal="")
        self.message_user(request, f"{count} will be mailed.")


@admin.register(MailPreference)
class MailPreferenceAdmin(admin.ModelAdmin):
    """How often each user wants mail."""

    list_display = ("user", "mail_mode")
    list_select_related = ("user",)
