"""What no column can hold is refused with its field's name, and never stops anybody else.

Whatever a person may write meets every field, on each database: in a declaration and in a row.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, time
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy

from linod.models import BackgroundTask
from linod.procedures import ROW_FIELDS, declare
from linod.rules import WEEKDAYS
from linod.sync import sync
from tests.daemons import only_these_procedures

pytestmark = [
    pytest.mark.django_db,
    # A date stands for its midnight, in the site's time zone: Django says that it is so.
    pytest.mark.filterwarnings("ignore:DateTimeField .* received a naive datetime"),
]

NAN, INFINITY = float("nan"), float("inf")


def nested(depth: int, innermost: Any = 1) -> Any:
    for n in range(depth):
        innermost = {"a": innermost} if n % 2 else [innermost]
    return innermost


NOTHING = (None, "", [], (), {}, set(), b"")
TEXTS = ("x", "a\0b", "\ud800", "\udfff", "1", "1.5", "9" * 5000, gettext_lazy("never"), b"x")
NUMBERS = (
    0, -1, 1, 1.5, 2.0, 10**9, 10**9 + 1, 2**31 - 1, 2**31, 2**63 - 1, 2**63, -(2**63), 10**400,
    NAN, INFINITY, -INFINITY, 1e308, True, Decimal("1.5"), Decimal("NaN"), Decimal("Infinity"),
    Fraction(1, 3),
)  # fmt: skip
MOMENTS = (
    date.min, date.max, date(2026, 11, 22), time.min, time.max, datetime(2026, 11, 22, tzinfo=UTC),
    datetime.min,  # noqa: DTZ901 - as people declare them
    datetime.max,  # noqa: DTZ901
    datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC), "2026-11-22", "20:00",
    "9999-12-31T23:59:59", "0001-01-01",
)  # fmt: skip
CONTAINERS = (
    [1], ["x"], (1, -1), {"a": 1}, {"a": NAN}, {"a": [INFINITY]}, {"a": 10**400}, {"a": "\0"},
    {"\0": 1}, {"a": "\ud800"}, {"\udfff": 1}, {1: 2}, {(1, 2): 3}, {"a": object()},
    {"a": nested(29)}, {"a": nested(30)},
)  # fmt: skip
VALUES = (*NOTHING, *TEXTS, *NUMBERS, *MOMENTS, *CONTAINERS, object(), len)
#: Python itself cannot write these out.
UNSAYABLE = (10**5000, {"a": 10**5000}, {"a": nested(900)}, {"a": nested(100_000)})
#: What is read before anybody looks at it; a declaration refuses it by quoting it.
READ_AT_ONCE = {"start_date", "start_time", "end_date", "end_time", "procedure"}
#: One day of the week stands for all.
FIELDS = sorted(ROW_FIELDS - set(WEEKDAYS[1:]) - {"every_unit"})


@pytest.fixture(autouse=True)
def _registry() -> Iterator[None]:
    with only_these_procedures():
        BackgroundTask.objects.all().delete()
        yield


def rule_for(field: str) -> dict[str, Any]:
    """A rule in which the field counts."""
    return {"every_unit": "cron"} if field == "cron" else {"every_unit": "monthly"}


def values_for(field: str) -> tuple[Any, ...]:
    """What the field is given."""
    return VALUES if field in READ_AT_ONCE else VALUES + UNSAYABLE


@pytest.mark.parametrize("field", FIELDS)
def test_a_declaration_is_refused_or_has_its_row(field: str) -> None:
    refused = []
    for n, value in enumerate(values_for(field)):
        try:
            declare(lambda: None, f"f{n:03}", **{**rule_for(field), field: value})
        except (TypeError, ValueError) as error:
            refused.append(str(error))
    sync()
    rows = list(BackgroundTask.objects.all())
    assert len(rows) + len(refused) == len(values_for(field))
    assert all(field in said for said in refused)
    for row in rows:
        if row.disabled_reason.startswith("Declared wrongly"):
            assert row.disabled_reason.startswith(f"Declared wrongly: {field}: ")
        else:
            row.full_clean()
    assert sync() == []


@pytest.mark.parametrize("field", [*FIELDS, "every_unit", "seqno", "procedure"])
def test_a_row_that_is_clean_can_be_saved_and_read(field: str) -> None:
    declare(lambda: None, "f")
    refused = []
    for value in values_for(field):
        task = BackgroundTask(**{"procedure": "f", **rule_for(field), field: value})
        try:
            task.full_clean()
        except ValidationError as error:
            refused.append(error.message_dict)
        else:
            task.save()
            BackgroundTask.objects.get(pk=task.pk).full_clean()
    assert BackgroundTask.objects.count() + len(refused) == len(values_for(field))
    assert all(field in said for said in refused)
