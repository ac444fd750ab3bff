"""Rules in words: whole sentences with places in them, so that each can be translated."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, time, tzinfo
from typing import TYPE_CHECKING

from linod import cronrule
from linod.phrases import Language, gettext_noop
from linod.rules import BY_WALL_CLOCK, STEPS

if TYPE_CHECKING:
    from linod.recurrence import Recurrence

DAYS = (
    gettext_noop("Monday"),
    gettext_noop("Tuesday"),
    gettext_noop("Wednesday"),
    gettext_noop("Thursday"),
    gettext_noop("Friday"),
    gettext_noop("Saturday"),
    gettext_noop("Sunday"),
)
MONTHS = (
    gettext_noop("January"),
    gettext_noop("February"),
    gettext_noop("March"),
    gettext_noop("April"),
    gettext_noop("May"),
    gettext_noop("June"),
    gettext_noop("July"),
    gettext_noop("August"),
    gettext_noop("September"),
    gettext_noop("October"),
    gettext_noop("November"),
    gettext_noop("December"),
)
WORKING_DAYS = frozenset(range(5))
POSITIONS = {
    1: gettext_noop("first"),
    2: gettext_noop("second"),
    3: gettext_noop("third"),
    4: gettext_noop("fourth"),
    5: gettext_noop("fifth"),
    -1: gettext_noop("last"),
    -2: gettext_noop("second last"),
    -3: gettext_noop("third last"),
    -4: gettext_noop("fourth last"),
    -5: gettext_noop("fifth last"),
}
#: Further positions, by the last digit: counted from the beginning, and from the end.
_TH = (gettext_noop("%(number)dth"), gettext_noop("%(number)dth last"))
ENDINGS = (
    _TH,
    (gettext_noop("%(number)dst"), gettext_noop("%(number)dst last")),
    (gettext_noop("%(number)dnd"), gettext_noop("%(number)dnd last")),
    (gettext_noop("%(number)drd"), gettext_noop("%(number)drd last")),
    _TH,
)


def describe(rule: Recurrence, language: Language) -> str:
    """The rule as a person says it, with its end and number of events."""
    text = phrase(rule, language)
    if rule.every_unit in ("never", "once"):
        return text
    if rule.max_events is not None:
        text = language.ngettext(
            "%(rule)s, once only", "%(rule)s, %(number)d times", rule.max_events
        ) % {"rule": text, "number": rule.max_events}
    if rule.end is not None:
        moment = f"{rule.end.astimezone(rule.zone):%Y-%m-%d %H:%M}"
        text = language.gettext("%(rule)s, until %(moment)s") % {"rule": text, "moment": moment}
    return text


def phrase(rule: Recurrence, language: Language) -> str:
    """The rule without its end."""
    match rule.every_unit:
        case "never":
            return language.gettext("never")
        case "once":
            words = {"date": f"{rule.wall_start:%Y-%m-%d}", "time": time_of_day(rule)}
            return language.gettext("once on %(date)s at %(time)s") % words
        case "cron":
            return language.gettext("cron %(cron)s") % {"cron": rule.cron}
        case "secondly" | "minutely" | "hourly":
            return elapsed(rule, language)
        case "daily":
            return daily(rule, language)
        case "weekly":
            return weekly(rule, language)
        case "easter":
            return from_easter(rule, language)
        case _:
            return monthly(rule, language)


def elapsed(rule: Recurrence, language: Language) -> str:
    """A rule of elapsed time, and its weekdays."""
    step = interval(rule, language)
    if len(rule.weekdays) in (0, 7):
        return step
    words = {"interval": step, "days": days(rule.weekdays, language)}
    if rule.weekdays == WORKING_DAYS:
        return language.gettext("%(interval)s on working days") % words
    return language.gettext("%(interval)s on %(days)s") % words


def daily(rule: Recurrence, language: Language) -> str:
    """A daily rule; its weekdays are all there is to say when it runs on each of them."""
    words = {"interval": interval(rule, language), "time": time_of_day(rule)}
    if len(rule.weekdays) in (0, 7):
        return language.gettext("%(interval)s at %(time)s") % words
    words["days"] = days(rule.weekdays, language)
    is_working = rule.weekdays == WORKING_DAYS
    if rule.every > 1 and is_working:
        return language.gettext("%(interval)s at %(time)s, only on working days") % words
    if rule.every > 1:
        return language.gettext("%(interval)s at %(time)s, only on %(days)s") % words
    if is_working:
        return language.gettext("every working day at %(time)s") % words
    return language.gettext("every %(days)s at %(time)s") % words


def weekly(rule: Recurrence, language: Language) -> str:
    """A weekly rule: on its weekdays, else on that of its start."""
    named = rule.weekdays or frozenset({rule.wall_start.weekday()})
    words = {
        "interval": interval(rule, language),
        "days": days(named, language),
        "time": time_of_day(rule),
    }
    if named == WORKING_DAYS and rule.every == 1:
        return language.gettext("every working day at %(time)s") % words
    if named == WORKING_DAYS:
        return language.gettext("%(interval)s on working days at %(time)s") % words
    if len(named) == 7 and rule.every == 1:
        return language.gettext("every day at %(time)s") % words
    if len(named) == 7:
        return language.gettext("%(interval)s on every day at %(time)s") % words
    if rule.every == 1:
        return language.gettext("every %(days)s at %(time)s") % words
    return language.gettext("%(interval)s on %(days)s at %(time)s") % words


def monthly(rule: Recurrence, language: Language) -> str:
    """A monthly or yearly rule: by its weekdays and positions, else by the day of its start."""
    start = rule.wall_start
    words: dict[str, object] = {
        "interval": interval(rule, language),
        "time": time_of_day(rule),
        "day": start.day,
        "month": language.gettext(MONTHS[start.month - 1]),
    }
    if rule.weekdays or rule.positions:
        return chosen_days(rule, words, language)
    if rule.every_unit == "yearly":
        return language.gettext("%(interval)s on %(day)d %(month)s at %(time)s") % words
    if start.day > 28:
        return language.gettext("%(interval)s on day %(day)d or the last at %(time)s") % words
    return language.gettext("%(interval)s on day %(day)d at %(time)s") % words


def chosen_days(rule: Recurrence, words: dict[str, object], language: Language) -> str:
    """A monthly or yearly rule by its weekdays and positions; ``words``: what else it says."""
    is_yearly = rule.every_unit == "yearly"
    words["which"] = conjunction([position(n, language) for n in rule.positions], language)
    if not rule.positions:
        words["days"] = days(rule.weekdays, language)
        if rule.every > 1:
            return language.gettext("%(interval)s on every %(days)s at %(time)s") % words
        if is_yearly:
            return language.gettext("every %(days)s of the year at %(time)s") % words
        return language.gettext("every %(days)s of the month at %(time)s") % words
    words["days"] = alternatives(rule.weekdays, language)
    if rule.every > 1:
        return language.gettext("%(interval)s on the %(which)s %(days)s at %(time)s") % words
    if is_yearly:
        return language.gettext("every %(which)s %(days)s of the year at %(time)s") % words
    return language.gettext("every %(which)s %(days)s of the month at %(time)s") % words


def interval(rule: Recurrence, language: Language) -> str:
    """The rule's step: "every day", "every 2 weeks"."""
    number, ngettext = rule.every, language.ngettext
    match rule.every_unit:
        case "secondly":
            text = ngettext("every second", "every %(number)d seconds", number)
        case "minutely":
            text = ngettext("every minute", "every %(number)d minutes", number)
        case "hourly":
            text = ngettext("every hour", "every %(number)d hours", number)
        case "daily":
            text = ngettext("every day", "every %(number)d days", number)
        case "weekly":
            text = ngettext("every week", "every %(number)d weeks", number)
        case "monthly":
            text = ngettext("every month", "every %(number)d months", number)
        case _:
            text = ngettext("every year", "every %(number)d years", number)
    return text % {"number": number}


def from_easter(rule: Recurrence, language: Language) -> str:
    """A rule of Easter: "on Easter Sunday every year at 09:00"."""
    distance = rule.days_from_easter
    words: dict[str, object] = {
        "interval": interval(rule, language),
        "time": time_of_day(rule),
        "number": abs(distance),
    }
    if distance == 0:
        return language.gettext("on Easter Sunday %(interval)s at %(time)s") % words
    if distance > 0:
        text = language.ngettext(
            "%(number)d day after Easter %(interval)s at %(time)s",
            "%(number)d days after Easter %(interval)s at %(time)s",
            distance,
        )
    else:
        text = language.ngettext(
            "%(number)d day before Easter %(interval)s at %(time)s",
            "%(number)d days before Easter %(interval)s at %(time)s",
            -distance,
        )
    return text % words


def days(weekdays: frozenset[int], language: Language) -> str:
    """Weekdays in words: "Monday and Thursday", "working day", "day"."""
    return day_of_kind(weekdays, language) or conjunction(names(weekdays, language), language)


def alternatives(weekdays: frozenset[int], language: Language) -> str:
    """Days of which one is meant: "Monday or Thursday"; without weekdays any "day"."""
    some = day_of_kind(weekdays or frozenset(range(7)), language)
    if some:
        return some
    *others, last = names(weekdays, language)
    if not others:
        return last
    words = {"others": ", ".join(others), "last": last}
    return language.gettext("%(others)s or %(last)s") % words


def day_of_kind(weekdays: frozenset[int], language: Language) -> str:
    """What days of the week have in common; nothing when their names have to be told."""
    if weekdays == WORKING_DAYS:
        return language.gettext("working day")
    return language.gettext("day") if len(weekdays) == 7 else ""


def names(weekdays: frozenset[int], language: Language) -> list[str]:
    """The names of these days, Monday first."""
    return [language.gettext(DAYS[n]) for n in sorted(weekdays)]


def left_out(rule: Recurrence, moment: datetime) -> time | None:
    """The rule's time of day, where a change of the clocks leaves it out and shifts ``moment``.

    That must be an instant of the rule: any other is at another time of day without any change.
    """
    shown = moment.astimezone(rule.zone).time()
    if rule.every_unit == "cron":
        usual = _last_cron_time(rule.cron, shown)
    elif rule.every_unit in BY_WALL_CLOCK:
        usual = rule.wall_start.time()
    else:
        return None
    return None if shown == usual else usual


def _last_cron_time(text: str, shown: time) -> time:
    """The last time of day of a cron expression at or before a time, else the last of all."""
    times = cronrule.parse(text).times
    until = 3600 * shown.hour + 60 * shown.minute
    minutes = max((n for n in times if n <= until), default=times[-1]) // 60
    return time(minutes // 60, minutes % 60)


def counts_twice(rule: Recurrence) -> bool:
    """Whether the rule goes by elapsed time: what the clocks show twice, it names twice."""
    if rule.every_unit == "cron":
        return not cronrule.parse(rule.cron).by_clock
    return rule.every_unit in STEPS


def is_ambiguous(moment: datetime, zone: tzinfo) -> bool:
    """Whether the clocks of ``zone`` show the time of ``moment`` (aware) twice.

    >>> from datetime import UTC
    >>> from zoneinfo import ZoneInfo
    >>> night = datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    >>> [is_ambiguous(night.replace(hour=n), ZoneInfo("Europe/Brussels")) for n in range(3)]
    [True, True, False]
    """
    local = moment.astimezone(zone)
    return local.utcoffset() != local.replace(fold=1 - local.fold).utcoffset()


def position(number: int, language: Language) -> str:
    """A position in words.

    >>> from linod.phrases import ENGLISH
    >>> [position(n, ENGLISH) for n in (1, 6, 22, 113, -1, -2, -21)]
    ['first', '6th', '22nd', '113th', 'last', 'second last', '21st last']
    """
    text = POSITIONS.get(number)
    if text is None:
        ordinary, from_end = ENDINGS[0 if 10 < abs(number) % 100 < 20 else min(abs(number) % 10, 4)]
        text = from_end if number < 0 else ordinary
    text = language.gettext(text)
    return text % {"number": abs(number)}


def conjunction(words: Sequence[str], language: Language) -> str:
    """Words in a row: "a, b and c"."""
    if len(words) < 2:
        return "".join(words)
    row = {"others": ", ".join(words[:-1]), "last": words[-1]}
    return language.gettext("%(others)s and %(last)s") % row


def time_of_day(rule: Recurrence) -> str:
    """When in the day the rule starts; the seconds only where there are any."""
    moment = rule.wall_start.time()
    return f"{moment:%H:%M:%S}" if moment.second else f"{moment:%H:%M}"
