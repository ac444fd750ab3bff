"""The list of jobs: its filters, and its days, which cost nothing however long the history is."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime, time, timedelta
from typing import Any

from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext_lazy

from linod.admin.lists import WideChangeList
from linod.history import Daemon
from linod.models import BackgroundTask
from linod.procedures import Procedures
from linod.recent import first_id, light, made_at

#: How many days the list offers at most.
DAYS = 31


class ProcedureFilter(admin.SimpleListFilter):
    """The declared procedures; those in the rows would have to be searched for."""

    title = gettext_lazy("procedure")
    parameter_name = "procedure"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        """One choice for each procedure."""
        return [(each.name, each.text) for each in Procedures]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Those of the chosen procedure."""
        return queryset.filter(procedure=self.value()) if self.value() else queryset


class HostFilter(admin.SimpleListFilter):
    """The hosts of the daemons that are remembered."""

    title = gettext_lazy("host")
    parameter_name = "host"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        """One choice for each host."""
        hosts = Daemon.objects.order_by("host").values_list("host", flat=True).distinct()
        return [(host, host) for host in hosts]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Those of the chosen host."""
        return queryset.filter(host=self.value()) if self.value() else queryset


class TaskFilter(admin.SimpleListFilter):
    """The one task that the list was opened for."""

    title = gettext_lazy("background task")
    parameter_name = "task"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        """Only that task: there may be thousands of others."""
        key = request.GET.get("task", "")
        if not key.isdecimal() or len(key) > 18:
            return []
        return [(key, str(task)) for task in BackgroundTask.objects.filter(pk=int(key))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Those of that task."""
        return queryset.filter(task=int(self.value() or 0)) if self.value() else queryset


class JobChangeList(WideChangeList):
    """A page of jobs, of all days or of one day.

    Django's ``date_hierarchy`` would read all rows to find the days. Keys sort by the moment a job
    was made, so days are found and chosen by the primary key.
    """

    def get_filters_params(self, params: Any = None) -> dict[str, Any]:
        """All but the day, which is no field."""
        found: dict[str, Any] = super().get_filters_params(params)
        given = found.pop("day", [""])
        self.day = self._read_day(str(given[0] if isinstance(given, list) else given))
        return found

    def _read_day(self, text: str) -> date | None:
        if not text:
            return None
        try:
            day = date.fromisoformat(text)
        except ValueError as error:
            raise IncorrectLookupParameters(error) from error
        if not 1971 <= day.year <= 9998:
            raise IncorrectLookupParameters(f"no job was made in {day.year}")
        return day

    def get_queryset(self, *args: Any, **kwargs: Any) -> QuerySet[Any]:
        """Those of the chosen day, without what no list shows."""
        jobs = light(super().get_queryset(*args, **kwargs))
        if self.day is not None:
            begin, end = bounds(self.day)
            jobs = jobs.filter(id__gte=first_id(begin), id__lt=first_id(end))
        return jobs

    def get_ordering_field_columns(self) -> dict[Any, Any]:
        """No column: the primary key is the one order that has an index."""
        return {}

    @property
    def days(self) -> list[dict[str, Any]]:
        """The days of the history, the newest first, each with its address."""
        ids = self.root_queryset.order_by("id").values_list("id", flat=True)
        first, last = ids.first(), ids.last()
        if first is None or last is None:
            return []
        newest = timezone.localtime(made_at(last)).date()
        oldest = timezone.localtime(made_at(first)).date()
        number = min((newest - oldest).days + 1, DAYS)
        return [self._day(newest - timedelta(days=n)) for n in range(number)]

    def _day(self, day: date) -> dict[str, Any]:
        return {
            "text": date_format(day, "j M"),
            "query": self.get_query_string({"day": day.isoformat()}),
            "chosen": day == self.day,
        }

    @property
    def all_days(self) -> str:
        """The address of all days."""
        return self.get_query_string(remove=["day"])


def bounds(day: date) -> tuple[datetime, datetime]:
    """The first moment of a day by the site's clocks, and that of the next one."""
    zone = timezone.get_current_timezone()
    begin = datetime.combine(day, time(), zone)
    return begin, datetime.combine(day + timedelta(days=1), time(), zone)
