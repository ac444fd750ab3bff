"""Procedures: the functions that an application declares to run in the background.

A declaration says what the function is called and how often it should run unless the site manager
says otherwise. What runs when is then a matter of rows (:class:`linod.models.BackgroundTask`).
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, time
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, overload

from django.utils.translation import gettext_lazy as _

from linod.capture import storable
from linod.choices import ChoiceList, Recurrences
from linod.exceptions import (
    CircularOrder,
    DuplicateProcedure,
    InvalidRecurrence,
    UnknownProcedure,
)
from linod.phrases import OneOf, did_you_mean, gettext_noop
from linod.rowrules import as_date, as_time
from linod.rules import is_fraction

if TYPE_CHECKING:
    from linod.requests import BaseRequest

Function = TypeVar("Function", bound=Callable[..., Any])

#: What a declaration may say about the row that ``sync`` makes for it.
ROW_FIELDS = frozenset(
    """name arguments log_level disabled disabled_until disabled_reason every_unit every start_date
    start_time end_date end_time positions monday tuesday wednesday thursday friday saturday sunday
    max_events cron time_zone missed missed_within timeout max_attempts retry_delay disable_after
    rerun_lost""".split()
)
#: Those that are whole numbers: of a fraction the column would keep only a part.
WHOLE_NUMBERS = ("every", "max_events", "missed_within", "max_attempts", "disable_after")
DECLARATION_ONLY = frozenset({"at", "run_after", "aliases"})
#: How long a name may be: rows hold it.
NAME_LENGTH = 100


class Procedure:
    """A function that runs in the background, under a name that rows refer to.

    :param func: takes a request (``ar``) or nothing; sync or async. None: no such function here.
    :param name: at most 100 characters; default: the function's name.
    :param kwargs: values for the row that is made for it, by field name.
    :param run_after: names of procedures that go first when both are due.
    :param aliases: former names, still found in rows.
    """

    def __init__(
        self,
        func: Callable[..., Any] | None,
        name: str = "",
        *,
        kwargs: Mapping[str, Any] | None = None,
        run_after: tuple[str, ...] = (),
        aliases: tuple[str, ...] = (),
    ) -> None:
        self.func = func
        self.name = name or getattr(func, "__name__", "")
        self.value = self.text = self.name
        self.kwargs = dict(kwargs or {})
        self.run_after = run_after
        self.aliases = aliases
        self.is_async = inspect.iscoroutinefunction(func)
        self.takes_request = func is not None and _takes_request(func, self.name)

    @property
    def every_unit(self) -> str:
        """The suggested unit of recurrence, a name of :class:`linod.choices.Recurrences`."""
        return str(self.kwargs.get("every_unit", "never"))

    @property
    def every_value(self) -> Any:
        """The suggested number of units between two runs, as it was declared."""
        return self.kwargs.get("every", 1)

    @property
    def start_datetime(self) -> datetime | None:
        """When it should run first (local wall time), if the declaration names a date."""
        day = self.kwargs.get("start_date")
        return datetime.combine(day, self.kwargs.get("start_time") or time()) if day else None

    @property
    def suggested_recurrency(self) -> str:
        """The declared rule as the table of procedures shows it."""
        return f"every={self.every_value}, every_unit={self.every_unit}"

    @property
    def help_text(self) -> str:
        """The first line of the function's docstring."""
        return (inspect.getdoc(self.func) or "").partition("\n")[0] if self.func else ""

    @property
    def is_known(self) -> bool:
        """Whether this process has the function."""
        return self.func is not None

    @property
    def names(self) -> tuple[str, ...]:
        """The name and the aliases: all that a row of this procedure may hold."""
        return (self.name, *self.aliases)

    def run(self, ar: BaseRequest) -> Any:
        """Call the function; for an async one this returns its coroutine."""
        if self.func is None:
            raise UnknownProcedure(f"This process knows no procedure {self.name!r}")
        return self.func(ar) if self.takes_request else self.func()

    @property
    def where(self) -> str:
        """Module, name, file and line of the function, for messages to people."""
        func = inspect.unwrap(self.func) if self.func is not None else None
        text = f"{getattr(func, '__module__', '?')}.{getattr(func, '__qualname__', self.name)}"
        code = getattr(func, "__code__", None)
        return f"{text} ({code.co_filename}:{code.co_firstlineno})" if code else text

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"Procedures.{self.name}"

    def __eq__(self, other: object) -> bool:
        """Procedures are their names: also for forms and lists that hold them as text."""
        return self.name == (other.name if isinstance(other, Procedure) else other)

    def __hash__(self) -> int:
        return hash(self.name)


def _takes_request(func: Callable[..., Any], name: str) -> bool:
    parameters = inspect.signature(func).parameters.values()
    required = [
        p
        for p in parameters
        if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
    if len(required) > 1 or any(p.kind is p.KEYWORD_ONLY for p in required):
        names = ", ".join(p.name for p in required)
        raise TypeError(f"Procedure {name}() must take one argument (ar) or none, not {names}")
    return any(p.kind is not p.KEYWORD_ONLY and p.kind is not p.VAR_KEYWORD for p in parameters)


class Procedures(ChoiceList):
    """The background procedures of this site, in the order of their declaration."""

    verbose_name = _("Background procedure")
    verbose_name_plural = _("Background procedures")
    columns = (*ChoiceList.columns, ("suggested_recurrency", _("Suggested recurrency")))
    registry: ClassVar[dict[str, Procedure]] = {}

    @classmethod
    def get_list_items(cls) -> list[Procedure]:
        """All procedures, in the order of their declaration."""
        return list(cls.registry.values())

    @classmethod
    def get_by_name(cls, name: str, default: Any = None) -> Any:
        """The procedure of that name or alias, else ``default``."""
        found = cls.registry.get(name)
        if found is None:
            found = next((p for p in cls.registry.values() if name in p.aliases), None)
        return default if found is None else found

    @classmethod
    def get_by_value(cls, value: str, default: Any = None) -> Any:
        """The procedure of that name (its value is its name), else ``default``."""
        return cls.get_by_name(value, default)

    @classmethod
    def find(cls, name: str) -> Procedure:
        """The procedure of that name; :class:`UnknownProcedure` names the nearest ones."""
        found: Procedure | None = cls.get_by_name(name)
        if found is None:
            near = difflib.get_close_matches(name, cls.known_names(), n=3)
            if not near:
                raise UnknownProcedure(gettext_noop("There is no procedure %(name)r"), name=name)
            message = gettext_noop("There is no procedure %(name)r, did you mean %(near)s?")
            raise UnknownProcedure(message, name=name, near=OneOf(near))
        return found

    @classmethod
    def known_names(cls) -> list[str]:
        """Every name that a row may hold and that this process can run."""
        return [name for procedure in cls.registry.values() for name in procedure.names]

    @classmethod
    def register(cls, procedure: Procedure) -> Procedure:
        """Add a procedure; :class:`DuplicateProcedure` when one of its names is taken.

        The same function declared anew (a reloaded module) replaces the former one.
        """
        for name in procedure.names:
            other = cls.get_by_name(name)
            if other is not None and other.where != procedure.where:
                raise DuplicateProcedure(
                    f"Two procedures want the name {name!r}: {other.where} and {procedure.where}"
                )
        cls.registry[procedure.name] = procedure
        return procedure

    @classmethod
    def in_running_order(cls) -> list[Procedure]:
        """All procedures, each behind those that its ``run_after`` names; else as declared."""
        ordered: dict[str, Procedure] = {}
        path: list[str] = []

        def place(procedure: Procedure) -> None:
            if procedure.name in path:
                circle = " -> ".join([*path[path.index(procedure.name) :], procedure.name])
                message = gettext_noop("run_after goes round in a circle: %(circle)s")
                raise CircularOrder(message, circle=circle)
            path.append(procedure.name)
            for name in procedure.run_after:
                earlier = cls.get_by_name(name)
                if earlier is not None and earlier.name not in ordered:
                    place(earlier)
            path.pop()
            ordered[procedure.name] = procedure

        for procedure in cls.registry.values():
            if procedure.name not in ordered:
                place(procedure)
        return list(ordered.values())


def declare(func: Callable[..., Any], name: str = "", /, **keywords: Any) -> Procedure:
    """Register ``func`` as a procedure; the keywords are those of :func:`background_task`.

    Raises TypeError or ValueError for what cannot be declared, with the near name of a misspelt
    word, and :class:`linod.exceptions.DuplicateProcedure`.
    """
    name = name or getattr(func, "__name__", "")
    _check_function(func, name)
    _check_keywords(name, keywords)
    if "every_unit" in keywords:
        keywords["every_unit"] = keywords["every_unit"] or "never"
    run_after, aliases = _names(keywords.pop("run_after", ())), _names(keywords.pop("aliases", ()))
    _check_names(name, *aliases)
    if "at" in keywords:
        keywords["start_time"] = _wall_time("at", keywords.pop("at"))
    for key in ("start_date", "end_date"):
        if key in keywords:
            keywords[key] = _day(key, keywords[key])
    for key in ("start_time", "end_time"):
        if key in keywords:
            keywords[key] = _wall_time(key, keywords[key])
    return Procedures.register(
        Procedure(func, name, run_after=run_after, aliases=aliases, kwargs=keywords)
    )


def _check_function(func: Any, name: str) -> None:
    if not callable(func):
        raise TypeError(f"{func!r} is no function; say what it is: at='20:00', every=10 ...")
    if not name:
        raise TypeError(f"{func!r} has no name that rows could refer to; write a def around it")
    if len(name) > NAME_LENGTH:
        raise ValueError(f"Procedure {name}: a name has at most {NAME_LENGTH} characters")
    if inspect.isgeneratorfunction(func) or inspect.isasyncgenfunction(func):
        raise TypeError(f"Procedure {name}() is a generator: calling it would do nothing")


def _check_names(*names: str) -> None:
    """Rows are looked for by all of them: one that a database refuses would fail each look."""
    for name in names:
        if storable(name) != name:
            raise ValueError(f"Procedure {storable(name)}: databases refuse the name {name!r}")


def _check_keywords(name: str, keywords: Mapping[str, Any]) -> None:
    allowed = ROW_FIELDS | DECLARATION_ONLY
    for key in keywords:
        if key not in allowed:
            hint = did_you_mean(key, allowed)
            raise TypeError(f"Procedure {name}: a background task has no field {key!r}{hint}")
    unit = keywords.get("every_unit") or "never"
    if unit not in Recurrences:
        hint = did_you_mean(str(unit), map(str, Recurrences))
        raise ValueError(f"Procedure {name}: every_unit: there is no unit {unit!r}{hint}")
    for key in WHOLE_NUMBERS:
        if is_fraction(keywords.get(key)):
            raise ValueError(f"Procedure {name}: {key}: give a whole number, not {keywords[key]!r}")


def _names(value: str | Iterable[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(map(str, value))


def _wall_time(key: str, value: Any) -> time | None:
    found: Any = _read(as_time, key, value)
    if found is None or (isinstance(found, time) and found.tzinfo is None):
        return found
    raise TypeError(f"{key}: {value!r} is no time of day such as '20:00'")


def _day(key: str, value: Any) -> date | None:
    found: Any = _read(as_date, key, value)
    if found is None or (isinstance(found, date) and not isinstance(found, datetime)):
        return found
    raise TypeError(f"{key}: {value!r} is no date such as '2026-12-31'")


def _read(parse: Callable[[str, Any], Any], key: str, value: Any) -> Any:
    try:
        return parse(key, value)
    except InvalidRecurrence as error:
        raise ValueError(str(error)) from error


@overload
def background_task(func: Function, /) -> Function: ...
@overload
def background_task(**keywords: Any) -> Callable[[Function], Function]: ...
def background_task(func: Any = None, /, **keywords: Any) -> Any:
    """Declare the decorated function as a procedure.

    Keywords are values for its row, by field name (``every_unit``, ``every``, ``timeout`` ...), and
    ``at`` ("HH:MM", wall time), ``run_after`` and ``aliases`` (a name or several).
    The function itself is returned unchanged.
    """

    def decorate(function: Any) -> Any:
        declare(function, **keywords)
        return function

    return decorate if func is None else decorate(func)


@overload
def schedule_often(every: Function) -> Function: ...
@overload
def schedule_often(every: int = 10, **keywords: Any) -> Callable[[Function], Function]: ...
def schedule_often(every: Any = 10, **keywords: Any) -> Any:
    """Declare the decorated function to run every so many seconds (10 when nothing is said)."""
    seconds = 10 if callable(every) else every
    decorate = background_task(**{"every_unit": "secondly", "every": seconds, **keywords})
    return decorate(every) if callable(every) else decorate


@overload
def schedule_daily(func: Function, /) -> Function: ...
@overload
def schedule_daily(**keywords: Any) -> Callable[[Function], Function]: ...
def schedule_daily(func: Any = None, /, **keywords: Any) -> Any:
    """Declare the decorated function to run once a day, at 20:00 unless ``at`` says otherwise."""
    decorate = background_task(**{"every_unit": "daily", "every": 1, **keywords})
    return decorate if func is None else decorate(func)
