"""A clock for tests: it stands still, and goes where it is told.

It takes the place of the database's clock for linod's rows, and of Django's ``timezone.now()`` for
everything that asks that. ``datetime.now()`` and ``time.time()`` are left alone.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import ContextDecorator, ExitStack, contextmanager
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

from dateutil.relativedelta import relativedelta
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils import timezone

from linod import clock

#: Between two looks at the clock: no two moments are the same, as two runs of a task must differ.
TICK = timedelta(microseconds=1)
#: Units of a length of time: days and longer go by the calendar, the others are elapsed seconds.
CALENDAR = {"day": "days", "week": "weeks", "month": "months", "year": "years"}
ELAPSED = {"second": 1, "minute": 60, "hour": 3600}
SHORT = {"s": "second", "m": "minute", "min": "minute", "h": "hour", "d": "day", "w": "week"}
PART = re.compile(r"(\d{1,9}) ?([a-z]+)")

Length = str | timedelta
Moment = str | datetime


class VirtualClock:
    """A clock that stands still, but for a microsecond at each look."""

    def __init__(self, moment: datetime) -> None:
        self._moment = moment
        self._lock = threading.Lock()

    @property
    def now(self) -> datetime:
        """Where it stands; aware, UTC. Looking here does not move it."""
        return self._moment

    def read(self, connection: BaseDatabaseWrapper | None = None) -> datetime:
        """The time, as linod asks for it."""
        with self._lock:
            self._moment += TICK
            return self._moment

    def move(self, by: Length | None = None, *, to: Moment | None = None) -> None:
        """Go on by a length of time, or to a moment; see :func:`travel`."""
        with self._lock:
            self._moment = destination(self._moment, by, to)


_active: list[VirtualClock] = []


def active() -> VirtualClock | None:
    """The clock that stands in for the database's; None: the database's own."""
    return _active[-1] if _active else None


def freeze(moment: Moment | None = None) -> _Held:
    """Let time stand still, now or at a moment, in a ``with`` block or a decorated function.

    :param moment: a datetime or ISO 8601 text; without an offset in the site's time zone.
    """
    return _Held(None, moment)


def travel(by: Length | None = None, *, to: Moment | None = None) -> _Held:
    """Be somewhere else in time, and stand still there, in a ``with`` block or a function.

    :param by: a timedelta or words such as "1 week", "3 days 2 hours", "90m", "-1 day"; days and
        longer go by the site's wall clock, hours and shorter are elapsed time.
    :param to: a datetime or ISO 8601 text; without an offset in the site's time zone.

    At the end of the block it is as late as it was at its beginning.
    """
    if (by is None) == (to is None):
        raise TypeError('travel() takes a length of time ("1 week") or a moment (to=...)')
    return _Held(by, to)


def move(by: Length | None = None, *, to: Moment | None = None) -> None:
    """Move the clock of the current :func:`freeze` or :func:`travel` on, say inside a procedure."""
    held = active()
    if held is None:
        raise RuntimeError("The clock is the database's: move it inside clock.freeze()")
    held.move(by, to=to)


class _Held(ContextDecorator):
    """Puts a virtual clock in place, and the former one back."""

    def __init__(self, by: Length | None, to: Moment | None) -> None:
        self._by, self._to = by, to
        self._blocks: list[ExitStack] = []

    def __enter__(self) -> VirtualClock:
        virtual = VirtualClock(self._start())
        block = ExitStack()
        block.enter_context(_swapped(clock, "source", virtual.read))
        block.enter_context(_swapped(timezone, "datetime", _datetime_of(virtual)))
        _active.append(virtual)
        block.callback(_active.remove, virtual)
        self._blocks.append(block)
        return virtual

    def _start(self) -> datetime:
        if self._to is not None:
            return moment_of(self._to)  # without a look at the database: there may be none
        held = active()
        return destination(clock.db_now() if held is None else held.now, self._by, None)

    def __exit__(self, *details: object) -> None:
        self._blocks.pop().close()


@contextmanager
def _swapped(owner: Any, name: str, value: Any) -> Iterator[None]:
    former = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, former)


class _AnyDatetime(type):
    """What ``isinstance`` says of the real class, it says of the stand-in."""

    def __instancecheck__(cls, value: object) -> bool:
        return isinstance(value, datetime)


def _datetime_of(virtual: VirtualClock) -> type[datetime]:
    """The class that ``timezone.now()`` asks; also where the function itself was kept before."""

    class Datetime(datetime, metaclass=_AnyDatetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Any:
            return virtual.now.astimezone(tz)

    return Datetime


# Lengths and moments


def destination(here: datetime, by: Length | None, to: Moment | None) -> datetime:
    """The moment that is meant; aware, UTC. Raises ValueError for words that mean none."""
    if to is not None:
        return moment_of(to)
    if by is None:
        return here
    return here + by if isinstance(by, timedelta) else _after(here, by)


def moment_of(to: Moment) -> datetime:
    """A moment as :func:`travel` takes it; aware, UTC. Raises ValueError for text that is none."""
    moment = datetime.fromisoformat(to) if isinstance(to, str) else to
    return (timezone.make_aware(moment) if moment.tzinfo is None else moment).astimezone(UTC)


def _after(here: datetime, words: str) -> datetime:
    sign, text = (-1, words[1:]) if words.startswith("-") else (1, words)
    days, elapsed = relativedelta(), timedelta()
    for number, unit in _parts(text, words):
        if unit in CALENDAR:
            days += relativedelta(**{CALENDAR[unit]: sign * number})  # type: ignore[arg-type]
        else:
            elapsed += timedelta(seconds=sign * number * ELAPSED[unit])
    if days:
        wall = timezone.localtime(here).replace(tzinfo=None) + days
        here = timezone.make_aware(wall).astimezone(UTC)
    return here + elapsed


def _parts(text: str, words: str) -> list[tuple[int, str]]:
    """The numbers and units of a length of time.

    >>> _parts("1 week 90m", "")
    [(1, 'week'), (90, 'minute')]
    """
    found = [(int(n), SHORT.get(unit, unit.removesuffix("s"))) for n, unit in PART.findall(text)]
    is_known = all(unit in CALENDAR or unit in ELAPSED for _number, unit in found)
    if not found or not is_known or PART.sub("", text).strip(" ,"):
        raise ValueError(f'{words!r} is no length of time such as "1 week" or "3 days 2 hours"')
    return found
