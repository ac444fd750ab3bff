"""The bodies that the benchmarks run."""

from __future__ import annotations

from benchmarks import notes
from linod import BaseRequest, background_task


@background_task
def no_op() -> None:
    """Do nothing."""


@background_task
def one_line(ar: BaseRequest) -> None:
    """Say one thing."""
    ar.info("One line of log")


@background_task
def tell(ar: BaseRequest) -> None:
    """Note that the body began; its number is an argument, because the row is read only on use."""
    assert ar.due_at is not None, "a job has an instant"
    notes.note(notes.BEGAN, ar.arguments["number"], ar.due_at.timestamp())
