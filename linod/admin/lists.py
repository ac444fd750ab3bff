"""What linod's lists in the admin share: pages that stay quick, filters above, nothing to write."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.core.paginator import Paginator
from django.http import HttpRequest

#: How far a list is counted. Beyond it the newest rows are shown, and that there are more is said.
COUNTED = 10_000


class BoundedPaginator(Paginator):  # type: ignore[type-arg]
    """Counts no further than :data:`COUNTED`."""

    @cached_property
    def count(self) -> int:
        """How many rows there are, at most :data:`COUNTED`."""
        return min(self._counted, COUNTED)

    @cached_property
    def is_cut(self) -> bool:
        """Whether there are more rows than are counted."""
        return self._counted > COUNTED

    @cached_property
    def _counted(self) -> int:
        rows: Any = self.object_list
        return int(rows.order_by()[: COUNTED + 1].count())


class WideChangeList(ChangeList):
    """A list as wide as the page: its filters stand above it, each as a menu."""

    def get_filters(self, request: HttpRequest) -> Any:
        """As Django does; but the template's own place for them stays empty."""
        specs, _has_filters, *rest = super().get_filters(request)
        return (specs, False, *rest)

    @property
    def menus(self) -> list[dict[str, Any]]:
        """The filters: title, chosen text, whether something is chosen, choices."""
        found = []
        for spec in self.filter_specs:
            choices: list[Any] = list(spec.choices(self))
            chosen = next((n for n, each in enumerate(choices) if each["selected"]), 0)
            menu = {"title": spec.title, "choices": choices, "is_active": chosen > 0}
            found.append(menu | {"chosen": choices[chosen]["display"] if choices else ""})
        return found


class ReadOnly(admin.ModelAdmin):  # type: ignore[type-arg]
    """Rows that only linod writes."""

    show_full_result_count = False  # counting a long history twice costs more than it tells
    paginator = BoundedPaginator
    show_facets = admin.ShowFacets.NEVER
    change_list_template = "admin/linod/list.html"

    class Media:
        css = {"all": ["linod/admin.css"]}

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        """See :class:`WideChangeList`."""
        return WideChangeList

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Nobody adds."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody changes."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Old rows go by themselves, after ``KEEP_JOBS_DAYS``."""
        return False
