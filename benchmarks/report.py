"""All figures of a run as one text, and where it goes in the documentation."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import django

import linod
from benchmarks.figures import Figure, table

#: Between these two lines of a file the figures of a run are put.
BEGIN, END = ".. figures begin", ".. figures end"

#: What the headings of each benchmark's table mean.
TITLES = {
    "lateness": "Tasks due each second",
    "requested": "Requested jobs until they are recorded",
    "start": "From the request to the start",
    "idle": "Nothing to do",
    "pages": "Pages of a large site",
}


def text(figures: Sequence[Figure], conditions: Sequence[str]) -> str:
    """Date and conditions, then a table for each benchmark."""
    cores = len(os.sched_getaffinity(0))
    lines = [
        f"Measured on {datetime.now(UTC):%Y-%m-%d} with linod {linod.__version__},"
        f" Django {django.__version__}, Python {platform.python_version()},"
        f" on {cores} cores ({platform.machine()}):",
        "",
        *(f"- {each}" for each in conditions),
    ]
    for benchmark, title in TITLES.items():
        rows = [figure for figure in figures if figure.benchmark == benchmark]
        if rows:
            lines += ["", title, "-" * len(title), "", table(rows)]
            lines += ["", f"Target: {wanted}."] if (wanted := targets(rows)) else []
    return "\n".join(lines)


def targets(figures: Sequence[Figure]) -> str:
    """Each target of these figures once, in their order."""
    return "; ".join(dict.fromkeys(figure.target for figure in figures if figure.target))


def write(path: Path, figures: str) -> None:
    """Put the figures of this run in the place of the former ones.

    ValueError when the file has no such place.
    """
    before, begin, rest = path.read_text(encoding="utf-8").partition(BEGIN + "\n")
    _former, end, after = rest.partition(END + "\n")
    if not (begin and end):
        raise ValueError(f"{path}: no lines {BEGIN!r} and {END!r} to put the figures between")
    whole = f"{before}{begin}\n{figures}\n\n{end}{after}"
    path.write_text(whole, encoding="utf-8")
