"""What tests of the log server need: a server in a thread, a raw connection, the file's records."""

from __future__ import annotations

import logging
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from linod import framing
from linod.framing import body_of, frame_of, hello
from linod.loghandler import LinodHandler
from linod.logserver import LogServer
from tests.waiting import DEADLINE, wait_until

TAG = re.compile(r" #([0-9]+-[0-9a-f]{8}):([0-9]+)(?:\+[0-9]+)?$")


@contextmanager
def serving(folder: Path, **options: Any) -> Iterator[LogServer]:
    """A log server of this process, writing."""
    server = LogServer(folder, **options)
    server.start()
    try:
        assert server.is_serving.wait(DEADLINE), "the log server comes up"
        yield server
    finally:
        server.stop()


@contextmanager
def logging_to(folder: Path, name: str = "shop") -> Iterator[tuple[logging.Logger, LinodHandler]]:
    """A logger of which nobody else hears, and its handler."""
    handler = LinodHandler(folder)
    found = logging.Logger(name)  # noqa: LOG001 - of this test alone
    found.addHandler(handler)
    try:
        yield found, handler
    finally:
        handler.close()


class Wire:
    """A sender by hand: to send what no handler would."""

    def __init__(self, folder: Path, client: str = "0000000a") -> None:
        self.client = client
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(DEADLINE)
        address = str(folder / "linod.sock")
        # A socket has its name a moment before somebody listens there.
        wait_until(lambda: self.socket.connect_ex(address) == 0, "the log server listens")

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *args: object) -> None:
        self.socket.close()

    def greet(self) -> int:
        """Say who speaks; returns how far that one has come."""
        self.socket.sendall(hello(self.client))
        return self.acknowledged()

    def send(self, number: int, message: str = "Hello", **values: Any) -> None:
        self.socket.sendall(frame_of(number, body_of(1.5, "INFO", "shop", message, **values)))

    def acknowledged(self) -> int:
        """The next acknowledgement."""
        data = bytearray()
        while len(data) < 8:
            more = self.socket.recv(8 - len(data))
            assert more, "the server has closed the connection"
            data += more
        found = framing.last_acknowledged(data)
        assert found is not None
        return found

    def wait_for(self, number: int) -> None:
        """Wait until all up to this number is acknowledged."""
        while self.acknowledged() < number:
            pass

    def is_closed(self) -> bool:
        """Whether the server closes the connection, within some seconds."""
        try:
            while self.socket.recv(4096):
                pass
        except ConnectionResetError:
            return True
        return True


def records_in(path: Path) -> list[str]:
    """The first lines of the records in a file, without their tags."""
    lines = path.read_text().splitlines() if path.exists() else []
    return [TAG.sub("", line) for line in lines if TAG.search(line)]


def messages_in(path: Path) -> list[str]:
    """The messages in a file whose lines have the default format."""
    return [record.partition(": ")[2] for record in records_in(path)]


def wait_for_message(path: Path, message: str) -> list[str]:
    """All messages, once that one is there."""
    wait_until(lambda: message in messages_in(path), f"{message!r} is in {path.name}")
    return messages_in(path)
