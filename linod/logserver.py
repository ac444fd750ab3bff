"""The log server: the one writer of a site's log file.

It has a thread of its own. The holder of the lock is the server; whoever else is asked to serve
waits until the lock is free. What the server does while it serves is in :mod:`linod.logpeers`.
"""

from __future__ import annotations

import fcntl
import logging
import os
import pwd
import signal
import socket
import threading
import time
import weakref
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from linod.exceptions import NoLogServer
from linod.logfile import LogFile
from linod.loglines import DEFAULT_FORMAT, template_of
from linod.logpeers import Peers
from linod.logsender import LOCK, PATH_LIMIT, SOCKET
from linod.phrases import gettext_noop

if TYPE_CHECKING:
    from linod.conf import Config

logger = logging.getLogger("linod")

BACKLOG = 128
#: Seconds between two looks whether the lock has become free.
ELECTION = 0.2
#: Seconds from a failure to the next try.
PAUSE = 1.0
#: Seconds between two looks whether the folder is as it was.
LOOK = 1.0
#: Seconds that a server which stops goes on reading what was sent before.
DRAIN = 1.0


class LogServer:
    """Serves in a thread of its own, from :meth:`start` to :meth:`stop`, whenever it has the lock.

    :param log_dir: the folder of the file, the socket and the lock; it is made if it is not there.
    :param line_format: with ``{time} {level} {logger} {pid} {uid} {message}``.
    :param users: who may send beside this process's own user and root.
    """

    def __init__(
        self,
        log_dir: str | Path,
        log_file: str = "lino.log",
        *,
        line_format: str = DEFAULT_FORMAT,
        users: Iterable[str] = (),
        max_bytes: int = 0,
        period: str = "",
        keep: int = 10,
    ) -> None:
        self.folder = Path(log_dir)
        self.path = self.folder / SOCKET
        self.file = LogFile(self.folder / log_file, max_bytes=max_bytes, period=period, keep=keep)
        self.template = template_of(line_format)
        self.uids = {0, os.geteuid(), *map(_uid_of, users)}
        #: Set while this process is the one that writes.
        self.is_serving = threading.Event()
        self._stopping = threading.Event()
        self._reopening = False
        self._thread: threading.Thread | None = None
        self._lock: int | None = None
        self._listener: socket.socket | None = None
        self._peers: Peers | None = None
        _servers.add(self)

    @classmethod
    def from_settings(cls, config: Config) -> LogServer | None:
        """The server that the site's settings ask for; None when they ask for none."""
        if config.LOG_DIR is None:
            return None
        return cls(
            config.LOG_DIR,
            config.LOG_FILE,
            line_format=config.LOG_FORMAT,
            users=config.LOG_USERS,
            max_bytes=int(config.LOG_ROTATE_MB * 1024 * 1024),
            period=config.LOG_ROTATE_EVERY,
            keep=config.LOG_KEEP_FILES,
        )

    # What the process does with it

    def start(self) -> None:
        """Begin to serve, or to wait for the lock.

        :raises NoLogServer: in this folder nobody could.
        """
        try:
            self.folder.mkdir(mode=0o750, parents=True, exist_ok=True)
            os.close(self._open_lock())
        except OSError as error:
            message = gettext_noop("No log server in %(folder)s: %(error)s")
            raise NoLogServer(message, folder=self.folder, error=error.strerror) from error
        if len(os.fsencode(self.path)) > PATH_LIMIT:
            message = gettext_noop(
                "No log server in %(folder)s: the path of its socket is longer than %(limit)d bytes"
            )
            raise NoLogServer(message, folder=self.folder, limit=PATH_LIMIT)
        self._stopping.clear()
        self._thread = threading.Thread(target=self._run, name="linod-log-server", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Write what has been sent, then let another one serve."""
        self._stopping.set()
        self._wake()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT; SIGHUP reopens the file. In the main thread of a process.

        :raises NoLogServer: in this folder nobody could.
        """
        # Waited for, not handled: a handler may come while a lock is held that it needs.
        awaited = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
        former = signal.pthread_sigmask(signal.SIG_BLOCK, awaited)
        try:
            self.start()
            while signal.sigwait(awaited) == signal.SIGHUP:
                self.reopen()
        finally:
            self.stop()
            signal.pthread_sigmask(signal.SIG_SETMASK, former)

    def reopen(self) -> None:
        """Let go of a file that somebody has renamed, before the next record comes."""
        self._reopening = True
        self._wake()

    def _wake(self) -> None:
        peers = self._peers
        if peers is not None:
            peers.wake()

    # The thread

    def _run(self) -> None:
        was_told = False
        while not self._stopping.is_set():
            try:
                if self._elect():
                    was_told = False
                    self._serve()
                    continue
                if not was_told:
                    logger.info("Another log server writes %s", self.file.path)
                    was_told = True
                self._stopping.wait(ELECTION)
            except OSError as error:
                logger.log(logging.ERROR, "The log server begins again in a moment: %s", error)
                self._fall_back()
            except Exception:
                # A defect; but the site's log must not end with this thread.
                logger.exception("The log server failed and begins again in a moment")
                self._fall_back()
            finally:
                self._let_go()

    def _fall_back(self) -> None:
        """Give another one the chance."""
        self._let_go()
        self._stopping.wait(PAUSE)

    def _serve(self) -> None:
        self.file.take_up()
        self._listener = self._listen()
        self._peers = Peers(self._listener, self.file, self.template, self.uids, self._stopping)
        self.is_serving.set()
        logger.info("The log server writes %s", self.file.path)
        look = 0.0
        while not self._stopping.is_set():
            if self._reopening:
                self._reopening = False
                self.file.close()
            now = time.monotonic()
            if now >= look:
                look = now + LOOK
                if not self._is_in_place():
                    logger.warning("Somebody has cleared %s: the log server begins again",
                                   self.folder)  # fmt: skip
                    return
            self._peers.serve(LOOK)
        self._peers.drain(DRAIN)

    # Who serves

    def _open_lock(self) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        return os.open(self.folder / LOCK, flags, 0o640)

    def _elect(self) -> bool:
        """Take the lock, if nobody has it."""
        lock = self._open_lock()
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return False
        self._lock = lock
        return self._is_in_place()

    def _is_in_place(self) -> bool:
        """Whether lock and socket still have their names: somebody may have cleared the folder."""
        assert self._lock is not None
        try:
            there = os.stat(self.folder / LOCK).st_ino == os.fstat(self._lock).st_ino
            return there and (self._listener is None or self.path.is_socket())
        except FileNotFoundError:
            return False

    def _listen(self) -> socket.socket:
        self.path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        # The mask of file modes belongs to all threads of a process, this inode to nobody else:
        # the socket is born private and then opened for its group.
        os.fchmod(listener.fileno(), 0o600)
        listener.bind(str(self.path))
        self.path.chmod(0o660)
        listener.listen(BACKLOG)
        return listener

    def _let_go(self) -> None:
        """Give up socket, file and lock, in this order: the next one may begin at once."""
        self.is_serving.clear()
        if self._listener is not None and self._is_in_place():
            self.path.unlink(missing_ok=True)
        self._close()

    def forget(self) -> None:
        """In a forked child: close what is the parent's, so that it is free when that ends."""
        self.is_serving.clear()
        self._thread = None
        self._close()

    def _close(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        if self._peers is not None:
            self._peers.close()
            self._peers = None
        self.file.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _uid_of(user: str) -> int:
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        message = gettext_noop("LINOD['LOG_USERS'] names %(user)r; there is no such user")
        raise NoLogServer(message, user=user) from None


_servers: weakref.WeakSet[LogServer] = weakref.WeakSet()


def _forget_all() -> None:
    for server in list(_servers):
        server.forget()


os.register_at_fork(after_in_child=_forget_all)
