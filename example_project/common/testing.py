"""What the tests of all apps share: calling a procedure, alone or twice at the same time."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from django.db import connection, connections

from linod import BaseRequest
from linod.exceptions import NotMine


class Lines(logging.Handler):
    """Keeps what was logged, as ``LEVEL text``."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.levelname} {record.getMessage()}")


class Progress:
    """The sink of a job that is its own; it remembers how far the body said it was."""

    def __init__(self) -> None:
        self.steps: list[tuple[float, float | None]] = []

    def progress(self, done: float, total: float | None, text: str) -> None:
        self.steps.append((done, total))

    def guard(self) -> None:
        """Nobody takes this over."""


class TakenOver:
    """What a job's sink does once another daemon has taken the job over."""

    def progress(self, done: float, total: float | None, text: str) -> None:
        """Nobody looks any more."""

    def guard(self) -> None:
        raise NotMine("This job was taken over")


def run(procedure: Callable[[BaseRequest], Any], sink: Any = None, **arguments: Any) -> list[str]:
    """Call a procedure with a request that is nobody's job; returns what it logged."""
    handler = Lines()
    logger = logging.getLogger(f"test.{id(handler)}")
    logger.propagate = False
    logger.addHandler(handler)
    procedure(BaseRequest(logger=logger, log_level="DEBUG", arguments=arguments, sink=sink))
    return handler.lines


def steps(procedure: Callable[[BaseRequest], Any]) -> list[tuple[float, float | None]]:
    """How far a procedure says it is, from its first step to its last: (done, total)."""
    sink = Progress()
    run(procedure, sink)
    return sink.steps


def run_twice_at_once(procedure: Callable[[BaseRequest], Any]) -> list[str]:
    """Two threads, each with its own connection, call the procedure at the same moment."""
    together = threading.Barrier(2)
    lines: list[str] = []
    errors: list[BaseException] = []

    def call() -> None:
        try:
            connection.ensure_connection()
            together.wait(timeout=10)
            lines.extend(run(procedure))
        except BaseException as error:  # noqa: BLE001 - raised again in the test's own thread
            errors.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=call) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    if errors:
        raise errors[0]
    return lines
