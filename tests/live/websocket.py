"""A websocket client (RFC 6455) that is small enough to misbehave: it reads only when told to."""

from __future__ import annotations

import base64
import json
import os
import socket
import struct
import time
from typing import Any

from tests.waiting import DEADLINE

TEXT, CLOSE, PING, PONG = 1, 8, 9, 10


class Closed(Exception):
    """The server closed the connection; ``code`` says why."""

    def __init__(self, code: int) -> None:
        super().__init__(str(code))
        self.code = code


class WebSocket:
    """One connection; ``status`` is the answer to the handshake, 101 when it was accepted."""

    def __init__(
        self,
        port: int,
        path: str = "/WS/",
        *,
        cookie: str = "",
        origin: str | None = "",
        host: str = "",
        receive_buffer: int = 0,
    ) -> None:
        host = host or f"127.0.0.1:{port}"
        headers = {
            "Host": host,
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
            "Sec-WebSocket-Version": "13",
        }
        if origin is not None:
            headers["Origin"] = origin or f"http://{host}"
        if cookie:
            headers["Cookie"] = cookie
        lines = [f"GET {path} HTTP/1.1", *(f"{key}: {value}" for key, value in headers.items())]
        self._socket = socket.socket()
        if receive_buffer:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._socket.settimeout(DEADLINE)
        self._socket.connect(("127.0.0.1", port))
        self._socket.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        self._data = b""
        while b"\r\n\r\n" not in self._data:
            self._fill(time.monotonic() + DEADLINE)
        answer, _, self._data = self._data.partition(b"\r\n\r\n")
        self.status = int(answer.split()[1])
        if self.status != 101:
            self.close()

    def send(self, message: Any) -> None:
        """Send a JSON frame."""
        self.send_frame(TEXT, json.dumps(message).encode())

    def send_frame(self, kind: int, data: bytes) -> None:
        """Send one masked frame."""
        mask = os.urandom(4)
        length = len(data)
        if length < 126:
            head = struct.pack("!BB", 0x80 | kind, 0x80 | length)
        else:
            head = struct.pack("!BBH", 0x80 | kind, 0x80 | 126, length)
        body = bytes(byte ^ mask[i % 4] for i, byte in enumerate(data))
        self._socket.sendall(head + mask + body)

    def receive(self, timeout: float = DEADLINE) -> Any:
        """The next JSON frame; answers the server's own pings. Raises TimeoutError and Closed."""
        deadline = time.monotonic() + timeout
        while True:
            kind, data = self._frame(deadline)
            if kind == TEXT:
                return json.loads(data)
            if kind == PING:
                self.send_frame(PONG, data)
            elif kind == CLOSE:
                raise Closed(struct.unpack("!H", data[:2])[0] if data else 1005)

    def until(self, kind: str, timeout: float = DEADLINE, **wanted: Any) -> Any:
        """The next event of that type about a thing like that; answers pings as a page does."""
        deadline = time.monotonic() + timeout
        while True:
            event = self.receive(deadline - time.monotonic())
            if event["type"] == "ping":
                self.send({"pong": event["n"]})
            thing = event.get(kind)
            told = event | thing if isinstance(thing, dict) else event
            if event["type"] == kind and wanted.items() <= told.items():
                return event

    def drain(self) -> int:
        """Read away what has come, without looking at it; returns how many bytes that was."""
        count = len(self._data)
        self._socket.settimeout(0.5)
        while True:
            try:
                data = self._socket.recv(65536)
            except TimeoutError:
                return count
            if not data:
                return count
            count += len(data)

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def _frame(self, deadline: float) -> tuple[int, bytes]:
        head = self._take(2, deadline)
        kind, length = head[0] & 0x0F, head[1] & 0x7F
        if length == 126:
            (length,) = struct.unpack("!H", self._take(2, deadline))
        elif length == 127:
            (length,) = struct.unpack("!Q", self._take(8, deadline))
        return kind, self._take(length, deadline)

    def _take(self, length: int, deadline: float) -> bytes:
        # Nothing is taken away before all of it is there: a timeout must not tear a frame.
        while len(self._data) < length:
            self._fill(deadline)
        taken, self._data = self._data[:length], self._data[length:]
        return taken

    def _fill(self, deadline: float) -> None:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("nothing came")
        self._socket.settimeout(left)
        data = self._socket.recv(65536)
        if not data:
            raise Closed(1006)
        self._data += data
