"""TCP ports for the servers that tests start; needs no Django."""

from __future__ import annotations

import random
import socket

#: Below those that the system gives to whoever names none (32768 and above by default).
FIRST, LAST = 20_000, 32_000
#: Not of the tests' seed: workers begin with the same one.
_luck = random.SystemRandom()


def free_port() -> int:
    """A port of 127.0.0.1 on which nobody listens, kept from other tests while this process lives.

    A name that belongs to a port is bound in the system's abstract space: whoever wants the same
    port, in whichever process, finds the name taken, also while no server listens yet.
    """
    while True:
        port = _luck.randrange(FIRST, LAST)
        holder = socket.socket(socket.AF_UNIX)
        try:
            holder.bind(f"\0linod-test-port-{port}")
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(("127.0.0.1", port))
        except OSError:
            holder.close()
            continue
        holder.detach()  # until the end of the process
        return port


def is_open(port: int) -> bool:
    """Whether somebody listens there."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0
