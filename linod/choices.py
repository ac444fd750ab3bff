"""Lists of choices that code refers to by name and tables show as rows."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any, ClassVar


class Choice(str):
    """One item of a choicelist; as a string it is its name, which is what rows hold."""

    value: str
    name: str
    text: str

    def __new__(cls, name: str, value: str, text: str, **attributes: Any) -> Choice:
        choice = super().__new__(cls, name)
        choice.name, choice.value, choice.text = name, value, text
        choice.__dict__.update(attributes)
        return choice

    def __getattr__(self, name: str) -> Any:
        """Only for type checkers: what a list adds to its items (``LogLevels.INFO.num_value``)."""
        raise AttributeError(f"{type(self).__name__} {str(self)!r} has no attribute {name!r}")


class ChoiceListType(type):
    """Makes ``Recurrences.daily``, ``for unit in Recurrences`` and ``len(Recurrences)`` work."""

    def __getattr__(cls, name: str) -> Any:
        if not name.startswith("_"):
            item = cls.get_by_name(name)
            if item is not None:
                return item
        raise AttributeError(f"{cls.__name__} has no choice {name!r}")

    def __iter__(cls) -> Iterator[Any]:
        return iter(cls.get_list_items())

    def __len__(cls) -> int:
        return len(cls.get_list_items())

    def __contains__(cls, item: object) -> bool:
        return item in cls.get_list_items()


class ChoiceList(metaclass=ChoiceListType):
    """A fixed list of items, in their order; end users cannot edit it.

    ``columns`` is what :func:`linod.show` prints: pairs of an attribute and its heading.
    """

    verbose_name: ClassVar[str] = ""
    verbose_name_plural: ClassVar[str] = ""
    columns: ClassVar[tuple[tuple[str, str], ...]] = (
        ("value", "value"),
        ("name", "name"),
        ("text", "text"),
    )
    items: ClassVar[tuple[Any, ...]] = ()

    @classmethod
    def get_list_items(cls) -> list[Any]:
        """All items, in their order."""
        return list(cls.items)

    @classmethod
    def get_by_name(cls, name: str, default: Any = None) -> Any:
        """The item of that name, else ``default``."""
        return _by_name(cls).get(name, default)

    @classmethod
    def get_by_value(cls, value: str, default: Any = None) -> Any:
        """The item of that value, else ``default``."""
        return next((item for item in cls.get_list_items() if item.value == value), default)

    @classmethod
    def as_choices(cls) -> list[tuple[str, str]]:
        """The items as a model field's ``choices``."""
        return [(item.name, item.text) for item in cls.get_list_items()]


@cache
def _by_name(choicelist: type[ChoiceList]) -> dict[str, Any]:
    return {item.name: item for item in choicelist.items}


class Recurrences(ChoiceList):
    """The units in which a background task recurs."""

    verbose_name = "Recurrence"
    verbose_name_plural = "Recurrences"
    items = tuple(
        Choice(name, value, text)
        for value, name, text in (
            ("O", "once", "once"),
            ("N", "never", "never"),
            ("s", "secondly", "secondly"),
            ("m", "minutely", "minutely"),
            ("h", "hourly", "hourly"),
            ("D", "daily", "daily"),
            ("W", "weekly", "weekly"),
            ("M", "monthly", "monthly"),
            ("Y", "yearly", "yearly"),
            ("P", "per_weekday", "per weekday"),
            ("E", "easter", "Relative to Easter"),
            ("C", "cron", "cron"),
        )
    )


class LogLevels(ChoiceList):
    """How loudly a background task speaks: records below the level are not kept.

    ``WARNING`` suits most tasks; ``DEBUG`` fills the history quickly.
    """

    verbose_name = "Logging level"
    verbose_name_plural = "Logging levels"
    columns = (("value", "value"), ("text", "text"), ("num_value", "Numeric value"))
    items = tuple(
        Choice(name, name, name, num_value=number)
        for name, number in (
            ("DEBUG", 10),
            ("INFO", 20),
            ("WARNING", 30),
            ("ERROR", 40),
            ("CRITICAL", 50),
        )
    )
