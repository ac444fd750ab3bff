"""Rules for other programs, as :class:`dateutil.rrule.rrule`."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Literal

from dateutil import rrule as du

from linod.rules import as_utc
from linod.series import TICK

if TYPE_CHECKING:
    from linod.recurrence import Recurrence

Frequency = Literal[0, 1, 2, 3, 4, 5, 6]
FREQUENCIES: Final[dict[str, Frequency]] = {
    "once": du.DAILY,
    "secondly": du.SECONDLY,
    "minutely": du.MINUTELY,
    "hourly": du.HOURLY,
    "daily": du.DAILY,
    "weekly": du.WEEKLY,
    "monthly": du.MONTHLY,
    "yearly": du.YEARLY,
    "easter": du.YEARLY,
}


def as_rrule(rule: Recurrence) -> du.rrule | None:
    """The rule over naive wall-clock times, which knows no clock changes; None if it has no form.

    Around clock changes, and across them for units below a day, the rule itself is right.
    """
    if rule.every_unit not in FREQUENCIES:
        return None
    start = rule.wall_start
    options: dict[str, Any] = {
        "dtstart": start,
        "interval": rule.every,
        "byweekday": sorted(rule.weekdays) or None,
        "bysetpos": rule.positions or None,
        "wkst": du.MO,
        **anchor(rule, start),
        **bounds(rule),
    }
    return du.rrule(FREQUENCIES[rule.every_unit], **options)


def anchor(rule: Recurrence, start: datetime) -> dict[str, Any]:
    """What the start says about the days, where weekdays and positions do not."""
    if rule.every_unit == "easter":
        return {"byeaster": rule.days_from_easter}
    if rule.every_unit == "weekly" and not rule.weekdays:
        return {"byweekday": start.weekday()}
    if rule.every_unit not in ("monthly", "yearly") or rule.weekdays:
        return {}
    month = {} if rule.every_unit == "monthly" else {"bymonth": start.month}
    if rule.positions:
        return {"bymonthday": range(1, 32)}
    # The last of the days from 28 on that a month has stands in for one that it lacks.
    return {**month, "bymonthday": range(min(start.day, 28), start.day + 1), "bysetpos": -1}


def bounds(rule: Recurrence) -> dict[str, Any]:
    """The end or the number of events; of both, the one that comes first."""
    if rule.every_unit == "once":
        return {"count": 1}
    if rule.max_events is not None:
        if rule.end is None:
            return {"count": rule.max_events}
        return {"count": rule.count(as_utc(rule.start) - TICK, rule.end)}
    if rule.end is not None:
        return {"until": rule.end.astimezone(rule.zone).replace(tzinfo=None)}
    return {}
