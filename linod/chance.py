"""Chance, so that not all do the same at the same moment.

Of our own: what an application draws from :mod:`random`, maybe with a seed, is what it would draw
without linod. And processes that were forked draw different numbers.
"""

from random import SystemRandom

_dice = SystemRandom()


def between(low: float, high: float) -> float:
    """A number from ``low`` to ``high``."""
    return _dice.uniform(low, high)
