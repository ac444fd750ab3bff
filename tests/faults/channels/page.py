"""A page as the documentation asks for, without a browser: it loads, listens, and loads again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from tests.live.websocket import Closed, WebSocket

#: Seconds until it connects again.
AGAIN = 1.0


class Page:
    """Keeps what a page would show of the tasks.

    :param load: reads all tasks as the JSON view would, by their ids.
    """

    def __init__(
        self, port: int, cookie: str, load: Callable[[], dict[int, dict[str, Any]]]
    ) -> None:
        self.port = port
        self.cookie = cookie
        self.load = load
        self.tasks: dict[int, dict[str, Any]] = {}
        self.is_live = False
        self.counts: dict[str, int] = {}
        self._is_open = True
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Leave."""
        self._is_open = False
        self._thread.join(5)

    def _run(self) -> None:
        while self._is_open:
            try:
                self._listen(WebSocket(self.port, cookie=self.cookie))
            except (Closed, OSError):
                self._count("connection lost")
                time.sleep(AGAIN)

    def _listen(self, socket: WebSocket) -> None:
        try:
            while self._is_open and socket.status == 101:
                try:
                    self._hear(socket, socket.receive(0.2))
                except TimeoutError:
                    continue
        finally:
            socket.close()

    def _hear(self, socket: WebSocket, event: dict[str, Any]) -> None:
        self._count(event["type"])
        match event:
            case {"type": "hello" | "resync"}:
                self.tasks = self.load()
            case {"type": "live", "live": is_live}:
                self.is_live = is_live
            case {"type": "ping", "n": n}:
                socket.send({"pong": n})
            case {"type": "task", "task": task}:
                self.tasks[task["id"]] = task

    def _count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1
