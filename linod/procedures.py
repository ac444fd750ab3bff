"""Procedures: the functions that an application declares to run in the background.

A declaration says what the function is called and how often it should run unless the site manager
says otherwise. What runs when is then a matter of rows (:class:`linod.models.BackgroundTask`).
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping
from datetime import datetime, time
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, overload

from linod.choices import ChoiceList, Recurrences
from linod.exceptions import CircularOrder, DuplicateProcedure, UnknownProcedure

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
DECLARATION_ONLY = frozenset({"at", "run_after", "aliases"})


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
        self.takes_request = func is not None and _takes_request(func)

    @property
    def every_unit(self) -> str:
        """The suggested unit of recurrence, a name of :class:`linod.choices.Recurrences`."""
        return str(self.kwargs.get("every_unit", "never"))

    @property
    def every_value(self) -> int:
        """The suggested number of units between two runs."""
        return int(self.kwargs.get("every", 1))

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
        """Module and name of the function, for messages to people."""
        return f"{getattr(self.func, '__module__', '?')}.{getattr(self.func, '__qualname__', '?')}"

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"Procedures.{self.name}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Procedure) and other.name == self.name

    def __hash__(self) -> int:
        return hash(self.name)


def _takes_request(func: Callable[..., Any]) -> bool:
    parameters = inspect.signature(func).parameters.values()
    required = [
        p.name
        for p in parameters
        if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
    if len(required) > 1:
        raise TypeError(
            f"Procedure {func.__qualname__}() must take one argument (ar) or none,"
            f" not {', '.join(required)}"
        )
    return any(p.kind is not p.KEYWORD_ONLY and p.kind is not p.VAR_KEYWORD for p in parameters)


class Procedures(ChoiceList):
    """The background procedures of this site, in the order of their declaration."""

    verbose_name = "Background procedure"
    columns = (*ChoiceList.columns, ("suggested_recurrency", "Suggested recurrency"))
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
            hint = f", did you mean {' or '.join(near)}?" if near else ""
            raise UnknownProcedure(f"There is no procedure {name!r}{hint}")
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
                raise CircularOrder(f"run_after goes round in a circle: {circle}")
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


def declare(func: Callable[..., Any], name: str = "", **keywords: Any) -> Procedure:
    """Register ``func`` as a procedure; the keywords are those of :func:`background_task`."""
    allowed = ROW_FIELDS | DECLARATION_ONLY
    for key in keywords:
        if key not in allowed:
            near = difflib.get_close_matches(key, allowed, n=1)
            hint = f", did you mean {near[0]!r}?" if near else ""
            raise TypeError(f"A background task has no field {key!r}{hint}")
    at = keywords.pop("at", None)
    if at is not None:
        keywords["start_time"] = at
    if isinstance(keywords.get("start_time"), str):
        keywords["start_time"] = _wall_time(keywords["start_time"])
    unit = keywords.get("every_unit", "never")
    if Recurrences.get_by_name(unit) is None:
        near = difflib.get_close_matches(unit, list(Recurrences), n=1)
        hint = f", did you mean {str(near[0])!r}?" if near else ""
        raise ValueError(f"every_unit: there is no unit {unit!r}{hint}")
    return Procedures.register(
        Procedure(
            func,
            name,
            run_after=_names(keywords.pop("run_after", ())),
            aliases=_names(keywords.pop("aliases", ())),
            kwargs=keywords,
        )
    )


def _names(value: str | tuple[str, ...] | list[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(map(str, value))


def _wall_time(text: str) -> time:
    try:
        return time.fromisoformat(text)
    except ValueError:
        raise ValueError(f"at: {text!r} is not a time of day like '20:00'") from None


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
