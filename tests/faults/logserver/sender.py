"""A process of a site that logs: so many records a second, each with its name and number.

Reads its options as JSON from the command line and writes what it met as JSON: how many records it
logged, how long the calls took, and what a control handler that writes nowhere took in the same
moments. On a busy machine a call may take long because its thread has no processor. The kernel
counts that; what a call took without it is told as its own.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from linod.loghandler import LinodHandler


class Nowhere(logging.Handler):
    """The control: formats, and throws away."""

    def emit(self, record: logging.LogRecord) -> None:
        self.format(record)


def logger_with(handler: logging.Handler) -> logging.Logger:
    found = logging.Logger("shop")  # noqa: LOG001 - of this process alone
    found.addHandler(handler)
    return found


def ticks(rate: float, seconds: float) -> Iterator[None]:
    """At most ``rate`` times a second, for so long; what was missed is made up."""
    begin, count, pause = time.monotonic(), 0, threading.Event()
    while (now := time.monotonic() - begin) < seconds:
        if count >= now * rate:
            pause.wait(0.002)
            continue
        yield
        count += 1


def quantile(values: list[float], part: float) -> float:
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * part))] if values else 0.0


class Queueing:
    """How long this thread has been ready to run and had no processor; 0 unless it is ``asked``."""

    def __init__(self, asked: bool) -> None:
        self._file = os.open("/proc/thread-self/schedstat", os.O_RDONLY) if asked else None

    def seconds(self) -> float:
        if self._file is None:
            return 0.0
        return int(os.pread(self._file, 100, 0).split()[1]) / 1e9


def main(
    folder: str, name: str, rate: float, seconds: float, size: int = 100, flush: float = 60.0,
    latency: bool = False, own: bool = False,
) -> dict[str, Any]:  # fmt: skip
    handler, control = LinodHandler(Path(folder)), logger_with(Nowhere())
    logger = logger_with(handler)
    took, alone, control_took, waited = [], [], [], []
    queueing = Queueing(own)
    count, largest = 0, 0
    rest = "x" * max(0, size - 30)
    for _ in ticks(rate, seconds):
        count += 1
        begin = time.perf_counter()
        control.info("%s %d of %s", name, count, rest)
        control_end = time.perf_counter()
        queued = queueing.seconds()
        between = time.perf_counter()
        logger.info("%s %d of %s", name, count, rest)
        end = time.perf_counter()
        alone.append(end - between - queueing.seconds() + queued)
        control_took.append(control_end - begin)
        took.append(end - between)
        largest = max(largest, handler._sender._bytes)
        if latency:
            handler.flush(5)
            waited.append(time.perf_counter() - between)
    end = time.monotonic() + flush
    while handler._sender.pending and time.monotonic() < end:
        handler.flush(flush)  # for a server that is just away it waits a second
    left = handler._sender.pending
    handler.close()
    return {
        "name": name,
        "count": count,
        "left": left,
        "emit_p999_ms": quantile(took, 0.999) * 1000,
        "emit_max_ms": max(took) * 1000,
        "emit_own_max_ms": max(alone) * 1000,
        "control_max_ms": max(control_took) * 1000,
        "buffer_mb": largest / 2**20,
        "latency_p50_ms": quantile(waited, 0.5) * 1000,
        "latency_p99_ms": quantile(waited, 0.99) * 1000,
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(**json.loads(sys.argv[1]))))
