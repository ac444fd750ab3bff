"""The way of an event from the daemon to a page that listens: ``python -m benchmarks.websocket``.

A daemon, a Redis of its own, Daphne and one client on this machine, with ten tasks each second. The
clock runs from the moment that the event names (before the commit) to the frame at the client.
"""

from __future__ import annotations

import argparse
import sys
import time
from datetime import UTC, datetime

from benchmarks.figures import load
from tests.faults.channels.experiment import TASKS, quantile, world
from tests.live.websocket import WebSocket

#: Seconds within which 99 of 100 events arrive.
LIMIT = 0.150


def delays(seconds: float) -> dict[str, list[float]]:
    """Seconds of the way of each job event, by the job's state."""
    found: dict[str, list[float]] = {"running": [], "succeeded": []}
    with world(capacity=100) as here:
        socket = WebSocket(here.server.port, cookie=here.cookie)
        socket.until("live", live=True)
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            event = socket.receive()
            arrived = datetime.now(UTC)
            if event["type"] == "ping":
                socket.send({"pong": event["n"]})
            if event["type"] == "job":
                job = event["job"]
                moment = datetime.fromisoformat(job["end_time"] or job["start_time"])
                found.setdefault(job["state"], []).append((arrived - moment).total_seconds())
        socket.close()
    return {state: sorted(values) for state, values in found.items() if values}


def main() -> int:
    """Measure and print; the exit code is 1 when the limit was broken."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.websocket")
    parser.add_argument("--seconds", type=float, default=60.0)
    given = parser.parse_args()
    before = load()
    found = delays(given.seconds)
    print(f"{TASKS} tasks each second, {given.seconds:g} s, load before {before:.2f}")
    for state, values in sorted(found.items()):
        figures = ", ".join(f"{quantile(values, part) * 1000:.0f}" for part in (0.5, 0.95, 0.99, 1))
        print(f"{state}: {len(values)} events, p50, p95, p99, most: {figures} ms")
    all_of_them = sorted(value for values in found.values() for value in values)
    if not all_of_them:
        print("no event came")
        return 1
    p99 = quantile(all_of_them, 0.99)
    print(f"all: p99 {p99 * 1000:.0f} ms (limit {LIMIT * 1000:.0f})")
    return int(p99 > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
