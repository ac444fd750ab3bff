"""Hints between the processes of one host: a datagram that says "look now", and may say at what.

Polling is the truth; a hint that is lost costs seconds, not a run. Each daemon binds one socket in
``RUN_DIR``, whose name begins with its process id; senders write to every socket there and remove
those that nobody listens on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import stat
import tempfile
import uuid
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from linod import asking, signals
from linod.conf import config

logger = logging.getLogger("linod")

#: Longest path of a unix socket, in bytes (unix(7): 108 with the final NUL).
PATH_LIMIT = 107
#: Look, no more.
LOOK = b"!"
#: Where hints went the last time, in a folder that is this user's alone.
_known: set[str] = set()


def run_dir() -> Path:
    """The folder of the wake-up sockets: ``RUN_DIR``, or a private one of this user and site."""
    given = config().RUN_DIR
    if given is not None:
        return Path(given)
    base = os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()
    return Path(base) / f"linod-{os.getuid()}" / config().SITE


def _is_private(folder: Path) -> bool:
    """Whether the folder is this user's alone: in a shared one anybody may have made it."""
    info = folder.lstat()
    return stat.S_ISDIR(info.st_mode) and info.st_uid == os.getuid() and not info.st_mode & 0o022


def _make_private(folder: Path) -> None:
    for each in (folder.parent, folder):
        each.mkdir(mode=0o700, parents=True, exist_ok=True)
    if config().RUN_DIR is None and not (_is_private(folder) and _is_private(folder.parent)):
        raise PermissionError(f"{folder} must belong to this user alone; set LINOD['RUN_DIR']")


class Listener:
    """A daemon's ear: calls ``wake`` in the event loop, with the hints that have come."""

    def __init__(self, owner: uuid.UUID, wake: Callable[[list[bytes]], None]) -> None:
        # Not all of the owner's name: its path must be short.
        self.path = run_dir() / f"{os.getpid()}-{owner.hex[:16]}.sock"
        self._wake = wake
        self._socket: socket.socket | None = None
        self._is_told = False

    def open(self) -> None:
        """Bind the socket; without one (no folder, a path too long) polling has to do."""
        try:
            _make_private(self.path.parent)
            if len(os.fsencode(self.path)) > PATH_LIMIT:
                raise OSError(f"the path is longer than {PATH_LIMIT} bytes")
            ear = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            ear.bind(str(self.path))
        except OSError as error:
            logger.warning("No wake-ups at %s, polling only: %s", self.path, error)
            return
        self._socket = ear
        # Where others may write, others may tell anything.
        is_closed = not self.path.stat().st_mode & 0o022
        self._is_told = is_closed and _is_private(self.path.parent)
        asyncio.get_running_loop().add_reader(ear, self._hear)

    def _hear(self) -> None:
        assert self._socket is not None
        hints: list[bytes] = []
        try:
            while hint := self._socket.recv(asking.MOST):
                hints.append(hint)
        except BlockingIOError:
            pass
        self._wake(hints if self._is_told else [])

    def close(self) -> None:
        """Unbind; others stop writing here."""
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None
            self.path.unlink(missing_ok=True)


def send(hint: bytes = LOOK) -> None:
    """Tell every daemon of this site on this host to look now; never waits, never fails.

    What the hint tells beyond that is for a folder of this user alone: who may write into another
    may listen there.
    """
    # Whoever asked waits: first where the last one went, then look who is there.
    told = set(_known)
    _say(hint, told)
    is_private, ears = _ears()
    _say(hint if is_private else LOOK, ears - told)
    _known.clear()
    if is_private:
        _known.update(ears)


def _ears() -> tuple[bool, set[str]]:
    """The daemons' sockets that are there now, and whether their folder is this user's alone."""
    folder = run_dir()
    try:
        is_private = _is_private(folder)
        if config().RUN_DIR is None and not is_private:
            return False, set()
        names = os.listdir(folder)
    except OSError:
        return False, set()  # no daemon was ever started here
    return is_private, {f"{folder}/{name}" for name in names if name.endswith(".sock")}


def neighbours() -> set[int]:
    """The process ids that this site's daemons on this host say they have; some may be gone."""
    names = (os.path.basename(path) for path in _ears()[1])
    return {int(pid) for pid, _dash, _owner in (name.partition("-") for name in names)
            if pid.isdecimal()}  # fmt: skip


def send_ahead(hint: bytes) -> None:
    """Tell those that heard the last hint what is about to be committed; a further hint follows."""
    _say(hint, set(_known))


def _say(hint: bytes, paths: Collection[str]) -> None:
    if not paths:
        return
    try:
        mouth = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    except OSError as error:
        logger.debug("No hint: %s", error)
        return
    with mouth:
        for path in paths:
            _say_to(mouth, hint, path)


def _say_to(mouth: socket.socket, hint: bytes, path: str) -> None:
    try:
        mouth.sendto(hint, path)
    except (ConnectionRefusedError, FileNotFoundError):
        with contextlib.suppress(OSError):  # others' sockets are theirs to remove
            Path(path).unlink()
    except OSError as error:
        # A full socket has a hint in it already.
        logger.debug("No hint to %s: %s", path, error)


def _on_work(asked: dict[str, Any] | None = None, **kwargs: Any) -> None:
    send((asked and asking.as_hint(asked)) or LOOK)


def _on_arriving(asked: dict[str, Any], **kwargs: Any) -> None:
    if hint := asking.as_hint(asked):
        send_ahead(hint)


def connect() -> None:
    """Send a hint whenever the rows say that work has arrived, or is about to."""
    signals.work_arrived.connect(_on_work, dispatch_uid="linod.wakeup")
    signals.work_arriving.connect(_on_arriving, dispatch_uid="linod.wakeup")
