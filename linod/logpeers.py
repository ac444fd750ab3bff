"""The log server at work: senders' connections, what came over them, and what they are answered.

One turn takes what has arrived, writes all of it with one call and acknowledges it. Whoever has
sent more than its share of a turn waits for the next one and is not read before: its socket fills,
and then it is the sender who waits or drops. So a flood, of records or of rubbish, costs others its
share and no more. While the disk takes nothing, nothing is read: the records wait where they are.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import socket
import struct
import threading
import time
from collections import Counter, deque

from linod import framing
from linod.exceptions import BadFrame
from linod.framing import Decoder, Record
from linod.logfile import LogFile
from linod.loglines import lines_of

logger = logging.getLogger("linod")

MAX_CONNECTIONS = 256
#: Of these at most so many for one process: it needs one.
MAX_OF_ONE_PROCESS = 16
#: Seconds in which a new connection must say who it is.
HANDSHAKE = 2.0
#: Seconds in which a frame that has begun must end.
STALL = 10.0
#: Seconds between two looks at these limits.
TICK = 0.25
#: Bytes that are read from one connection at a time.
READ = 64 * 1024
#: Seconds of a turn in which records are taken apart, in equal shares for those who have sent any.
TURN = 0.002
#: New connections that are accepted in one turn.
ACCEPTS = 16
#: Seconds between two tries while the file cannot be written.
RETRY = 0.5
#: Seconds between two lines about what was refused.
REPORT = 60.0

CANNOT_WRITE = "%s cannot be written, the records wait: %s"
_CREDENTIALS = struct.Struct("3i")


class Peer:
    """One connection: what the kernel says of its process, and how far it has come."""

    def __init__(self, connection: socket.socket, pid: int, uid: int) -> None:
        self.socket = connection
        self.pid = pid
        self.uid = uid
        self.decoder = Decoder()
        #: What it has sent and nobody has looked at; nothing more is read before this is empty.
        self.waiting: deque[bytes] = deque()
        #: Its process and its client, as in the file; empty before it has said who it is.
        self.sender = ""
        #: The last acknowledgement that it was sent.
        self.acknowledged = -1
        #: When it must have said something whole.
        self.deadline: float | None = time.monotonic() + HANDSHAKE


class Peers:
    """All connections of the log server, and one turn after another.

    :param template: the first line of a record, as ``template_of`` gives it.
    :param uids: who may send.
    :param stopping: set when a write that fails is not to be tried again.
    """

    def __init__(
        self,
        listener: socket.socket,
        file: LogFile,
        template: str,
        uids: set[int],
        stopping: threading.Event,
    ) -> None:
        self.listener = listener
        self.file = file
        self.template = template
        self.uids = uids
        self.stopping = stopping
        #: What was refused since the last line about it.
        self.refused: Counter[str] = Counter()
        self._peers: set[Peer] = set()
        #: Those who have said something since their last turn, or more than fitted into it.
        self._busy: set[Peer] = set()
        self._lines: list[str] = []
        self._progress: dict[str, int] = {}
        self._heard: set[Peer] = set()
        self._second, self._second_text = -1, ""
        self._next_tick = self._next_report = 0.0
        self._ear, self._waker = socket.socketpair()
        self._ear.setblocking(False)
        self._waker.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(listener, selectors.EVENT_READ)
        self._selector.register(self._ear, selectors.EVENT_READ)

    def wake(self) -> None:
        """End the waiting of :meth:`serve`; from any thread."""
        with contextlib.suppress(OSError):  # closed, or full of wake-ups
            self._waker.send(b"!")

    def serve(self, timeout: float) -> bool:
        """One turn, at the latest after so many seconds; whether there was anything to do."""
        if self._busy:
            timeout = 0.0
        elif any(peer.deadline is not None for peer in self._peers):
            timeout = min(timeout, TICK)
        ready = self._selector.select(timeout)
        for key, events in ready:
            if key.data is not None:
                if events & selectors.EVENT_WRITE:
                    self._acknowledge(key.data)
                if events & selectors.EVENT_READ and not key.data.waiting:
                    self._read(key.data)
            elif key.fileobj is self.listener:
                self._accept()
            else:
                self._ear.recv(4096)
        self._take_all()
        # Before the writing, which may wait long: what came meanwhile counts as said in time.
        self._keep_limits()
        self._write()
        return bool(ready or self._busy)

    def drain(self, seconds: float) -> None:
        """Take what has been sent already; nobody new is let in."""
        self._selector.unregister(self.listener)
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.serve(0.02):
            pass

    def close(self) -> None:
        """Close everything but the listener."""
        self._selector.close()
        for each in (self._ear, self._waker, *(peer.socket for peer in self._peers)):
            each.close()
        self._peers.clear()

    # Connections

    def _accept(self) -> None:
        for _ in range(ACCEPTS):
            try:
                connection, _address = self.listener.accept()
            except BlockingIOError:
                return
            connection.setblocking(False)
            given = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
            pid, uid, _gid = _CREDENTIALS.unpack(given)
            if why := self._refusal(pid, uid):
                self.refused[why] += 1
                connection.close()
                continue
            peer = Peer(connection, pid, uid)
            self._peers.add(peer)
            self._selector.register(connection, selectors.EVENT_READ, peer)

    def _refusal(self, pid: int, uid: int) -> str:
        if uid not in self.uids:
            return f"connections of user {uid}, who may not send (see LOG_USERS)"
        if len(self._peers) >= MAX_CONNECTIONS:
            return f"connections beyond {MAX_CONNECTIONS}"
        if pid and sum(peer.pid == pid for peer in self._peers) >= MAX_OF_ONE_PROCESS:
            return f"connections beyond {MAX_OF_ONE_PROCESS} of one process"
        return ""

    def _drop(self, peer: Peer, why: str = "") -> None:
        if why:
            self.refused[why] += 1
        self._peers.discard(peer)
        self._heard.discard(peer)
        self._selector.unregister(peer.socket)
        peer.socket.close()

    def _keep_limits(self) -> None:
        now = time.monotonic()
        if now < self._next_tick:
            return
        self._next_tick = now + TICK
        for peer in [peer for peer in self._peers if (peer.deadline or now) < now]:
            self._drop(peer, "connections that did not say anything whole in time")
        if self.refused and now >= self._next_report:
            self._next_report = now + REPORT
            refused = ", ".join(f"{count} {what}" for what, count in self.refused.items())
            self.refused.clear()
            logger.warning("The log server refused: %s", refused)

    # From the connections to the file

    def _read(self, peer: Peer) -> None:
        try:
            data = peer.socket.recv(min(READ, peer.decoder.room))
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop(peer)
            return
        try:
            peer.waiting.extend(peer.decoder.feed(data))
            if not peer.waiting:
                peer.deadline = peer.deadline or time.monotonic() + STALL
                return
            if not peer.sender:
                peer.sender = f"{peer.pid}-{framing.parse_hello(peer.waiting.popleft())}"
        except BadFrame as error:
            self._drop(peer, f"connections that broke the protocol ({error})")
            return
        peer.deadline = None  # while it waits for its turn
        self._busy.add(peer)

    def _take_all(self) -> None:
        """Give each who has sent something its share of this turn."""
        share = TURN / max(1, len(self._busy))
        for peer in list(self._busy):
            self._take(peer, share)

    def _take(self, peer: Peer, seconds: float) -> None:
        """Take a record, and more for so long."""
        sender, waiting = peer.sender, peer.waiting
        first = last = self._progress.get(sender) or self.file.progress.get(sender, 0)
        end = time.monotonic() + seconds
        while waiting:
            try:
                record = framing.parse_record(waiting.popleft())
            except BadFrame as error:
                self.refused[f"frames ({error})"] += 1
            else:
                # Or it is sent again, because its acknowledgement was lost.
                if record.sequence > last:
                    last = record.sequence
                    self._lines.append(self._lines_of(peer, record))
            if time.monotonic() >= end:
                break
        if last > first:
            self._progress[sender] = last
        self._heard.add(peer)
        if not waiting:
            self._busy.remove(peer)
            if peer.decoder.is_inside:
                peer.deadline = time.monotonic() + STALL

    def _lines_of(self, peer: Peer, record: Record) -> str:
        sequence, created, level, name, message, below = record
        when = self._time_text(created)
        first = self.template.format(when, level, name, peer.pid, peer.uid, message)
        return lines_of(first, below, peer.sender, sequence)

    def _time_text(self, created: float) -> str:
        second = int(created)
        if second != self._second:
            self._second_text = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(second))
            self._second = second
        return f"{self._second_text}.{int((created - second) * 1000):03d}"

    def _write(self) -> None:
        """Write what has come and acknowledge it; wait while the disk does not take it."""
        if self._lines and not self._is_written("".join(self._lines).encode()):
            return
        for peer in self._heard:
            self._acknowledge(peer)
        self._lines = []
        self._progress.clear()
        self._heard.clear()

    def _is_written(self, data: bytes) -> bool:
        was_told = False
        while True:
            try:
                self.file.write(data, self._progress)
            except OSError as error:
                if not was_told:
                    why = os.strerror(error.errno or 0)
                    logger.log(logging.ERROR, CANNOT_WRITE, self.file.path, why)
                    was_told = True
            else:
                if was_told:
                    logger.warning("%s can be written again", self.file.path)
                return True
            if self.stopping.wait(RETRY):
                return False  # nobody was told that these are safe: they come again

    def _acknowledge(self, peer: Peer) -> None:
        sequence = self.file.progress.get(peer.sender, 0)
        if sequence != peer.acknowledged:
            try:
                peer.socket.send(framing.acknowledgement(sequence))
            except BlockingIOError:
                # It reads nothing, perhaps it is frozen; when it does, it is told the newest.
                both = selectors.EVENT_READ | selectors.EVENT_WRITE
                self._selector.modify(peer.socket, both, peer)
                return
            except OSError:
                return  # gone; what it had sent before is still read
            peer.acknowledged = sequence
        if self._selector.get_key(peer.socket).events != selectors.EVENT_READ:
            self._selector.modify(peer.socket, selectors.EVENT_READ, peer)
