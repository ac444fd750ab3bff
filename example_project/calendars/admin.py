"""Calendars in the admin."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from calendars.models import Entry, RecurringEvent


@admin.register(Entry)
class EntryAdmin(admin.ModelAdmin):
    """Calendar entries by day."""

    list_display = ("summary", "user", "start", "end", "notified_at")
    list_filter = ("user",)
    list_select_related = ("user",)
    search_fields = ("summary",)


@admin.register(RecurringEvent)
class RecurringEventAdmin(admin.ModelAdmin):
    """Recurring events, with their rule in words."""

    list_display = ("summary", "user", "every_text", "minutes")
    list_select_related = ("user",)

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        return {"user": request.user.pk} | super().get_changeform_initial_data(request)
