"""How fast Python is on this machine: figures of different machines compare by that."""

from __future__ import annotations

import threading
import time

STEPS, SWITCHES, TRIES = 500_000, 2_000, 3


def conditions() -> str:
    """Both speeds in a line for the page of the figures."""
    return (
        f"Python: {steps() / 1e6:.1f} million steps/s of a loop, two threads change places in"
        f" {switch() * 1e6:.0f} microseconds"
    )


def steps() -> float:
    """Steps a second of a loop that does a little arithmetic, on one core; the best of some."""
    passed = []
    for _try in range(TRIES):
        began, total = time.thread_time(), 0
        for number in range(STEPS):
            total += number * number % 7
        passed.append(time.thread_time() - began)
    return STEPS / min(passed)


def switch() -> float:
    """Seconds until a thread that waits for another one goes on."""
    here, there = threading.Event(), threading.Event()

    def answer() -> None:
        for _number in range(SWITCHES):
            there.wait()
            there.clear()
            here.set()

    thread = threading.Thread(target=answer)
    thread.start()
    began = time.perf_counter()
    for _number in range(SWITCHES):
        there.set()
        here.wait()
        here.clear()
    passed = time.perf_counter() - began
    thread.join()
    return passed / SWITCHES / 2
