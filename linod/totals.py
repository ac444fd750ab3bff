"""Running totals over places 0, 1, 2, ... whose numbers repeat themselves sooner or later."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate


class Totals:
    """How many things the first places hold; they are counted out as far as somebody asks.

    :param held: how many things each of some places in a row holds.
    :param cycle: after how many places the numbers repeat themselves.
    :param lead: how many places come before the first cycle.

    Of ten things in each place but every third one:

    >>> totals = Totals(lambda places: [0 if n % 3 == 2 else 10 for n in places], cycle=3)
    >>> totals.before(3 * 10**9 + 1)
    20000000010
    >>> totals.find(20_000_000_013)
    (3000000001, 3)
    """

    def __init__(self, held: Callable[[range], Iterable[int]], cycle: int, lead: int = 0) -> None:
        self.held, self.cycle, self.lead = held, cycle, lead
        #: How many things the first 0, 1, 2, ... places hold.
        self._known: Sequence[int] = (0,)

    def before(self, place: int) -> int:
        """How many things the places before that one hold."""
        end = self.lead + self.cycle
        if place <= end:
            return self._counted(place)[place]
        rounds, rest = divmod(place - self.lead, self.cycle)
        known = self._counted(end)
        return known[self.lead + rest] + rounds * (known[end] - known[self.lead])

    def find(self, number: int) -> tuple[int, int] | None:
        """The place of thing number 0, 1, 2, ..., and the thing's number there.

        None when there are not so many, however far one goes.
        """
        places, end = 1, self.lead + self.cycle
        while (known := self._counted(places))[places] <= number and places < end:
            places = min(2 * places, end)
        rounds = 0
        if known[places] <= number:
            if not (in_cycle := known[end] - known[self.lead]):
                return None
            rounds, rest = divmod(number - known[self.lead], in_cycle)
            number = known[self.lead] + rest
        place = bisect_right(known, number) - 1
        return place + rounds * self.cycle, number - known[place]

    def _counted(self, places: int) -> Sequence[int]:
        known = self._known
        if len(known) <= places:
            numbers = self.held(range(len(known) - 1, places))
            known = [*known[:-1], *accumulate(numbers, initial=known[-1])]
            self._known = known  # replaced as a whole: rules are shared between threads
        return known
