"""What the site's applications have declared, as a page shows it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from django.db.models import Count

from linod.conf import config
from linod.models import BackgroundTask
from linod.procedures import Procedure, Procedures


@dataclass(frozen=True)
class Declared:
    """A procedure, and how many background tasks refer to it."""

    procedure: Procedure
    tasks: int


def procedures() -> list[Declared]:
    """All procedures, in the order of their declaration."""
    rows = BackgroundTask.objects.using(config().DATABASE).order_by().values_list("procedure")
    number: Counter[str] = Counter()
    for procedure, count in rows.annotate(Count("pk")):
        number[procedure.name] += count  # a row may have a former name
    return [Declared(each, number[each.name]) for each in Procedures.get_list_items()]
