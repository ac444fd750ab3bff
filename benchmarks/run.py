"""What every benchmark is told."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.figures import load

#: A load average below which the machine counts as quiet, and the seconds that are waited for it.
QUIET, PATIENCE = 1.5, 60.0


@dataclass(frozen=True)
class Run:
    """One run on one database.

    :param quick: whether a smaller and shorter measurement will do.
    :param profiles: the folder for the daemon's profiles; None: it is not profiled.
    """

    database: str
    quick: bool = False
    profiles: Path | None = None

    @property
    def repeats(self) -> int:
        """How often a measurement is made whose median counts; profiles need only one."""
        return 1 if self.quick or self.profiles else 3

    def profile_of(self, case: str) -> Path | None:
        """Where the profile of a case goes."""
        return self.profiles and self.profiles / f"{self.database}-{case}"

    def settle(self) -> None:
        """Wait a while for the other processes of the machine to calm down."""
        deadline = time.monotonic() + (0 if self.quick or self.profiles else PATIENCE)
        while load() > QUIET and time.monotonic() < deadline:
            time.sleep(1)
