"""A process's way to the log server: a window of records that nobody has acknowledged yet.

Whoever logs puts a record into the window and hands it to the socket if that takes it at once; it
never waits. A thread of its own, the keeper, does the rest: it connects again, sends what did not
fit, hears what has been acknowledged. A record leaves the window when the server has written it.
While no server answers the window fills; what then comes is counted, and said as soon as there is
room.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from pathlib import Path

from linod import chance, framing

#: Names in the folder of the log.
SOCKET, LOCK = "linod.sock", "linod.lock"
#: Longest path of a unix socket, in bytes (unix(7): 108 with the final NUL).
PATH_LIMIT = 107
#: What Python adds to the bytes of each record.
OVERHEAD = 200
#: When the window takes nothing more: with one last frame it holds 8 MiB.
MAX_RECORDS = 10_000
MAX_BYTES = 8 * 1024 * 1024 - 64 * 1024 - OVERHEAD
#: Part of the window that records below WARNING may fill; the rest is for those that matter.
SHARE_OF_LESSER = 0.75
#: Seconds that a record waits for room at most, and the age of a server's last answer beyond which
#: it does not wait at all.
MAX_WAIT, ANSWER_AGE = 0.03, 0.25
#: Bytes that are handed to the socket with one call.
CHUNK = 64 * 1024
#: Seconds for which records are collected under load; a first one, and a warning, go at once.
LINGER = 0.002
#: Seconds between two looks while something is unacknowledged; and between those that follow the
#: first one, when somebody waits for it.
LOOK, LOOK_AGAIN = 0.005, 0.001
#: Seconds between two tries to connect: from, to.
BACK_OFF = (0.02, 0.4)
#: Seconds after which a keeper with nothing to do ends; the next record starts another one.
IDLE = 1.0
#: Seconds that flush waits: for a server that is there, and for one that was and begins again.
PATIENCE, PATIENCE_ALONE = 2.0, 1.0


class Sender:
    """The window, the connection and the keeper of one process.

    :param folder: the folder of the log.
    :param announce: makes the payload that says ``(how many records were dropped, since when)``.
    """

    def __init__(self, folder: Path, announce: Callable[[int, float], bytes]) -> None:
        self.path = folder / SOCKET
        self._announce = announce
        self._begin()
        _senders.add(self)

    def _begin(self) -> None:
        """Start from nothing: in a new process, also one that was forked."""
        # Reentrant, because a signal's handler may log while its thread is in here.
        self._lock = threading.RLock()
        self._is_inside = False
        self._incoming: deque[bytes] = deque()
        self.client = os.urandom(4).hex()
        self._sequence = 0
        self._bytes = 0
        self._unsent: deque[tuple[int, bytes]] = deque()
        self._unacknowledged: deque[tuple[int, bytes]] = deque()
        self._remainder = b""
        self._answers = bytearray()
        self._socket: socket.socket | None = None
        self._next_try = 0.0
        self._back_off = BACK_OFF[0]
        self._last_send = self._last_answer = 0.0
        self._dropped, self._dropped_since = 0, 0.0
        self._keeper: threading.Thread | None = None
        self._work = threading.Event()
        self._closing = threading.Event()

    def begin_again(self) -> None:
        """In a forked child: nothing of the parent's is this process's."""
        if self._socket is not None:
            self._socket.close()
        self._begin()

    @property
    def pending(self) -> int:
        """How many records nobody has acknowledged."""
        return len(self._incoming) + len(self._unsent) + len(self._unacknowledged)

    def has_room(self, level: int, created: float) -> bool:
        """Whether a record of that level has a place; if not, it is counted as dropped.

        While the server keeps acknowledging, this waits a little for the place: a burst is slowed
        down rather than cut. It never waits for a server that says nothing.
        """
        share = 1.0 if level >= logging.WARNING else SHARE_OF_LESSER
        if self._is_below(share):
            return True
        end = time.monotonic() + MAX_WAIT
        while end > time.monotonic() < self._last_answer + ANSWER_AGE:
            self._closing.wait(0.001)
            self._step()
            if self._is_below(share):
                return True
        with self._lock:
            if not self._dropped:
                self._dropped_since = created
            self._dropped += 1
        self._wake_keeper()
        return False

    def _is_below(self, share: float) -> bool:
        return self.pending < MAX_RECORDS * share and self._bytes < MAX_BYTES * share

    def put(self, body: bytes, *, at_once: bool) -> None:
        """Take a record, in the form of ``framing.body_of``; never waits for the server.

        :param at_once: hand it to the socket now, however many have just been.
        """
        self._incoming.append(body)
        with self._lock:
            if self._is_inside:
                return  # a signal's handler: the call that it interrupted takes this along
            try:
                self._is_inside = True
                self._number()
                now = time.monotonic()
                if at_once or now - self._last_send > LINGER:
                    self._exchange(now)
            finally:
                self._is_inside = False
        self._wake_keeper()

    def flush(self, seconds: float = PATIENCE) -> bool:
        """Wait until all is acknowledged; whether it is.

        For a server that is not there it waits ``PATIENCE_ALONE``, and not at all where none has
        ever been.
        """
        begin, pause = time.monotonic(), LOOK
        while not self._step(last=True):
            patience = seconds
            if self._socket is None:
                alone = PATIENCE_ALONE if self.path.with_name(LOCK).exists() else 0.0
                patience, pause = min(seconds, alone), LOOK
            if time.monotonic() - begin >= patience:
                return False
            self._closing.wait(pause)
            pause = LOOK_AGAIN
        return True

    def _step(self, *, last: bool = False) -> bool:
        """Do whatever can be done now; whether nothing is left."""
        with self._lock:
            if self._is_inside:
                return False
            try:
                self._is_inside = True
                self._number()
                if self._dropped and last:
                    self._confess()
                self._exchange(time.monotonic())
            finally:
                self._is_inside = False
            return not self.pending

    def close(self) -> int:
        """Let go of everything; returns how many records nobody has acknowledged."""
        self._closing.set()
        self._work.set()
        keeper = self._keeper
        if keeper is not None and keeper is not threading.current_thread():
            keeper.join(1.0)
        with self._lock:
            left = self.pending + self._dropped
            if self._socket is not None:
                self._socket.close()
            self._begin()
        return left

    # With the lock held

    def _number(self) -> None:
        """Give what has come its numbers, in the order in which it came."""
        while self._incoming:
            body = self._incoming.popleft()
            self._sequence += 1
            frame = framing.frame_of(self._sequence, body)
            self._unsent.append((self._sequence, frame))
            self._bytes += len(frame) + OVERHEAD

    def _exchange(self, now: float) -> None:
        """Connect if it is time to, send what the socket takes, hear what it has."""
        if self._socket is None and not (
            self.pending and now >= self._next_try and self._connect(now)
        ):
            return
        self._last_send = now
        try:
            self._send()
            self._hear()
        except OSError:
            self._lose()
        except BaseException:
            # A body that is interrupted, say: nobody knows how far this came, so send all again.
            self._lose()
            raise

    def _connect(self, now: float) -> bool:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            connection.connect(str(self.path))
        except OSError:
            connection.close()
            self._next_try = now + self._back_off * chance.between(0.5, 1.0)
            self._back_off = min(self._back_off * 2, BACK_OFF[1])
            return False
        self._socket = connection
        self._remainder = framing.hello(self.client)
        return True

    def _lose(self) -> None:
        """The server has gone: what it has not acknowledged goes to the next one."""
        assert self._socket is not None
        self._socket.close()
        self._socket = None
        self._answers.clear()
        self._remainder = b""
        self._unsent.extendleft(reversed(self._unacknowledged))
        self._unacknowledged.clear()
        self._next_try = time.monotonic() + self._back_off * chance.between(0.5, 1.0)

    def _send(self) -> None:
        assert self._socket is not None
        while self._remainder or self._unsent:
            chunk, size = [self._remainder], len(self._remainder)
            while self._unsent and size < CHUNK:
                item = self._unsent[0]
                self._unacknowledged.append(item)
                self._unsent.popleft()
                chunk.append(item[1])
                size += len(item[1])
            data = b"".join(chunk)
            self._remainder = data
            try:
                sent = self._socket.send(data)
            except BlockingIOError:
                return
            self._remainder = data[sent:]
            if self._remainder:
                return

    def _hear(self) -> None:
        assert self._socket is not None
        try:
            data = self._socket.recv(4096)
        except BlockingIOError:
            return
        if not data:
            raise ConnectionResetError
        self._answers += data
        sequence = framing.last_acknowledged(self._answers)
        if sequence is None:
            return
        self._back_off = BACK_OFF[0]
        self._last_answer = time.monotonic()
        # After a loss, what waits to be sent again may be in the file already.
        for window in (self._unacknowledged, self._unsent):
            while window and window[0][0] <= sequence:
                self._bytes -= len(window.popleft()[1]) + OVERHEAD
        if self._dropped and self.pending < MAX_RECORDS / 2 and self._bytes < MAX_BYTES / 2:
            self._confess()

    def _confess(self) -> None:
        """Say how many records were dropped, in the place where they would stand."""
        self._incoming.append(self._announce(self._dropped, self._dropped_since))
        self._dropped = 0
        self._number()

    # The keeper

    def _wake_keeper(self) -> None:
        if not self._work.is_set():
            self._work.set()
        if self._keeper is None and not self._closing.is_set():
            keeper = threading.Thread(target=self._keep, name="linod-log-keeper", daemon=True)
            self._keeper = keeper
            try:
                keeper.start()
            except RuntimeError:
                self._keeper = None  # the interpreter ends: flush is still to come

    def _keep(self) -> None:
        closing, work = self._closing, self._work
        while not closing.is_set():
            if not work.wait(IDLE):
                with self._lock:
                    if not work.is_set():
                        self._keeper = None
                        return
            with self._lock:
                # Nobody is inside who could be interrupted by this thread.
                self._is_inside = False
                self._number()
                self._exchange(time.monotonic())
                if not self.pending and not self._dropped:
                    work.clear()
                pause = LOOK
                if self._socket is None:
                    pause = max(self._next_try - time.monotonic(), LOOK)
            closing.wait(pause)


_senders: weakref.WeakSet[Sender] = weakref.WeakSet()


def _begin_all_again() -> None:
    for sender in list(_senders):
        sender.begin_again()


os.register_at_fork(after_in_child=_begin_all_again)
