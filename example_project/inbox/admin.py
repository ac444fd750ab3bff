"""Incoming mail in the admin."""

from django.contrib import admin
from django.http import HttpRequest

from inbox.models import Mail


@admin.register(Mail)
class MailAdmin(admin.ModelAdmin):
    """Incoming mails, newest first; to be read, not written."""

    list_display = ("subject", "sender", "user", "received_at")
    list_filter = ("user",)
    list_select_related = ("user",)
    search_fields = ("subject", "sender", "body")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Mail | None = None) -> bool:
        return False
