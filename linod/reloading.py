"""The daemon of a developer: it begins anew when the code has changed (``--reload``).

One process, and one address for signals: the daemon runs in a thread beside Django's reloader, and
after a change it stops in good order, then the process starts its own program again.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from pathlib import Path
from typing import Any

from django.utils import autoreload

from linod.daemon import STOPPED, Daemon

logger = logging.getLogger("linod")

#: The exit code by which Django's reloader says that the code has changed.
CHANGED = 3
#: Seconds in which a file must stay as it is: who saves it may empty it before writing it.
SETTLED = 0.1


class Reloading:
    """A daemon beside the reloader."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        self.code = STOPPED
        self._error: BaseException | None = None
        self._reloader: autoreload.BaseReloader | None = None
        self._up = threading.Event()
        self._ended = threading.Event()

    def run(self) -> int:
        """Serve until a signal; a change of the code replaces the process instead.

        Raises what the daemon raises, such as :class:`django.db.Error`.
        """
        os.environ[autoreload.DJANGO_AUTORELOAD_ENV] = "true"
        autoreload.file_changed.connect(refuse_broken, dispatch_uid="linod.reloading")
        autoreload.autoreload_started.connect(self._watching)
        reason: object = None
        try:
            autoreload.run_with_reloader(self._serve)
        except SystemExit as ended:
            reason = ended.code
        try:
            self._stop()
        except (KeyboardInterrupt, SystemExit):
            logger.warning("Stopped at once, by a second signal")
            return self.code
        if reason == CHANGED:
            if self._error is not None:
                # Else nobody would hear of it: what is started now may do better.
                logger.error("linod failed as the code changed", exc_info=self._error)
            logger.info("The code has changed: starting again")
            logging.shutdown()
            arguments = autoreload.get_child_arguments()
            os.execv(arguments[0], arguments)
        if self._error is not None:
            raise self._error
        return self.code

    def _serve(self) -> None:
        try:
            self.code = asyncio.run(self._run())
        except BaseException as error:  # noqa: BLE001 - run() raises it
            self._error = error
        finally:
            self._ended.set()
            self._end_watching()

    def _watching(self, sender: autoreload.BaseReloader, **kwargs: Any) -> None:
        self._reloader = sender
        self._end_watching()

    def _end_watching(self) -> None:
        """Whichever comes later, the reloader's beginning or the daemon's end, calls in time."""
        if self._ended.is_set() and self._reloader is not None:
            self._reloader.stop()

    async def _run(self) -> int:
        asyncio.get_running_loop().call_soon(self._up.set)
        return await self.daemon.run()

    def _stop(self) -> None:
        while not self._ended.is_set() and not self._up.wait(0.1):
            pass
        if not self._ended.is_set():
            self.daemon.loop.call_soon_threadsafe(self.daemon.stop)
            self._ended.wait()


def refuse_broken(sender: Any, file_path: Any, **kwargs: Any) -> bool:
    """Stay with the code that works when a changed file is no Python; True means: no reload."""
    if str(file_path).endswith(".py"):
        try:
            compile(_settled(Path(file_path)), str(file_path), "exec")
        except FileNotFoundError:
            return False
        except (SyntaxError, ValueError) as error:
            logger.warning("%s is not loaded: %s", file_path, error)
            return True
    return False


def _settled(path: Path) -> bytes:
    """What is in a file once nobody is writing it."""
    content = path.read_bytes()
    while True:
        time.sleep(SETTLED)
        former, content = content, path.read_bytes()
        if content == former:
            return content
