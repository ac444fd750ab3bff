"""A TCP proxy before the database's server: it hangs, swallows, or cuts exactly at a COMMIT."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
from collections.abc import Callable

CHUNK = 1 << 16


class Link:
    """One connection through the proxy."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client = client
        self.server = server
        #: Whether what either side sends is dropped, its end too.
        self.is_swallowed = False

    def cut(self) -> None:
        """End both sides."""
        self.end(self.client)
        self.end(self.server)

    def end(self, side: socket.socket) -> None:
        """End one side; it may have ended before."""
        with contextlib.suppress(OSError):
            side.shutdown(socket.SHUT_RDWR)
        side.close()


class Proxy:
    """Listens on ``port`` of 127.0.0.1 and passes on to ``target`` there."""

    def __init__(self, target: int, rng: random.Random) -> None:
        self.target = target
        self.rng = rng
        #: How many links were cut at a COMMIT.
        self.cuts = 0
        self._links: list[Link] = []
        self._swallowed: list[Link] = []
        self._lock = threading.Lock()
        self._flowing = threading.Event()
        self._flowing.set()
        #: None: no cut is asked for; else whether the COMMIT itself still goes through.
        self._cut_after: bool | None = None
        self._ear = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._ear.getsockname()[1]

    def start(self) -> None:
        """Take connections from now on."""
        self._spawn(self._accept)

    def stop(self) -> None:
        """End everything."""
        self._flowing.set()
        self._ear.close()
        self._cut_all()
        for link in self._swallowed:
            link.cut()

    def hang(self) -> None:
        """Pass nothing on; connections stay open, and new ones get no answer."""
        self._flowing.clear()

    def go_on(self, *, keeps: bool) -> None:
        """Pass on again what has waited (``keeps``), or cut what hung."""
        if not keeps:
            self._cut_all()
        self._flowing.set()

    def swallow(self) -> None:
        """Let the links that there are swallow everything for ever; new ones are none of them.

        The server's sides of those that did so before end, as its keepalive would see to in time.
        """
        with self._lock:
            for link in self._swallowed:
                link.end(link.server)
            links, self._links = self._links, []
            self._swallowed += links
            for link in links:
                link.is_swallowed = True

    def cut_at_commit(self, *, answer_only: bool) -> None:
        """Cut the link that sends the next COMMIT: before it gets there, or before its answer."""
        with self._lock:
            self._cut_after = answer_only

    def _cut_all(self) -> None:
        with self._lock:
            links, self._links = self._links, []
        for link in links:
            link.cut()

    def _spawn(self, action: Callable[..., None], *args: object) -> None:
        threading.Thread(target=action, args=args, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _address = self._ear.accept()
            except OSError:
                return
            self._spawn(self._connect, client)

    def _connect(self, client: socket.socket) -> None:
        self._flowing.wait()
        try:
            server = socket.create_connection(("127.0.0.1", self.target))
        except OSError:
            client.close()
            return
        link = Link(client, server)
        for end in (client, server):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._lock:
            self._links.append(link)
        self._spawn(self._pump, link, client, server, True)
        self._pump(link, server, client, False)

    def _pump(
        self, link: Link, source: socket.socket, target: socket.socket, is_from_client: bool
    ) -> None:
        try:
            while data := source.recv(CHUNK):
                self._flowing.wait()
                if link.is_swallowed:
                    continue
                if is_from_client and b"COMMIT" in data and self._takes_cut(target, data):
                    break
                target.sendall(data)
        except OSError:
            pass  # the other side was cut
        if link.is_swallowed:
            return
        link.cut()
        with self._lock:
            if link in self._links:
                self._links.remove(link)

    def _takes_cut(self, target: socket.socket, data: bytes) -> bool:
        with self._lock:
            after, self._cut_after = self._cut_after, None
        if after is None:
            return False
        self.cuts += 1
        if after:
            target.sendall(data)
            # The server has read it before it hears that nobody listens any more.
            target.shutdown(socket.SHUT_WR)
            while target.recv(CHUNK):
                pass
        return True
