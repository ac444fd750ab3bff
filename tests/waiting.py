"""Waiting for a condition instead of for time; needs no Django."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

#: Seconds; long, because a machine may be busy: only a test that fails takes all of it.
DEADLINE = 60.0


def wait_until(
    condition: Callable[[], Any], what: str | Callable[[], str], deadline: float = DEADLINE
) -> Any:
    """The condition's value once it is true; fails after ``deadline`` seconds.

    What it waited for may be a function, which then tells how things are at the failure.
    """
    end = time.monotonic() + deadline
    pause = threading.Event()
    while not (value := condition()):
        if time.monotonic() > end:
            wanted = what() if callable(what) else what
            raise AssertionError(f"Not within {deadline:g} s: {wanted}")
        pause.wait(0.01)
    return value
