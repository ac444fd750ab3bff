"""What a daemon has to tell the live page: gathered from its signals, bounded, never waited for.

The signals are sent after the commit, in the engine's threads. The outbox only takes note; sending
is for :mod:`linod.broadcast`. When nobody takes anything away it drops the oldest and counts it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from linod import events, signals
from linod.events import Event
from linod.history import Decision
from linod.pieces import Piece, piece_number
from linod.records import Claimed, Finished

#: Most events that wait, of jobs and tasks.
EVENTS = 200
#: Most characters of logs that wait, and most pieces.
LOGS, PIECES = 128 * 1024, 200


@dataclass
class Parcel:
    """What was taken out at once."""

    events: list[Event] = field(default_factory=list)
    logs: list[Event] = field(default_factory=list)
    #: Whether older events, or older logs, were dropped since the last parcel.
    events_dropped: bool = False
    logs_dropped: bool = False


class Outbox:
    """Events of one daemon, the last state of each thing, in the order of their last change.

    :param host: where the daemon runs.
    :param wake: called, in any thread, when there is something to send.
    """

    def __init__(self, host: str, wake: Callable[[], None]) -> None:
        self.host = host
        self.dropped = 0
        self._wake = wake
        self._look: Callable[[Sequence[int]], None] = lambda task_ids: None
        self._lock = threading.Lock()
        self._events: dict[tuple[str, Any], Event] = {}
        self._logs: deque[tuple[int, Event]] = deque()
        self._log_size = 0
        self._events_dropped = self._logs_dropped = False

    def connect(self, look: Callable[[Sequence[int]], None]) -> None:
        """Listen to the engine of this process.

        :param look: called, in any thread, with the ids of tasks whose rows have changed.
        """
        self._look = look
        signals.jobs_started.connect(self._on_started)
        signals.jobs_said.connect(self._on_said)
        signals.jobs_finished.connect(self._on_finished)
        signals.decision_made.connect(self._on_decision)

    def disconnect(self) -> None:
        """Listen no more."""
        signals.jobs_started.disconnect(self._on_started)
        signals.jobs_said.disconnect(self._on_said)
        signals.jobs_finished.disconnect(self._on_finished)
        signals.decision_made.disconnect(self._on_decision)

    def add(self, found: Sequence[Event]) -> None:
        """Tell these; each replaces what waits of the same thing."""
        with self._lock:
            for event in found:
                self._put(event)
        self._wake()

    def drop_all(self) -> None:
        """Something happened that events cannot tell: whoever listens loads everything anew."""
        with self._lock:
            self._events_dropped = self._logs_dropped = True
        self._wake()

    def take(self) -> Parcel:
        """Everything that waits; the outbox is empty then."""
        with self._lock:
            parcel = Parcel(
                list(self._events.values()),
                [event for _size, event in self._logs],
                self._events_dropped,
                self._logs_dropped,
            )
            self._events, self._log_size = {}, 0
            self._logs.clear()
            self._events_dropped = self._logs_dropped = False
        return parcel

    def _put(self, event: Event) -> None:
        kind = event["type"]
        about = event[kind]["id"] if kind in ("job", "task") else event.get("job")
        if kind == "job":
            self._events.pop(("progress", about), None)
        self._events.pop((kind, about), None)
        self._events[kind, about] = event
        if len(self._events) > EVENTS:
            del self._events[next(iter(self._events))]
            self._events_dropped = True
            self.dropped += 1

    def _put_log(self, event: Event, size: int) -> None:
        self._logs.append((size, event))
        self._log_size += size
        while self._log_size > LOGS or len(self._logs) > PIECES:
            dropped, _event = self._logs.popleft()
            self._log_size -= dropped
            self._logs_dropped = True
            self.dropped += 1

    # What the engine says

    def _on_started(self, jobs: Sequence[Claimed], **kwargs: Any) -> None:
        self.add([{"type": "job", "job": events.claimed_data(job, self.host)} for job in jobs])
        self._look([job.task_id for job in jobs if job.task_id is not None])

    def _on_finished(self, outcomes: Sequence[Finished], **kwargs: Any) -> None:
        self._say([(e.job, e.pieces, e.log) for e in outcomes])
        self.add([{"type": "job", "job": events.finished_data(e, self.host)} for e in outcomes])
        self._look([e.job.task_id for e in outcomes if e.job.task_id is not None])

    def _on_said(self, pieces: Sequence[Piece], **kwargs: Any) -> None:
        self._say([(job, n, text) for job, n, text, _progress in pieces])
        self.add(
            [
                {"type": "progress", "job": str(job.id), "progress": progress}
                for job, _n, _text, progress in pieces
                if progress is not None
            ]
        )

    def _say(self, pieces: Sequence[tuple[Claimed, int, str]]) -> None:
        with self._lock:
            for job, n, text in pieces:
                if text:
                    event = events.log_data(job.id, piece_number(job, n), text)
                    self._put_log(event, min(len(text), events.PIECE))

    def _on_decision(self, decision: Decision, **kwargs: Any) -> None:
        self._look([] if decision.task_id is None else [decision.task_id])
