"""What the daemon tells its service manager: that it is up, that it lives, that it ends.

The protocol is that of sd_notify(3): lines ``NAME=value`` in a datagram to the socket that the
environment variable ``NOTIFY_SOCKET`` names. Whoever sets ``WATCHDOG_USEC`` wants to hear
``WATCHDOG=1`` at least that often (microseconds), else it takes the daemon for hung. These lines
are sent by the event loop itself: they stop when nothing else that happens there can happen.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Mapping

logger = logging.getLogger("linod")

#: Seconds between two looks at the status line where no watchdog asks for more.
INTERVAL = 10.0
#: Seconds that the service manager gets to take a datagram.
PATIENCE = 1.0


class Notifier:
    """Speaks to the service manager, or to nobody where there is none."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        self._status = ""
        #: Seconds of silence after which the service manager ends this process; None: never.
        self.watchdog = watchdog_of(environment) if self._address else None

    @property
    def interval(self) -> float:
        """Seconds between two signs of life: half of what is allowed, as sd_notify(3) has it."""
        return INTERVAL if self.watchdog is None else self.watchdog / 2

    async def run(self, is_up: asyncio.Event, status: Callable[[], str]) -> None:
        """Say that the daemon is up, then that it lives, until cancelled.

        :param is_up: set when the daemon serves.
        :param status: what it is about, in one line for people.
        """
        if not self._address:
            return
        await is_up.wait()
        self.tell("READY=1", status())
        while True:
            await asyncio.sleep(self.interval)
            self.tell("WATCHDOG=1" if self.watchdog else "", status())

    def tell(self, line: str, status: str) -> None:
        """Send a line of the protocol, and the status if it is another one."""
        lines = [line] if line else []
        if status != self._status:
            lines.append(f"STATUS={status}")
        if self._address and lines and self._send("\n".join(lines)):
            self._status = status

    def _send(self, text: str) -> bool:
        # "@" stands for the zero byte that an abstract name begins with.
        address = self._address.replace("@", "\0", 1) if self._address[0] == "@" else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as mouth:
                mouth.settimeout(PATIENCE)
                mouth.sendto(text.encode(), address)
        except OSError as error:
            logger.warning("NOTIFY_SOCKET %s does not hear: %s", self._address, error)
            return False
        return True


def watchdog_of(environment: Mapping[str, str]) -> float | None:
    """The seconds of ``WATCHDOG_USEC``; None where it is meant for another process, or wrong.

    >>> watchdog_of({"WATCHDOG_USEC": "60000000"})
    60.0
    >>> watchdog_of({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"})
    """
    if environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    given = environment.get("WATCHDOG_USEC", "")
    return int(given) / 1e6 if given.isdecimal() and int(given) > 0 else None
