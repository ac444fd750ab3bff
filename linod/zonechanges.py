"""When the clocks of a zone change. All moments are aware and in UTC, on whole seconds.

The standard library tells a zone's offset at a moment, and no more. So the changes of a year are
looked for, once; and years that are like one another share them.
"""

from __future__ import annotations

from calendar import isleap
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple
from zoneinfo import ZoneInfo

SECOND = timedelta(seconds=1)

#: No clock of the tz database changed before that year; from the second one on every zone changes
#: its clocks by one rule for ever, or not at all.
FIRST_CHANGE, REGULAR = 1844, 2088

#: Between two changes of a zone there is more time than that.
STRIDE = timedelta(days=3)

#: Only a zone that crosses the date line changes its clocks by more.
ACROSS_THE_DATE_LINE = timedelta(hours=20)


#: How many years of all zones are kept at most; a zone has no more than three hundred that differ.
YEARS_KEPT = 16384


class Change(NamedTuple):
    """One change: from ``moment`` on the offset is no longer ``before``, but ``after``."""

    moment: datetime
    before: timedelta
    after: timedelta

    @property
    def shift(self) -> timedelta:
        """How far the clocks go forward; negative: back."""
        return self.after - self.before

    @property
    def wall(self) -> datetime:
        """What the clocks show when they are changed; naive."""
        return self.moment.replace(tzinfo=None) + self.before

    @property
    def day(self) -> int:
        """The day on which the clocks change, as an ordinal; they are right again at its end.

        A clock that goes back from midnight does so at the end of a day, one that goes forward
        from there does so at the beginning of the next; and one that goes forward across midnight
        (as in Toronto in 1919) did so before the day began.
        """
        return (self.wall + max(self.shift, timedelta(0)) - SECOND).toordinal()


def _form(year: int) -> tuple[bool, int]:
    return isleap(year), date(year, 1, 1).weekday()


#: Years without a century among them, in which the calendar takes all its forms.
_OLD = {_form(year): year for year in range(FIRST_CHANGE - 43, FIRST_CHANGE - 15)}
_LATE = {_form(year): year for year in range(REGULAR + 13, REGULAR + 41)}


@lru_cache(maxsize=16384)
def twin(year: int) -> tuple[int, int]:
    """A year that has the same days of the week and, in every zone, the same clock changes.

    Before and after the changes that history made there are few of them. The second number says how
    many days later ``year`` is; these are whole weeks.

    >>> [twin(year) for year in (1026, 2026, 3026)]
    [(1826, -292194), (2026, 0), (2119, 331275)]
    """
    if FIRST_CHANGE <= year < REGULAR:
        return year, 0
    like = (_OLD if year < FIRST_CHANGE else _LATE)[_form(year)]
    return like, (date(year, 1, 1) - date(like, 1, 1)).days


@lru_cache(maxsize=YEARS_KEPT)
def changes(zone: ZoneInfo, year: int) -> tuple[Change, ...]:
    """The clock changes of a zone in a year of UTC; ask for a :func:`twin`.

    >>> [f"{change.moment:%d %b %H:%M}" for change in changes(ZoneInfo("Europe/Brussels"), 2026)]
    ['29 Mar 01:00', '25 Oct 01:00']
    """
    if year < FIRST_CHANGE:
        return ()
    first, end = (datetime(near, 1, 1, tzinfo=UTC) - SECOND for near in (year, year + 1))
    moments = [*(first + n * STRIDE for n in range((end - first) // STRIDE + 1)), end]
    offsets = [offset_at(zone, moment) for moment in moments]
    return tuple(
        Change(turning(zone, *span), before, after)
        for span, (before, after) in zip(pairwise(moments), pairwise(offsets), strict=True)
        if before != after
    )


@lru_cache(maxsize=YEARS_KEPT)
def change_days(zone: ZoneInfo, year: int) -> tuple[tuple[int, int, int], ...]:
    """The days of a zone's year on which its clocks change; ask for a :func:`twin`.

    With each, as an ordinal: how many seconds after its midnight, and by how many seconds forward.
    """
    return tuple(
        (
            change.day,
            (change.wall - datetime.fromordinal(change.day)) // SECOND,
            change.shift // SECOND,
        )
        for near in (year - 1, year, year + 1)
        for change in changes(zone, near)
        if date.fromordinal(change.day).year == year
    )


@lru_cache(maxsize=1024)
def lost_days(zone: ZoneInfo) -> tuple[int, ...]:
    """The days, as ordinals, that a zone left out when it crossed the date line.

    >>> [str(date.fromordinal(day)) for day in lost_days(ZoneInfo("Pacific/Apia"))]
    ['2011-12-30']
    """
    years = range(FIRST_CHANGE, REGULAR + 1)
    offsets = [offset_at(zone, datetime(year, 1, 1, tzinfo=UTC)) for year in years]
    crossings = (
        year
        for year, (first, last) in zip(years, pairwise(offsets), strict=False)
        if last - first > ACROSS_THE_DATE_LINE
    )
    return tuple(
        change.day
        for year in crossings
        for change in changes(zone, year)
        if change.shift > ACROSS_THE_DATE_LINE
    )


def offset_at(zone: ZoneInfo, moment: datetime) -> timedelta:
    """What the clocks of a zone show more than UTC."""
    return moment.astimezone(zone).utcoffset() or timedelta(0)


@lru_cache(maxsize=4096)
def beginnings(zone: ZoneInfo, day: int) -> tuple[datetime, ...]:
    """The instants at which the clocks of a zone pass into that day.

    Mostly one. Where the clock went back across midnight there are three (into the day, back out
    of it, into it again), as in St. John's until 2010:

    >>> day = date(2010, 11, 7).toordinal()
    >>> [f"{t:%H:%M}" for t in beginnings(ZoneInfo("America/St_Johns"), day)]
    ['02:30', '02:31', '03:30']
    """
    midnight = datetime.combine(date.fromordinal(day), time(), zone)
    first, second = midnight.astimezone(UTC), midnight.replace(fold=1).astimezone(UTC)
    if second <= first or (second - SECOND).astimezone(zone).toordinal() >= day:
        return (first,)
    return (first, turning(zone, first, second), second)


@lru_cache(maxsize=4096)
def turning(zone: ZoneInfo, earlier: datetime, later: datetime) -> datetime:
    """The moment, not after ``later``, from which on a zone has the offset that it has then.

    There is one change after ``earlier``, at which it does not have it yet.
    """
    offset = offset_at(zone, later)
    while later - earlier > SECOND:
        middle = (earlier + (later - earlier) / 2).replace(microsecond=0)
        if offset_at(zone, middle) == offset:
            later = middle
        else:
            earlier = middle
    return later
