"""Rules, moments and zones to draw from."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from hypothesis import assume
from hypothesis import strategies as st

from linod.exceptions import InvalidRecurrence
from linod.recurrence import Recurrence

SECOND = timedelta(seconds=1)

#: Changes of an hour, of half an hour, of two; at midnight and before it; a day left out; none.
ZONES = (
    "UTC",
    "Europe/Brussels",
    "America/New_York",
    "America/Havana",
    "America/Nuuk",
    "America/St_Johns",
    "Antarctica/Troll",
    "Africa/Casablanca",
    "Africa/Cairo",
    "Asia/Beirut",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Pacific/Chatham",
)

#: The family of units that each rule is drawn from.
UNITS = (
    "once",
    "secondly",
    "minutely",
    "hourly",
    "daily",
    "weekly",
    "monthly",
    "yearly",
    "easter",
    "cron",
)

CRONS = (
    "* * * * *",
    "*/7 * * * *",
    "0 9 * * 1-5",
    "30 2 * * *",
    "0,30 1-3 * * *",
    "0 0 31 * *",
    "0 0 29 2 *",
    "15 23 * * 0",
    "0 12 13 * 5",
    "59 23 31 12 *",
    "*/20 0 * * *",
)

zones = st.sampled_from(ZONES)
weekdays = st.frozensets(st.integers(0, 6), max_size=7)
nearby = st.timedeltas(timedelta(days=-40), timedelta(days=40))


def moments(first: int = 2005, last: int = 2040) -> st.SearchStrategy[datetime]:
    """Aware moments: anywhere, on whole minutes, or in a night in which clocks may change."""
    seconds = int((datetime(last, 1, 1, tzinfo=UTC) - datetime(first, 1, 1, tzinfo=UTC)) / SECOND)
    start = datetime(first, 1, 1, tzinfo=UTC)
    whole = st.integers(0, seconds).map(lambda n: start + n * SECOND)
    minutes = whole.map(lambda moment: moment.replace(second=0))
    fractions = st.builds(lambda m, n: m.replace(microsecond=n), whole, st.integers(0, 999_999))
    return st.one_of(whole, minutes, fractions, st.builds(last_sunday, minutes))


def last_sunday(moment: datetime) -> datetime:
    """That moment's time of day, between 0:00 and 5:00, on a last Sunday of March or October."""
    end = moment.replace(month=3 if moment.month < 7 else 10, day=31, hour=moment.hour % 5)
    return end - timedelta(days=end.isoweekday() % 7)


@st.composite
def rules(draw: st.DrawFn, units: tuple[str, ...] = UNITS) -> Recurrence:
    """Any rule that can be answered."""
    unit, zone = draw(st.sampled_from(units)), draw(zones)
    start = draw(moments(2000, 2030))
    if unit not in ("secondly", "minutely", "hourly") and draw(st.booleans()):
        start = start.astimezone(ZoneInfo(zone))
    every = draw(st.integers(1, 5) | st.integers(1, 100)) if unit != "cron" else 1
    if unit == "secondly":
        every *= draw(st.sampled_from((1, 60, 977, 86400)))
    takes_weekdays = unit not in ("once", "easter", "cron")
    positions: tuple[int, ...] = ()
    if unit in ("monthly", "yearly"):
        place = st.integers(-6, 6).filter(bool)
        positions = tuple(draw(st.lists(place, max_size=3)))
    end = draw(st.none() | st.timedeltas(timedelta(0), timedelta(days=4000)))
    try:
        return Recurrence(
            unit,
            every,
            start=start,
            end=None if end is None else start + end,
            weekdays=draw(weekdays) if takes_weekdays else frozenset(),
            positions=positions,
            max_events=draw(st.none() | st.integers(1, 30) | st.integers(1, 100_000)),
            cron=draw(st.sampled_from(CRONS)) if unit == "cron" else "",
            time_zone=zone,
        )
    except InvalidRecurrence as error:
        assume("never names" not in error.message and "names nothing" not in error.message)
        raise
