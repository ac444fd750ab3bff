"""How many log records a second: linod's log server beside the stdlib's ``SocketHandler``.

``python -m benchmarks.logserver``: so many processes log through ``logging`` as fast as they can,
messages of 200 bytes, on a server in a process of its own; the clock stops when the last record is
in the file. The stdlib's handler sends to a server that takes its frames apart correctly and
writes the same line; it has no acknowledgements. Both are measured in turns, in the same run.
"""

from __future__ import annotations

import argparse
import logging
import logging.handlers
import os
import pickle
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from linod.loghandler import LinodHandler
from linod.logserver import LogServer

SENDERS, RECORDS, ROUNDS, MESSAGE = 8, 25_000, 3, 200
KINDS = ("linod", "stdlib")
PAUSE = threading.Event()


def main() -> int:
    """Measure and print."""
    found = argparse.ArgumentParser(prog="python -m benchmarks.logserver", description=__doc__)
    found.add_argument("--senders", type=int, default=SENDERS)
    found.add_argument("--records", type=int, default=RECORDS, help="of each sender")
    found.add_argument("--rounds", type=int, default=ROUNDS)
    found.add_argument("--part", nargs="+", help=argparse.SUPPRESS)
    options = found.parse_args()
    if options.part:
        part, *rest = options.part
        {"server": serve, "sender": send}[part](*rest)
        return 0
    rates: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for round_ in range(options.rounds):
        for kind in KINDS:
            rate, written = measure(kind, options.senders, options.records)
            sent = options.senders * options.records
            rates[kind].append(rate)
            print(f"round {round_ + 1} {kind:6} {rate:8,.0f} records/s, {written:,} of {sent:,}")
    for kind in KINDS:
        low, high = min(rates[kind]), max(rates[kind])
        print(f"{kind:6} median {statistics.median(rates[kind]):,.0f} ({low:,.0f}-{high:,.0f})")
    return 0


def measure(kind: str, senders: int, records: int) -> tuple[float, int]:
    """Records a second from the first call to the last line, and how many lines there are."""
    with tempfile.TemporaryDirectory(prefix="linod-bench-") as name:
        folder = Path(name)
        server = part("server", kind, folder)
        try:
            fleet = [part("sender", kind, folder, str(records)) for _ in range(senders)]
            wait_for(lambda: len(list(folder.glob("ready-*"))) == senders)
            begin = time.perf_counter()
            (folder / "go").touch()
            for each in fleet:
                each.wait()
            count = lines_in(folder / "lino.log")
            while count < senders * records and grows(folder / "lino.log"):
                count = lines_in(folder / "lino.log")
            took = time.perf_counter() - begin
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait()
        return count / took, count


def part(name: str, kind: str, folder: Path, *more: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "benchmarks.logserver", "--part", name, kind, str(folder)]
    return subprocess.Popen([*command, *more])


def wait_for(condition: Callable[[], object]) -> None:
    while not condition():
        PAUSE.wait(0.005)


def lines_in(path: Path) -> int:
    """How many records, without linod's checkpoints."""
    with path.open("rb") as file:
        return sum(1 for line in file if not line.startswith(b"#"))


def grows(path: Path) -> bool:
    """Whether the file is larger half a second later."""
    size, end = path.stat().st_size, time.monotonic() + 0.5
    while path.stat().st_size == size:
        if time.monotonic() > end:
            return False
        PAUSE.wait(0.001)
    return True


# The senders


def send(kind: str, folder: str, records: str) -> None:
    """Log so many records; ends when the handler has let go of the last one."""
    home = Path(folder)
    wait_for((home / "linod.sock").exists)
    handler: logging.Handler = LinodHandler(home)
    if kind == "stdlib":
        handler = logging.handlers.SocketHandler(str(home / "linod.sock"), None)
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    logger = logging.getLogger("shop.orders")
    text = "x" * (MESSAGE - 20)
    (home / f"ready-{os.getpid()}").touch()
    wait_for((home / "go").exists)
    for number in range(int(records)):
        logger.info("order %d is paid %s", number, text)
    if isinstance(handler, LinodHandler):
        handler.flush(60)
    handler.close()


# The servers


def serve(kind: str, folder: str) -> None:
    """Serve until SIGTERM."""
    if kind == "linod":
        LogServer(folder).run()
    else:
        StdlibServer(Path(folder)).run()


class StdlibServer:
    """What the documentation of ``logging`` draws, with a thread for each connection.

    Frames are taken apart correctly, each record is handled by a ``FileHandler``.
    """

    def __init__(self, folder: Path) -> None:
        self.listener = socket.socket(socket.AF_UNIX)
        self.handler = logging.FileHandler(folder / "lino.log")
        form = "%(asctime)s %(levelname)s %(name)s: %(message)s"
        self.handler.setFormatter(logging.Formatter(form))
        self.listener.bind(str(folder / "linod.sock"))
        self.listener.listen(128)

    def run(self) -> None:
        """Serve until the process is ended."""
        while True:
            connection, _address = self.listener.accept()
            threading.Thread(target=self.take, args=(connection,), daemon=True).start()

    def take(self, connection: socket.socket) -> None:
        """All records of one sender."""
        stream = connection.makefile("rb", buffering=64 * 1024)
        while len(head := stream.read(4)) == 4:
            (length,) = struct.unpack(">L", head)
            given = pickle.loads(stream.read(length))  # noqa: S301 - what SocketHandler sends
            self.handler.handle(logging.makeLogRecord(given))


if __name__ == "__main__":
    sys.exit(main())
