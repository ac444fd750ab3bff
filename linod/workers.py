"""The threads that sync bodies run in."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Workers(Generic[Item]):
    """Threads of our own, at most ``limit`` of them, that run what they are given, oldest first.

    Whoever takes something wakes the next thread, if more waits, and no other. So short bodies are
    done by a few threads, one body behind the other, while behind a body that waits the next thread
    goes on at once. To wake all of them for a group costs more than short bodies do: they queue for
    the interpreter's lock.

    :param fail: is told, in the thread, what came out of ``run``. Nothing should: what was run is
        then in nobody's hands.
    """

    def __init__(
        self, limit: int, run: Callable[[Item], None], fail: Callable[[BaseException], None]
    ) -> None:
        self.limit = limit
        self._run = run
        self._fail = fail
        self._lock = threading.Lock()
        self._waiting: deque[Item] = deque()
        self._idle: list[threading.Lock] = []
        self._threads = 0
        self._is_closing = False

    def give(self, items: Iterable[Item]) -> None:
        """Run these as soon as threads are free.

        Raises RuntimeError when there is no thread, and no room for one.
        """
        with self._lock:
            self._waiting.extend(items)
        self._wake_one()

    def take_back(self) -> list[Item]:
        """What no thread has begun to run; none will."""
        with self._lock:
            waiting = list(self._waiting)
            self._waiting.clear()
        return waiting

    def close(self) -> None:
        """Let idle threads end, and busy ones when they are done."""
        with self._lock:
            self._is_closing = True
            idle, self._idle = self._idle, []
        for sleep in idle:
            sleep.release()

    def _wake_one(self) -> None:
        with self._lock:
            if not self._waiting:
                return
            if self._idle:
                self._idle.pop().release()
                return
            if self._threads >= self.limit:
                return
            self._threads += 1
            name = f"linod-worker-{self._threads}"
        try:
            threading.Thread(target=self._serve, name=name, daemon=True).start()
        except (RuntimeError, MemoryError):
            with self._lock:
                self._threads -= 1
                others = self._threads
            # The system has no room for one more now: those that are busy do it afterwards.
            if not others:
                raise

    def _serve(self) -> None:
        sleep = threading.Lock()
        sleep.acquire()
        while True:
            with self._lock:
                item = self._waiting.popleft() if self._waiting else None
                if item is None:
                    if self._is_closing:
                        return
                    self._idle.append(sleep)
            if item is None:
                sleep.acquire()
                continue
            try:
                self._wake_one()
                self._run(item)
            except BaseException as error:  # noqa: BLE001 - told to whoever is in charge
                self._fail(error)
