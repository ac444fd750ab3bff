"""The threads of sync bodies: what is given is run, or somebody hears of it."""

from __future__ import annotations

import threading
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
