"""The database's clock, as this process knows it between two visits."""

from __future__ import annotations

import time
from datetime import datetime, timedelta


class Offset:
    """The database's clock by the monotonic one; measured again at each visit."""

    def __init__(self, now: datetime) -> None:
        # One value, set at once: bodies read it in their threads.
        self._reading = now, time.monotonic()

    def moment(self) -> datetime:
        """The database's time now, as far as the last measurement tells."""
        now, at = self._reading
        return now + timedelta(seconds=time.monotonic() - at)

    def jump(self, now: datetime, at: float) -> float:
        """Seconds by which a measurement made at ``at`` (monotonic) is not what was expected."""
        former, measured_at = self._reading
        return (now - former).total_seconds() - (at - measured_at)

    def measure(self, now: datetime, at: float) -> None:
        """Take a measurement made at ``at`` (monotonic)."""
        self._reading = now, at
