"""Every zone of the tz database, and the moments at which its clocks change."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo, available_timezones

FIRST, LAST = datetime(2025, 1, 1, tzinfo=UTC), datetime(2038, 1, 1, tzinfo=UTC)
DAY, MINUTE = timedelta(days=1), timedelta(minutes=1)


@cache
def changes(key: str) -> tuple[tuple[datetime, timedelta | None], ...]:
    """From 2025 to 2037: the first minute of each new offset, and that offset.

    The first pair is the beginning, where nothing changes.
    """
    zone = ZoneInfo(key)
    found = [(FIRST, FIRST.astimezone(zone).utcoffset())]
    moment = FIRST
    while moment < LAST:
        if (moment + DAY).astimezone(zone).utcoffset() != found[-1][1]:
            minute = moment
            while minute.astimezone(zone).utcoffset() == found[-1][1]:
                minute += MINUTE
            found.append((minute, minute.astimezone(zone).utcoffset()))
        moment += DAY
    return tuple(found)


@cache
def distinct_zones() -> dict[str, list[str]]:
    """One zone for all those whose clocks agree in that time, with their names."""
    alike: dict[tuple[tuple[datetime, timedelta | None], ...], list[str]] = {}
    for key in sorted(available_timezones()):
        alike.setdefault(changes(key), []).append(key)
    return {keys[0]: keys for keys in alike.values()}
