"""Processes to do harm to: a log server that is started again whenever it dies, and senders."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from linod import framing

PAUSE = threading.Event()
SERVER = """
import sys
from linod.logserver import LogServer
LogServer(sys.argv[1]).run()
"""


def wait(seconds: float) -> None:
    PAUSE.wait(seconds)


def wait_for(condition: Any, what: str, deadline: float = 30.0) -> None:
    end = time.monotonic() + deadline
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"not within {deadline:g} s: {what}")
        wait(0.005)


class Server:
    """The log server, alone in a process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process: subprocess.Popen[bytes] | None = None
        self.restarts: list[float] = []

    def start(self) -> None:
        command = [sys.executable, "-c", SERVER, str(self.folder)]
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL)

    def wait_until_it_acknowledges(self) -> float:
        """Seconds until a stranger is answered."""
        begin = time.monotonic()
        while not is_answered(self.folder):
            if time.monotonic() - begin > 30:
                raise AssertionError("the log server does not answer")
            wait(0.002)
        return time.monotonic() - begin

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        assert self.process is not None
        self.process.wait()

    def restart(self) -> None:
        """Kill, start again, and note how long nobody was answered since the start."""
        self.kill()
        begin = time.monotonic()
        self.start()
        self.wait_until_it_acknowledges()
        self.restarts.append(time.monotonic() - begin)

    def freeze(self, seconds: float) -> None:
        self.signal(signal.SIGSTOP)
        wait(seconds)
        self.signal(signal.SIGCONT)

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(30)

    def megabytes(self) -> float:
        """The most memory that it has had."""
        assert self.process is not None
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def connect(folder: Path) -> socket.socket:
    found = socket.socket(socket.AF_UNIX)
    found.settimeout(5)
    try:
        found.connect(str(folder / "linod.sock"))
    except OSError:
        found.close()
        raise
    return found


def is_answered(folder: Path) -> bool:
    """Whether the server writes a record and acknowledges it."""
    try:
        with connect(folder) as wire:
            body = framing.body_of(time.time(), "INFO", "probe", "probe")
            wire.sendall(framing.hello(os.urandom(4).hex()) + framing.frame_of(1, body))
            data = b""
            while len(data) < 16 and data[-1:] != b"\x01":
                more = wire.recv(16)
                if not more:
                    return False
                data += more
            return True
    except OSError:
        return False


class Sender:
    """A process that logs at a rate; says at its end what it has met, as JSON."""

    def __init__(self, folder: Path, name: str, **options: Any) -> None:
        self.name = name
        given = json.dumps({"folder": str(folder), "name": name, **options})
        command = [sys.executable, "-m", "tests.faults.logserver.sender", given]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def result(self, deadline: float = 120) -> dict[str, Any]:
        out, err = self.process.communicate(timeout=deadline)
        if self.process.returncode or err:
            raise AssertionError(f"sender {self.name}: {err or self.process.returncode}")
        found: dict[str, Any] = json.loads(out)
        return found


def results(senders: Iterable[Sender], deadline: float = 120) -> list[dict[str, Any]]:
    return [sender.result(deadline) for sender in senders]
