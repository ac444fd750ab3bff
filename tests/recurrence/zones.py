"""Every zone of the tz database, and the moments at which its clocks change."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import pairwise
from zoneinfo import ZoneInfo, available_timezones

FIRST, LAST = datetime(2025, 1, 1, tzinfo=UTC), datetime(2038, 1, 1, tzinfo=UTC)
DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
DAYS = [FIRST + n * DAY for n in range((LAST - FIRST).days + 1)]


def offset_at(zone: ZoneInfo, moment: datetime) -> timedelta | None:
    return moment.astimezone(zone).utcoffset()


def first_minute_without(zone: ZoneInfo, offset: timedelta | None, moment: datetime) -> datetime:
    """The first minute from ``moment`` on with another offset, found by hours and then by minutes.

    Clocks do not change and change back within an hour.
    """
    while offset_at(zone, moment + HOUR) == offset:
        moment += HOUR
    while offset_at(zone, moment) == offset:
        moment += MINUTE
    return moment


@cache
def changes(key: str) -> tuple[tuple[datetime, timedelta | None], ...]:
    """From 2025 to 2037: the first minute of each new offset, and that offset.

    The first pair is the beginning, where nothing changes.
    """
    zone = ZoneInfo(key)
    offset = offset_at(zone, FIRST)
    found = [(FIRST, offset)]
    for day, following in pairwise(DAYS):
        if following.astimezone(zone).utcoffset() != offset:
            minute = first_minute_without(zone, offset, day)
            offset = offset_at(zone, minute)
            found.append((minute, offset))
    return tuple(found)


@cache
def distinct_zones() -> dict[str, list[str]]:
    """One zone for all those whose clocks agree in that time, with their names."""
    alike: dict[tuple[tuple[datetime, timedelta | None], ...], list[str]] = {}
    for key in sorted(available_timezones()):
        alike.setdefault(changes(key), []).append(key)
    return {keys[0]: keys for keys in alike.values()}
