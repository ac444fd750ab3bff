"""Summaries in the admin."""

from django.contrib import admin
from django.http import HttpRequest

from summaries.models import MonthSummary


@admin.register(MonthSummary)
class MonthSummaryAdmin(admin.ModelAdmin):
    """Summaries by month; a procedure writes them."""

    list_display = ("user", "month", "entries", "minutes")
    list_filter = ("user",)
    list_select_related = ("user",)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: MonthSummary | None = None) -> bool:
        return False
