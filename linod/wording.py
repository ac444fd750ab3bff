"""Rules in words. Plain English; where they are shown, they can be translated as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from linod.recurrence import Recurrence

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)
NOUNS = {
    "secondly": "second",
    "minutely": "minute",
    "hourly": "hour",
    "daily": "day",
    "weekly": "week",
    "monthly": "month",
    "yearly": "year",
    "easter": "year",
}
ORDINALS = ("first", "second", "third", "fourth", "fifth")
WORKING_DAYS = frozenset(range(5))


def describe(rule: Recurrence) -> str:
    """The rule as a person says it, with its end and number of events."""
    words = [phrase(rule)]
    if rule.every_unit not in ("never", "once"):
        if rule.max_events is not None:
            words.append("once only" if rule.max_events == 1 else f"{rule.max_events} times")
        if rule.end is not None:
            words.append(f"until {rule.end.astimezone(rule.zone):%Y-%m-%d %H:%M}")
    return ", ".join(words)


def phrase(rule: Recurrence) -> str:
    """The rule without its end."""
    start, at = rule.wall_start, f"at {clock(rule.wall_start.time())}"
    match rule.every_unit:
        case "never":
            return "never"
        case "once":
            return f"once on {start:%Y-%m-%d} {at}"
        case "cron":
            return f"cron {rule.cron}"
        case "secondly" | "minutely" | "hourly":
            anyday = len(rule.weekdays) in (0, 7)
            return interval(rule) if anyday else f"{interval(rule)} {on_days(rule.weekdays)}"
        case "daily":
            return daily(rule, at)
        case "weekly":
            named = rule.weekdays or {start.weekday()}
            if rule.every == 1:
                return f"every {days(named)} {at}"
            return f"{interval(rule)} {on_days(named)} {at}"
        case "easter":
            return f"{from_easter(rule)} {interval(rule)} {at}"
        case _:
            return f"{monthly(rule, start)} {at}"


def daily(rule: Recurrence, at: str) -> str:
    """A daily rule; its weekdays are all there is to say when it runs on each of them."""
    if not rule.weekdays:
        return f"{interval(rule)} {at}"
    if rule.every == 1:
        return f"every {days(rule.weekdays)} {at}"
    if len(rule.weekdays) == 7:
        return f"{interval(rule)} {at}"
    return f"{interval(rule)} {at}, only {on_days(rule.weekdays)}"


def monthly(rule: Recurrence, start: datetime) -> str:
    """The days of a monthly or yearly rule."""
    if rule.weekdays or rule.positions:
        which = listed([position(p) for p in rule.positions], "and")
        named = days(rule.weekdays, "or" if which else "and") if rule.weekdays else "day"
        wanted = f"{which} {named}" if which else named
        if rule.every == 1:
            return f"every {wanted} of the {NOUNS[rule.every_unit]}"
        return f"{interval(rule)} on {'the' if which else 'every'} {wanted}"
    if rule.every_unit == "yearly":
        return f"{interval(rule)} on {start.day} {MONTHS[start.month - 1]}"
    return f"{interval(rule)} on day {start.day}" + (" or the last" if start.day > 28 else "")


def interval(rule: Recurrence) -> str:
    """The rule's step: "every day", "every 2 weeks"."""
    noun = NOUNS[rule.every_unit]
    return f"every {noun}" if rule.every == 1 else f"every {rule.every} {noun}s"


def from_easter(rule: Recurrence) -> str:
    """How far from Easter Sunday: "on Easter Sunday", "39 days after Easter"."""
    distance = rule.days_from_easter
    if distance == 0:
        return "on Easter Sunday"
    number = "1 day" if abs(distance) == 1 else f"{abs(distance)} days"
    return f"{number} {'after' if distance > 0 else 'before'} Easter"


def days(weekdays: frozenset[int] | set[int], word: str = "and") -> str:
    """Weekdays in words: "Monday and Thursday", "working day", "day"."""
    if weekdays == WORKING_DAYS:
        return "working day"
    if len(weekdays) == 7:
        return "day"
    return listed([DAYS[n] for n in sorted(weekdays)], word)


def on_days(weekdays: frozenset[int] | set[int]) -> str:
    """When in the week: "on Monday and Thursday", "on working days", "on every day"."""
    if weekdays == WORKING_DAYS:
        return "on working days"
    return "on every day" if len(weekdays) == 7 else f"on {days(weekdays)}"


def position(number: int) -> str:
    """A position in words.

    >>> [position(n) for n in (1, 6, 22, 113, -1, -2)]
    ['first', '6th', '22nd', '113th', 'last', 'second last']
    """
    if number == -1:
        return "last"
    if number < 0:
        return f"{position(-number)} last"
    if number <= len(ORDINALS):
        return ORDINALS[number - 1]
    teens = 10 < number % 100 < 20
    ending = "th" if teens else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def listed(words: Sequence[str], word: str) -> str:
    """Words in a row: "a, b and c"."""
    return ", ".join(words[:-1]) + f" {word} {words[-1]}" if len(words) > 1 else "".join(words)


def clock(moment: time) -> str:
    """A time of day; the seconds only where there are any."""
    return f"{moment:%H:%M:%S}" if moment.second else f"{moment:%H:%M}"
