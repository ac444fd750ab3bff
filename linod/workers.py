"""The threads that sync bodies run in."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Workers(Generic[Item]):
    """Threads of our own, ``limit`` of them, that run what they are given, oldest first.

    Whoever takes something wakes the next thread, if more waits, and no other. So short bodies are
    done by a few threads, one body behind the other, while behind a body that waits the next thread
    goes on at once. To wake all of them for a group costs more than short bodies do: they queue for
    the interpreter's lock.

    Where a body lets go of that lock, be it for a line on the terminal, the next thread goes on as
    well. So what is given ``in_line`` is left to one thread, until somebody calls :meth:`hurry`.

    All of them start with the first thing that is given. Later a body may have taken the memory
    that a thread needs, and to start one may then fail, or wait for ever: in CPython whoever starts
    a thread waits for its first steps.

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
        self._in_line = False
        self._has_started = False
        self._is_closing = False

    def give(self, items: Iterable[Item], *, in_line: bool = False) -> None:
        """Run these as soon as threads are free.

        :param in_line: whether one thread is to run all that wait, one after another.
        """
        if not self._has_started:
            self._has_started = True
            for number in range(1, self.limit + 1):
                name, sleep = f"linod-worker-{number}", threading.Lock()
                sleep.acquire()
                self._idle.append(sleep)
                threading.Thread(target=self._serve, args=(sleep,), name=name, daemon=True).start()
        with self._lock:
            self._waiting.extend(items)
            self._in_line = in_line
        self._wake_one()

    def hurry(self) -> None:
        """Let other threads help with what waits."""
        self._in_line = False
        self._wake_one()

    @property
    def has_waiting(self) -> bool:
        """Whether something waits for a thread."""
        return bool(self._waiting)

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
            if self._waiting and self._idle:
                self._idle.pop().release()

    def _serve(self, sleep: threading.Lock) -> None:
        # Not before it is woken: what is given in line is for one of them.
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
                if not self._in_line:
                    self._wake_one()
                self._run(item)
            except BaseException as error:  # noqa: BLE001 - told to whoever is in charge
                self._fail(error)
