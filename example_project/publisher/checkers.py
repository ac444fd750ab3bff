"""What can be wrong with pages."""

from __future__ import annotations

from collections.abc import Iterator

from checkdata.checking import Checker, Finding

from publisher.models import Page


class PageChecker(Checker):
    """A published page must have a title, a text, and no unpublished parent."""

    model = Page

    def check(self, row: Page) -> Iterator[Finding]:
        if not row.published:
            return
        if not row.title.strip():
            yield Finding("It has no title")
        if not row.body.strip():
            yield Finding("It has no text")
        if row.parent is not None and not row.parent.published:
            yield Finding(f"Nobody finds it: {row.parent} is not published")
