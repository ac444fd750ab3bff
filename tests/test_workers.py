"""The threads of sync bodies: what is given is run, or somebody hears of it."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from linod.workers import Workers
from tests.waiting import wait_until


class _Room:
    """Room for so many threads; to start one more raises what CPython raises then."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, threads: int) -> None:
        self.left = threads
        start = threading.Thread.start

        def guarded(thread: threading.Thread) -> None:
            if thread.name.startswith("linod-worker"):
                if not self.left:
                    raise RuntimeError("can't start new thread")
                self.left -= 1
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", guarded)


def unexpected(error: BaseException) -> None:
    raise AssertionError("nothing was to fail") from error


def test_without_room_for_a_thread_the_others_do_its_work(monkeypatch: pytest.MonkeyPatch) -> None:
    room, done = _Room(monkeypatch, 1), list[int]()
    workers = Workers[int](10, done.append, unexpected)
    workers.give(range(5))
    wait_until(lambda: len(done) == 5, "one thread does all of it")
    assert done == [0, 1, 2, 3, 4]
    # As soon as there is room, the next thread starts.
    room.left = 1
    meeting = threading.Barrier(2)
    workers._run = lambda item: done.append(item + meeting.wait(20) * 0)
    workers.give([5, 6])
    wait_until(lambda: len(done) == 7, "two threads meet")
    workers.close()


def test_without_any_thread_whoever_gives_hears_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    _Room(monkeypatch, 0)
    workers = Workers[int](10, unexpected, unexpected)  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="can't start new thread"):
        workers.give([1])
    assert workers.take_back() == [1]


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
