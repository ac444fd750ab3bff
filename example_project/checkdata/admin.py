"""Problems in the admin."""

from django.contrib import admin
from django.http import HttpRequest

from checkdata.models import Problem


@admin.register(Problem)
class ProblemAdmin(admin.ModelAdmin):
    """What the last run of all checkers found; a procedure writes it."""

    list_display = ("row", "text", "checker", "found_at")
    list_filter = ("checker",)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Problem | None = None) -> bool:
        return False
