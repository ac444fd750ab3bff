"""Keeping leases alive, from a thread and a connection of its own: no body can hold it up."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from linod import links, transactions

logger = logging.getLogger("linod")


class Heartbeat(threading.Thread):
    """Calls ``beat`` every ``interval`` seconds until stopped; survives the database's absence.

    :param beat: writes to the database; when it fails it is tried again, within a second.
    :param distrust: called, once per absence, when the last success is ``patience`` seconds ago:
        the leases cannot be trusted any more. Seconds are the monotonic clock's.
    :param regain: called when they can be again, also after a lapse in which no beat failed: one
        waited.
    :param held_up: called when a beat has failed for a reason that may pass.
    """

    def __init__(
        self,
        beat: Callable[[], object],
        *,
        using: str,
        interval: float,
        patience: float,
        distrust: Callable[[], None],
        regain: Callable[[], None] = lambda: None,
        held_up: Callable[[], None] = lambda: None,
        name: str = "linod-heartbeat",
    ) -> None:
        super().__init__(name=name, daemon=True)
        self.beat = beat
        self.using = using
        self.interval = interval
        self.patience = patience
        self.distrust = distrust
        self.regain = regain
        self.held_up = held_up
        self.link = links.Link(using)
        self._stopping = threading.Event()
        self._last = time.monotonic()
        self._trusted = True
        self._has_lapsed = False
        self._judging = threading.Lock()

    def run(self) -> None:
        """Beat until :meth:`stop`."""
        self.link.open()
        try:
            delay = self.interval
            while not self._stopping.wait(delay):
                delay = self._try_to_beat()
        finally:
            self.link.close()

    def _try_to_beat(self) -> float:
        began = time.monotonic()
        try:
            with self.link.at_work():
                transactions.bound_session(self.using)
                self.beat()
        except Exception as error:
            self.link.close()
            # Also after an error that will come again: without a heart the jobs would be lost.
            is_passing = transactions.is_passing(error)
            level = logging.DEBUG if is_passing else logging.ERROR
            logger.log(level, "No heartbeat: %s", error, exc_info=level > logging.DEBUG)
            if is_passing:
                self.held_up()
            return self._after_failure()
        self._has_lapsed = self._has_lapsed or not self.is_trusted
        # Counted from before the statement: its answer may have taken long.
        with self._judging:
            self._last, self._trusted = began, True
        if not self.is_trusted:
            return 0.0  # so long that it renewed nothing
        if self._has_lapsed:
            self._has_lapsed = False
            self.regain()
        return self.interval

    def _after_failure(self) -> float:
        left = self._last + self.patience - time.monotonic()
        self._judge()
        return min(self.interval, 1.0, left) if left > 0 else min(self.interval, 1.0)

    def _judge(self) -> None:
        with self._judging:
            is_over = self._trusted and not self.is_trusted
            if is_over:
                self._trusted = False
        if is_over:
            self.distrust()

    def look(self, patience: int) -> int:
        """From another thread: cut a beat that hangs, and tell meanwhile that it comes too late.

        Takes and returns what :meth:`linod.links.Link.look` does.
        """
        looks = self.link.look(patience)
        if looks >= links.HELD_UP:
            self._judge()
        return looks

    @property
    def is_trusted(self) -> bool:
        """Whether the leases were renewed in time; asked of the clock, as threads can freeze."""
        return self._trusted and time.monotonic() - self._last < self.patience

    def stop(self) -> None:
        """End the thread and wait for it."""
        self._stopping.set()
        if self.is_alive():
            self.link.part(self, patience=10.0)
