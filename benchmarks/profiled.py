"""``python -m benchmarks.profiled FOLDER``: the daemon, each of its threads under cProfile.

Python 3.11 profiles threads apart; newer ones allow one profile in a process, so there it is the
database's thread that is seen.
"""

from __future__ import annotations

import asyncio
import cProfile
import io
import os
import pstats
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import django

#: Lines of each table.
LINES = 40


class Profiles:
    """One profile for each thread, and one text of them all."""

    def __init__(self) -> None:
        self.found: dict[str, cProfile.Profile] = {}

    def watch(self, name: str, action: Callable[[], Any]) -> Any:
        """Run ``action`` in the current thread under a profile of that name."""
        if sys.version_info >= (3, 12) and name != "linod-database":
            return action()
        profile = self.found[name] = cProfile.Profile()
        return profile.runcall(action)

    def text(self) -> str:
        """The tables: the event loop, the database's thread, one worker."""
        out = io.StringIO()
        for name in ("event loop", "linod-database", "linod-worker-1"):
            if name in self.found:
                for order in ("cumulative", "tottime"):
                    out.write(f"===== {name}, by {order}\n")
                    stats = pstats.Stats(self.found[name], stream=out)
                    stats.sort_stats(order).print_stats(LINES)
        return out.getvalue()


def main() -> None:
    django.setup()
    from linod.daemon import Daemon

    profiles, run_thread = Profiles(), threading.Thread.run

    def run(thread: threading.Thread) -> None:
        profiles.watch(thread.name, lambda: run_thread(thread))

    threading.Thread.run = run  # type: ignore[method-assign,assignment]
    code = profiles.watch("event loop", lambda: asyncio.run(Daemon().run()))
    Path(sys.argv[1]).write_text(profiles.text())
    os._exit(code)


if __name__ == "__main__":
    main()
