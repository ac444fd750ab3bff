"""Values by number: what is compared and remembered a million times is small."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Numbers(Generic[Value]):
    """Gives each value a number of its own: equal ones have the same."""

    def __init__(self) -> None:
        self._values: list[Value] = []
        self._numbers: dict[Value, int] = {}

    def of(self, value: Value) -> int:
        """The number of a value."""
        number = self._numbers.setdefault(value, len(self._values))
        if number == len(self._values):
            self._values.append(value)
        return number

    def of_all(self, values: Iterable[Value]) -> tuple[int, ...]:
        """The numbers of several."""
        return tuple(map(self.of, values))

    def __getitem__(self, number: int) -> Value:
        return self._values[number]

    def __len__(self) -> int:
        return len(self._values)
