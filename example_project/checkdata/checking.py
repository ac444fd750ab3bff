"""Checkers, and how they are run.

A class that derives from :class:`Checker`, in some app's ``checkers`` module, is a checker.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from django.db import models

from linod import BaseRequest


@dataclass(frozen=True)
class Finding:
    """What is wrong, in words, and how to mend it when that needs no thinking."""

    text: str
    fix: Callable[[], object] | None = None

    def __str__(self) -> str:
        return f"(\N{BLACK STAR}) {self.text}" if self.fix else self.text


class Checker:
    """Looks for one kind of fault in the rows of ``model``; without a model, in the site's data."""

    model: ClassVar[type[models.Model] | None] = None
    known: ClassVar[list[type[Checker]]] = []

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        Checker.known.append(cls)

    def check(self, row: Any) -> Iterator[Finding]:
        """What is wrong with this row (None for a checker without a model)."""
        raise NotImplementedError


@dataclass(frozen=True)
class Fault:
    """A finding and where it was made."""

    checker: str
    row: str
    text: str


@dataclass
class Report:
    """What came of all checkers; ``left`` are the faults that still stand."""

    checks: int
    found: int
    fixed: int
    left: list[Fault]


def run(ar: BaseRequest, *, fix: bool) -> Report:
    """Run all checkers; with ``fix``, mend what can be mended without thinking."""
    report = Report(len(Checker.known), 0, 0, [])
    groups: dict[type[models.Model] | None, list[Checker]] = defaultdict(list)
    for checker in Checker.known:
        groups[checker.model].append(checker())
    for model, checkers in sorted(groups.items(), key=lambda group: group[0] is not None):
        _run_group(ar, model, checkers, report, fix=fix)
    return report


def _run_group(
    ar: BaseRequest,
    model: type[models.Model] | None,
    checkers: list[Checker],
    report: Report,
    *,
    fix: bool,
) -> None:
    rows = [None] if model is None else model._default_manager.order_by("pk")
    total = len(rows) if isinstance(rows, list) else rows.count()
    what = "unbound data" if model is None else f"{total} {model._meta.verbose_name_plural}"
    ar.info("Run %d checkers on %s...", len(checkers), what)
    in_turn = rows if isinstance(rows, list) else rows.iterator(chunk_size=500)
    for done, row in enumerate(in_turn, start=1):
        for checker in checkers:
            for finding in checker.check(row):
                _treat(
                    ar,
                    Fault(type(checker).__name__, label(row), str(finding)),
                    finding,
                    report,
                    fix,
                )
        ar.progress(done, total, what)


def _treat(ar: BaseRequest, fault: Fault, finding: Finding, report: Report, fix: bool) -> None:
    report.found += 1
    if fix and finding.fix is not None:
        finding.fix()
        report.found -= 1
        report.fixed += 1
        ar.info("%s: %s: fixed", fault.row, fault.text)
    else:
        report.left.append(fault)
        ar.warning("%s: %s", fault.row, fault.text)


def label(row: models.Model | None) -> str:
    """How the row is called in a report."""
    return "Unbound data" if row is None else f"{row._meta.verbose_name} #{row.pk}".capitalize()
