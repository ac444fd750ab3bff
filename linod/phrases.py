"""Texts for people, made where nobody knows yet in which language they are read.

Pure code says its sentences in English or asks a :class:`Language` for them; the floors above hand
over theirs, which is the module ``django.utils.translation``.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from functools import reduce
from gettext import NullTranslations
from typing import Protocol


class Language(Protocol):
    """Whatever translates as :mod:`gettext` does."""

    def gettext(self, message: str, /) -> str:
        """The text in this language; as it is where there is no translation."""

    def ngettext(self, singular: str, plural: str, number: int, /) -> str:
        """The same for a text that depends on a number."""


#: The language of the texts themselves.
ENGLISH: Language = NullTranslations()


def gettext_noop(text: str) -> str:
    """Mark a text that is translated where it is shown; catalogues find it by this function."""
    return text


def did_you_mean(word: str, words: Iterable[str]) -> str:
    """The end of a sentence about a word that is none of ``words``: the nearest one, if any.

    >>> did_you_mean("dayly", ["daily", "weekly"])
    ", did you mean 'daily'?"
    """
    near = difflib.get_close_matches(word, sorted(words), n=1)
    return f", did you mean {near[0]!r}?" if near else ""


class OneOf:
    """Names of which one is meant: a detail of an error, joined in the language of its reader.

    >>> str(OneOf(["a", "b", "c"]))
    'a or b or c'
    """

    def __init__(self, names: Iterable[str]) -> None:
        self.names = list(names)

    def said(self, language: Language = ENGLISH) -> str:
        """All the names, in their order."""

        def join(others: str, last: str) -> str:
            return language.gettext("%(others)s or %(last)s") % {"others": others, "last": last}

        return reduce(join, self.names)

    def __str__(self) -> str:
        return self.said()
