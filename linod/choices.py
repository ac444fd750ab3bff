"""Lists of choices that code refers to by name and tables show as rows."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any, ClassVar

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from linod.phrases import did_you_mean


class Choice(str):
    """One item of a choicelist; as a string it is its name, which is what rows hold."""

    value: str
    name: str
    text: str | Promise

    def __new__(cls, name: str, value: str, text: str | Promise, **attributes: Any) -> Choice:
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
        hint = did_you_mean(name, (item.name for item in cls))
        raise AttributeError(f"{cls.__name__} has no choice {name!r}{hint}")

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

    verbose_name: ClassVar[str | Promise] = ""
    verbose_name_plural: ClassVar[str | Promise] = ""
    columns: ClassVar[tuple[tuple[str, str | Promise], ...]] = (
        ("value", _("value")),
        ("name", _("name")),
        ("text", _("text")),
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
    def as_choices(cls) -> list[tuple[str, Any]]:
        """The items as a model field's ``choices``."""
        return [(item.name, item.text) for item in cls.get_list_items()]


@cache
def _by_name(choicelist: type[ChoiceList]) -> dict[str, Any]:
    return {item.name: item for item in choicelist.items}


class Recurrences(ChoiceList):
    """The units in which a background task recurs."""

    verbose_name = _("Recurrence")
    verbose_name_plural = _("Recurrences")
    items = tuple(
        Choice(name, value, text)
        for value, name, text in (
            ("O", "once", _("once")),
            ("N", "never", _("never")),
            ("s", "secondly", _("secondly")),
            ("m", "minutely", _("minutely")),
            ("h", "hourly", _("hourly")),
            ("D", "daily", _("daily")),
            ("W", "weekly", _("weekly")),
            ("M", "monthly", _("monthly")),
            ("Y", "yearly", _("yearly")),
            ("P", "per_weekday", _("per weekday")),
            ("E", "easter", _("Relative to Easter")),
            ("C", "cron", _("cron")),
        )
    )


class LogLevels(ChoiceList):
    """How loudly a background task speaks: records below the level are not kept.

    ``WARNING`` suits most tasks; ``DEBUG`` fills the history quickly.
    """

    verbose_name = _("Logging level")
    verbose_name_plural = _("Logging levels")
    columns = (("value", _("value")), ("text", _("text")), ("num_value", _("Numeric value")))
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
