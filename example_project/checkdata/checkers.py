"""What can be wrong with the site as a whole."""

from __future__ import annotations

from collections.abc import Iterator

from checkdata.checking import Checker, Finding
from linod import BackgroundTask, Procedures
from linod.sync import sync


class BackgroundTasksChecker(Checker):
    """Every background procedure has a background task."""

    def check(self, row: None) -> Iterator[Finding]:
        present = set(BackgroundTask.objects.values_list("procedure", flat=True))
        for procedure in Procedures.get_list_items():
            if procedure not in present:
                yield Finding(f"No background task for {procedure}", fix=sync)
