"""The threads of sync bodies: what is given is run, or somebody hears of it."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from linod.workers import Workers
from tests.waiting import wait_until


def unexpected(error: BaseException) -> None:
    raise AssertionError("nothing was to fail") from error


def test_all_threads_start_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    started = list[str]()
    start = threading.Thread.start

    def noted(thread: threading.Thread) -> None:
        started.append(thread.name)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", noted)
    # Ten that wait for each other: each has a thread of its own.
    meeting = threading.Barrier(10)
    seen, done = list[int](), list[int]()

    def run(item: int) -> None:
        seen.append(len(started))
        meeting.wait(20)
        done.append(item)

    workers = Workers[int](10, run, unexpected)
    assert started == []
    workers.give(range(20))
    wait_until(lambda: len(done) == 20, "all meet")
    assert seen == [10] * 20
    workers.close()


def test_what_comes_out_of_a_run_is_told() -> None:
    told, done = list[Any](), list[int]()

    def run(item: int) -> None:
        if item == 1:
            raise MemoryError
        done.append(item)

    workers = Workers[int](1, run, told.append)
    workers.give([1, 2])
    wait_until(lambda: done == [2], "the thread goes on")
    assert [type(error) for error in told] == [MemoryError]
    workers.close()


def test_what_is_given_in_line_is_run_by_one_thread() -> None:
    """Also where each body lets go of the interpreter's lock."""
    done = list[tuple[int, str]]()

    def run(item: int) -> None:
        time.sleep(0.001)
        done.append((item, threading.current_thread().name))

    workers = Workers[int](5, run, unexpected)
    workers.give(range(20), in_line=True)
    wait_until(lambda: len(done) == 20, "all are done")
    assert [item for item, _name in done] == list(range(20))
    assert len({name for _item, name in done}) == 1
    workers.close()


def test_the_others_help_when_they_are_to_hurry() -> None:
    begun, go_on, done = threading.Event(), threading.Event(), list[int]()

    def run(item: int) -> None:
        if item == 0:
            begun.set()
            go_on.wait(20)
        done.append(item)

    workers = Workers[int](3, run, unexpected)
    workers.give(range(10), in_line=True)
    assert begun.wait(20)
    assert (done, workers.has_waiting) == ([], True)
    workers.hurry()
    wait_until(lambda: len(done) == 9, "the others do what waits")
    assert not workers.has_waiting
    go_on.set()
    wait_until(lambda: len(done) == 10, "the first one ends")
    workers.close()
