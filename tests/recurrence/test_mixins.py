"""The fields of a recurrence, and the order of rows, on the rows that have them."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.test import override_settings

from linod import clock
from linod.columns import LARGEST
from linod.exceptions import ChangedMeanwhile, InvalidRecurrence
from linod.mixins import RecurrenceSet
from linod.models import BackgroundTask
from linod.recurrence import Recurrence
from linod.rowrules import end_of, rule_of
from linod.rules import WEEKDAYS, as_zone

DAY = timedelta(days=1)
NOW = datetime(2026, 11, 22, 8, 30, 15, 999_999, tzinfo=UTC)  # a Sunday
WEDNESDAY = date(2026, 11, 18)
FIELDS = (
    "every_unit",
    "every",
    "start_date",
    "start_time",
    "end_date",
    "end_time",
    "positions",
    *WEEKDAYS,
    "max_events",
    "cron",
    "time_zone",
)


@pytest.fixture(autouse=True)
def _now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "source", lambda _connection: NOW)


def task(every_unit: str = "daily", **values: Any) -> BackgroundTask:
    return BackgroundTask(procedure="nothing", every_unit=every_unit, **values)


def started(every_unit: str = "daily", **values: Any) -> BackgroundTask:
    start = {"start_date": WEDNESDAY, "start_time": time(14), "time_zone": "UTC"}
    return task(every_unit, **{**start, **values})


# The fields


def test_the_fields_are_these_and_no_others() -> None:
    assert tuple(field.name for field in RecurrenceSet._meta.get_fields()) == FIELDS


def test_the_defaults_are_a_rule_that_never_recurs() -> None:
    row = BackgroundTask(procedure="nothing")
    assert (row.every_unit, row.every, row.positions, row.cron, row.time_zone) == (
        "never",
        1,
        "",
        "",
        "",
    )
    assert row.weekdays == frozenset()
    assert row.recurrence.next_after(NOW) is None


@pytest.mark.parametrize(
    ("every_unit", "values", "field"),
    [
        ("dayly", {}, "every_unit"),
        ("daily", {"every": 0}, "every"),
        ("never", {"every": -1}, "every"),
        ("daily", {"max_events": 0}, "max_events"),
        ("daily", {"end_time": time(9)}, "end_time"),
        ("daily", {"end_date": WEDNESDAY - DAY}, "end_date"),
        ("daily", {"end_date": WEDNESDAY, "end_time": time(13, 59)}, "end_date"),
        ("daily", {"end_date": date.min, "time_zone": "Europe/Tallinn"}, "end_date"),
        (
            "daily",
            {"end_date": date.min, "end_time": time(1), "time_zone": "Asia/Tokyo"},
            "end_date",
        ),
        ("weekly", {"monday": True, "end_date": WEDNESDAY + DAY}, "end_date"),
        ("daily", {"start_date": None, "end_date": WEDNESDAY}, "end_date"),
        ("once", {"sunday": True}, "sunday"),
        ("easter", {"tuesday": True, "friday": True}, "tuesday"),
        ("daily", {"every": 7, "thursday": True}, "thursday"),
        ("monthly", {"positions": "x"}, "positions"),
        ("monthly", {"positions": "1.5"}, "positions"),
        ("monthly", {"positions": "0"}, "positions"),
        ("monthly", {"positions": "32"}, "positions"),
        ("monthly", {"positions": "6", "monday": True}, "positions"),
        ("yearly", {"positions": "-367"}, "positions"),
        ("weekly", {"positions": "1"}, "positions"),
        ("daily", {"cron": "0 9 * * *"}, "cron"),
        ("cron", {"cron": ""}, "cron"),
        ("cron", {"cron": "0 9 * *"}, "cron"),
        ("cron", {"cron": "0 9 30 2 *"}, "cron"),
        ("daily", {"time_zone": "Europe/Brusels"}, "time_zone"),
    ],
)
@pytest.mark.django_db
def test_cleaning_refuses_what_cannot_be_answered(
    every_unit: str, values: dict[str, Any], field: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        started(every_unit, **values).full_clean()
    messages = caught.value.message_dict[field]
    assert all(messages)
    assert set(caught.value.message_dict) - {field} <= {"procedure"}


def test_a_typing_error_in_the_zone_is_told_the_near_name() -> None:
    with pytest.raises(ValidationError, match="did you mean 'Europe/Brussels'"):
        started(time_zone="Europe/Brusels").clean()


@pytest.mark.parametrize(
    ("every_unit", "cleaned"),
    [("per_weekday", "weekly"), ("", "never"), (None, "never"), ("daily", "daily")],
)
def test_cleaning_settles_the_unit(every_unit: Any, cleaned: str) -> None:
    row = started(every_unit)
    row.clean()
    assert row.every_unit == cleaned


def test_cleaning_changes_no_start_and_asks_for_none() -> None:
    row = task()
    row.clean()
    assert (row.start_date, row.start_time) == (None, None)


def test_without_the_extra_the_unit_cron_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from linod import cronrule

    monkeypatch.setitem(sys.modules, "cronsim", None)
    cronrule.parse.cache_clear()
    with pytest.raises(ValidationError, match="pip install") as caught:
        started("cron", cron="1 2 3 4 *").clean()
    assert list(caught.value.message_dict) == ["every_unit"]


# The start


@pytest.mark.parametrize(
    ("every_unit", "zone", "day", "clock_time"),
    [
        ("secondly", "UTC", date(2026, 11, 22), time(8, 30, 15)),
        ("minutely", "Asia/Tokyo", date(2026, 11, 22), time(17, 30, 15)),
        ("hourly", "Europe/Brussels", date(2026, 11, 22), time(9, 30, 15)),
        ("once", "Pacific/Kiritimati", date(2026, 11, 22), time(22, 30, 15)),
        ("cron", "UTC", date(2026, 11, 22), time(8, 30, 15)),
        ("daily", "UTC", date(2026, 11, 22), time(20)),
        ("weekly", "Pacific/Midway", date(2026, 11, 21), time(20)),
        ("per_weekday", "UTC", date(2026, 11, 22), time(20)),
        ("monthly", "UTC", date(2026, 11, 22), time(20)),
        ("yearly", "UTC", date(2026, 11, 22), time(20)),
        ("easter", "UTC", date(2026, 11, 22), time(20)),
    ],
)
def test_a_rule_without_a_start_begins_when_it_is_made(
    every_unit: str, zone: str, day: date, clock_time: time
) -> None:
    row = task(every_unit, time_zone=zone, cron="0 9 * * *" if every_unit == "cron" else "")
    row.fill_start(NOW)
    assert (row.start_date, row.start_time) == (day, clock_time)
    assert row.recurrence.start == datetime.combine(day, clock_time, as_zone(zone))


def test_what_is_given_of_a_start_stays() -> None:
    row = task(start_time=time(3), time_zone="UTC")
    row.fill_start(NOW)
    assert (row.start_date, row.start_time) == (date(2026, 11, 22), time(3))
    row = task("secondly", start_date=WEDNESDAY, time_zone="UTC")
    row.fill_start(NOW)
    assert (row.start_date, row.start_time) == (WEDNESDAY, time(8, 30, 15))


def test_what_never_recurs_begins_nowhere() -> None:
    row = task("never")
    row.fill_start(NOW)
    assert (row.start_date, row.start_time) == (None, None)


def test_a_rule_without_a_start_date_is_none_yet() -> None:
    with pytest.raises(InvalidRecurrence) as caught:
        _ = task().recurrence
    assert caught.value.field == "start_date"


def test_an_old_row_without_a_time_starts_at_eight_in_the_evening() -> None:
    row = started(start_time=None)
    assert row.recurrence.start == datetime(2026, 11, 18, 20, tzinfo=UTC)
    assert started("hourly", start_time=None).recurrence.start == datetime(2026, 11, 18, tzinfo=UTC)


# The rule


def test_the_fields_make_the_rule() -> None:
    row = started(
        "monthly",
        every=2,
        monday=True,
        sunday=True,
        positions="1, -1  2",
        max_events=9,
        end_date=date(2030, 1, 31),
        time_zone="Europe/Brussels",
    )
    brussels = as_zone("Europe/Brussels")
    assert row.recurrence == Recurrence(
        "monthly",
        2,
        start=datetime(2026, 11, 18, 14, tzinfo=brussels),
        end=datetime(2030, 1, 31, 23, 59, 59, 999_999, tzinfo=brussels),
        weekdays=frozenset({0, 6}),
        positions=(1, -1, 2),
        max_events=9,
        time_zone="Europe/Brussels",
    )
    assert row.recurrence is row.recurrence


def test_texts_of_a_declaration_are_dates_and_times() -> None:
    row = started(start_date="2026-11-18", start_time="03:00", end_date="2026-12-24")
    assert row.recurrence.start == datetime(2026, 11, 18, 3, tzinfo=UTC)
    assert row.recurrence.next_after(datetime(2026, 12, 24, 3, tzinfo=UTC)) is None
    for field, text in (("start_date", "18.11."), ("start_time", "3 am"), ("end_date", "soon")):
        with pytest.raises(InvalidRecurrence) as caught:
            _ = started(**{field: text}).recurrence
        assert caught.value.field == field


@override_settings(TIME_ZONE="Asia/Tokyo")
def test_an_empty_zone_is_the_sites() -> None:
    row = started(time_zone="")
    assert row.recurrence.time_zone == "Asia/Tokyo"
    found = row.get_next_suggested_date(NOW)
    assert found is not None
    assert found.isoformat() == "2026-11-23T14:00:00+09:00"


@pytest.mark.parametrize(
    ("day", "clock_time", "expected"),
    [
        (date(2026, 12, 31), None, "2026-12-31T22:59:59.999999+00:00"),
        (date(2026, 12, 31), time(12), "2026-12-31T11:00:00+00:00"),
        (date(2026, 10, 25), time(2, 30), "2026-10-25T01:30:00+00:00"),
        (date(2026, 3, 29), time(2, 30), "2026-03-29T01:30:00+00:00"),
    ],
)
def test_the_end_is_the_last_moment_that_it_can_mean(
    day: date, clock_time: time | None, expected: str
) -> None:
    end = end_of(day, clock_time, as_zone("Europe/Brussels"))
    assert end is not None
    assert end.isoformat() == expected


def test_an_end_beyond_the_calendar_of_utc_is_an_end() -> None:
    row = started(end_date=date.max, time_zone="America/New_York")
    assert row.get_next_suggested_date(NOW) is not None
    row = started(end_date=date.min, end_time=time.min, time_zone="Europe/Brussels")
    with pytest.raises(InvalidRecurrence, match="end_date: the end lies before the start"):
        _ = row.recurrence


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Tokyo"])
def test_the_last_day_of_the_calendar_is_an_end(zone: str) -> None:
    row = started(end_date=date.max, time_zone=zone)
    row.clean()
    assert row.recurrence.next_after(NOW) is not None


def test_rows_of_the_same_rule_share_it() -> None:
    rule_of.cache_clear()
    assert started().recurrence is started().recurrence
    assert rule_of.cache_info().misses == 1


# The family's names


def test_the_next_suggested_date() -> None:
    row = started("weekly", tuesday=True)
    assert row.get_next_suggested_date(NOW) == datetime(2026, 11, 24, 14, tzinfo=UTC)
    assert started("never").get_next_suggested_date(NOW) is None


def test_the_days_that_are_allowed() -> None:
    row = started("weekly", monday=True, thursday=True)
    assert row.is_available_on(date(2026, 11, 23))
    assert not row.is_available_on(date(2026, 11, 24))
    assert row.find_start_date(date(2026, 11, 24)) == date(2026, 11, 26)
    assert row.find_start_date(date(2026, 11, 26)) == date(2026, 11, 26)
    assert started().find_start_date(date(2026, 11, 24)) == date(2026, 11, 24)


def test_the_rule_in_words() -> None:
    row = started("weekly", monday=True, thursday=True)
    assert row.weekdays_text == "Monday, Thursday"
    assert row.every_text == "Every Monday and Thursday at 14:00"
    assert started("never").every_text == "Never"
    assert started("cron", cron="0 9 * * *").every_text == "Cron 0 9 * * *"


def test_the_rule_for_other_programs() -> None:
    exported = started("weekly", monday=True, max_events=2).build_rrule()
    assert exported is not None
    assert [f"{moment:%a %d.%m. %H:%M}" for moment in exported] == [
        "Mon 23.11. 14:00",
        "Mon 30.11. 14:00",
    ]
    assert started("cron", cron="0 9 * * *").build_rrule() is None


# The order of rows


def rows(*numbers: int) -> list[BackgroundTask]:
    return [
        BackgroundTask.objects.create(procedure="nothing", name=f"r{n}", seqno=number)
        for n, number in enumerate(numbers, start=1)
    ]


def order() -> list[tuple[str, int]]:
    return list(BackgroundTask.objects.order_by("seqno", "pk").values_list("name", "seqno"))


@pytest.mark.django_db
def test_a_row_without_a_number_goes_to_the_end() -> None:
    first = BackgroundTask.objects.create(procedure="nothing")
    assert first.seqno == 1
    rows(7)
    row = BackgroundTask(procedure="nothing")
    with pytest.raises(ValidationError):
        row.full_clean()  # the procedure is unknown; the number is there all the same
    assert row.seqno == 8


@pytest.mark.django_db
def test_a_row_at_the_end_of_all_numbers_stays_the_last() -> None:
    rows(LARGEST, 7, 2**31 - 1)
    added = BackgroundTask.objects.create(procedure="nothing", name="added")
    assert added.seqno == 8
    BackgroundTask.objects.filter(pk=added.pk).update(seqno=LARGEST - 1)
    for name in ("tight", "tighter"):
        BackgroundTask.objects.create(procedure="nothing", name=name)
    assert [name for name, _seqno in order()] == ["r2", "added", "r1", "tight", "tighter", "r3"]


@pytest.mark.django_db
def test_moving_finds_room_at_the_end_of_all_numbers() -> None:
    first, _second, third = rows(LARGEST, LARGEST, 2**31 - 1)
    assert first.move_down()
    assert order() == [("r2", LARGEST - 2), ("r1", LARGEST - 1), ("r3", LARGEST)]
    third.refresh_from_db()
    assert third.move_up()
    assert [name for name, _seqno in order()] == ["r2", "r3", "r1"]


@pytest.mark.django_db
def test_moving_changes_places() -> None:
    first, second, third = rows(1, 2, 5)
    assert third.move_up()
    assert order() == [("r1", 1), ("r3", 2), ("r2", 5)]
    assert third.seqno == 2
    assert first.move_down()
    assert order() == [("r3", 1), ("r1", 2), ("r2", 5)]
    second.refresh_from_db()
    assert not second.move_down()
    third.refresh_from_db()
    assert not third.move_up()
    assert order() == [("r3", 1), ("r1", 2), ("r2", 5)]


@pytest.mark.django_db
def test_moving_renumbers_where_numbers_repeat() -> None:
    _first, second, _third = rows(1, 1, 1)
    assert second.move_up()
    assert order() == [("r2", 1), ("r1", 2), ("r3", 3)]


@pytest.mark.django_db
def test_moving_writes_nothing_but_numbers() -> None:
    first, second = rows(1, 2)
    BackgroundTask.objects.filter(pk=second.pk).update(message="written meanwhile")
    second.message = "stale"
    assert second.move_up()
    assert BackgroundTask.objects.get(pk=second.pk).message == "written meanwhile"
    assert order() == [("r2", 1), ("r1", 2)]
    assert not first.move_down()


@pytest.mark.django_db
def test_a_row_that_is_gone_cannot_be_moved() -> None:
    first, _second = rows(1, 2)
    BackgroundTask.objects.filter(pk=first.pk).delete()
    with pytest.raises(ChangedMeanwhile, match="does not exist any more"):
        first.move_down()


@pytest.mark.django_db
def test_a_move_that_somebody_else_crossed_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    first, _second = rows(1, 2)
    stale = first._numbers()
    BackgroundTask.objects.filter(name="r2").update(seqno=9)
    monkeypatch.setattr(first, "_numbers", lambda: list(stale))
    with pytest.raises(ChangedMeanwhile, match="nothing was moved"):
        first.move_down()
    assert order() == [("r1", 1), ("r2", 9)]


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("numbers", "moved", "wanted", "renumbered", "expected"),
    [
        ((1, 2, 3, 4), 4, 2, 2, [("r1", 1), ("r4", 2), ("r2", 3), ("r3", 4)]),
        ((1, 2, 3, 4), 1, 3, 2, [("r2", 2), ("r1", 3), ("r3", 4), ("r4", 5)]),
        ((1, 2, 9), 3, 2, 1, [("r1", 1), ("r3", 2), ("r2", 3)]),
        ((1, 2, 9), 1, 2, 1, [("r1", 2), ("r2", 3), ("r3", 9)]),
        ((1, 2, 3), 3, 8, 0, [("r1", 1), ("r2", 2), ("r3", 8)]),
        ((2, 2, 5), 3, 2, 2, [("r3", 2), ("r1", 3), ("r2", 4)]),
        ((LARGEST, 5), 2, LARGEST, 0, [("r1", LARGEST), ("r2", LARGEST)]),
        ((LARGEST - 1, LARGEST, 5), 3, LARGEST - 1, 1,
         [("r3", LARGEST - 1), ("r1", LARGEST), ("r2", LARGEST)]),
        ((2**31 - 1, 5), 2, 2**31 - 1, 0, [("r1", 2**31 - 1), ("r2", 2**31 - 1)]),
    ],
)  # fmt: skip
def test_setting_a_number_renumbers_those_behind_it(
    numbers: tuple[int, ...],
    moved: int,
    wanted: int,
    renumbered: int,
    expected: list[tuple[str, int]],
) -> None:
    row = rows(*numbers)[moved - 1]
    row.seqno = wanted
    row.save()
    assert row.renumber_siblings() == renumbered
    assert order() == expected
