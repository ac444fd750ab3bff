"""Calling a body: whatever it does, an outcome comes back and its caller goes on."""

from __future__ import annotations

import asyncio
import copy
import functools
import logging
import math
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from datetime import date
from typing import Any

import pytest
from django.core.exceptions import ValidationError

from linod import capture, running
from linod.capture import Capture
from linod.exceptions import Interruption, JobCancelled, JobStopped, JobTimedOut, NotMine
from linod.procedures import Procedure
from linod.requests import BaseRequest, Cancellation
from linod.running import Body, Outcome

DEADLINE = 20.0


class Run:
    """One body with its log, as whoever runs jobs would make it."""

    def __init__(self, func: Callable[..., Any], level: int = logging.INFO) -> None:
        self.log = Capture(level)
        self.cancellation = Cancellation()
        self.ar = BaseRequest(capture=self.log, cancellation=self.cancellation)
        self.body = Body(Procedure(func, "body"), self.ar, self.log)

    def call(self) -> Outcome:
        return self.body.call()

    def stop(self, reason: str, kind: type[Interruption] = JobCancelled) -> None:
        self.cancellation.set(reason, kind)
        self.body.interrupt(kind)

    def in_thread(self) -> tuple[threading.Thread, list[Outcome]]:
        outcomes: list[Outcome] = []
        thread = threading.Thread(target=lambda: outcomes.append(self.call()), daemon=True)
        thread.start()
        return thread, outcomes


def call(func: Callable[..., Any]) -> Outcome:
    return Run(func).call()


def raising(error: BaseException) -> Callable[[Any], None]:
    def body(ar: Any) -> None:
        raise error

    return body


def araising(error: BaseException) -> Callable[[Any], Any]:
    async def body(ar: Any) -> None:
        await asyncio.sleep(0)
        raise error

    return body


ERRORS = [
    ValueError("boom <b>&</b>"),
    ValidationError("not valid"),
    SystemExit(3),
    KeyboardInterrupt(),
    GeneratorExit(),
    asyncio.CancelledError(),
    StopIteration(),
    StopAsyncIteration(),
    MemoryError(),
    RecursionError("deep"),
    BaseExceptionGroup("several", [KeyboardInterrupt(), ValueError("one")]),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("make", [raising, araising])
def test_whatever_is_raised_is_a_failure_and_nothing_else(
    make: Callable[[BaseException], Any], error: BaseException
) -> None:
    run = Run(make(copy.copy(error)))
    outcome = run.call()
    assert outcome.state == "failed"
    assert type(error).__name__ in outcome.error
    assert "Traceback (most recent call last):" in outcome.error.splitlines()[0]
    assert "in body" in outcome.error
    assert "linod/running.py" not in outcome.error  # the reader's code, not ours
    assert run.log.drain_all().endswith(outcome.error)
    assert capture.current.get() is None


def test_a_task_of_an_async_body_may_not_end_its_loop() -> None:
    async def leave() -> None:
        raise SystemExit(3)

    async def body(ar: Any) -> None:
        await asyncio.gather(asyncio.create_task(leave()))

    outcome = call(body)
    assert outcome.state == "failed"
    assert "SystemExit: 3" in outcome.error


def test_an_error_that_cannot_say_what_it_is() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise ZeroDivisionError

    class MuteWarning(UserWarning):
        __str__ = Mute.__str__

    assert "Mute: <exception str() failed>" in call(raising(Mute())).error
    run = Run(raising(MuteWarning()))
    assert run.call().state == "succeeded"
    assert "MuteWarning" in run.log.drain_all()


def test_a_warning_is_a_success_with_its_text_kept() -> None:
    run = Run(raising(UserWarning("2 pages were skipped")), level=logging.CRITICAL)
    assert run.call() == Outcome("succeeded")
    assert run.log.drain_all().endswith("WARNING UserWarning: 2 pages were skipped\n")


def test_a_failure_is_told_even_to_the_quietest_job() -> None:
    run = Run(raising(ValueError("boom")), level=logging.CRITICAL)
    run.call()
    assert "ERROR Traceback (most recent call last):" in run.log.drain_all()


def test_a_job_that_is_not_mine_any_more_is_lost() -> None:
    assert call(raising(NotMine("taken over"))) == Outcome("lost", error="taken over")


def test_an_endless_error_keeps_its_end() -> None:
    outcome = call(raising(ValueError("x" * 10**6 + " the end")))
    assert len(outcome.error) == running.ERROR_LIMIT
    assert outcome.error.endswith(" the end\n")


def test_an_error_with_what_databases_refuse() -> None:
    assert call(raising(ValueError("a\0b\ud800"))).error.endswith("ValueError: a\\x00b\\ud800\n")


# Results


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (None, None),
        (0, 0),
        ("", ""),
        ({"sent": 3, "day": date(2026, 1, 2)}, {"sent": 3, "day": "2026-01-02"}),
        ((1, 2), [1, 2]),
        ({1: "a\0", "\ud800": ["\udfff \U0001f600"]},
         {"1": "a\\x00", "\\ud800": ["\\udfff \U0001f600"]}),
    ],
)  # fmt: skip
def test_a_result_is_kept_as_json(value: Any, kept: Any) -> None:
    assert call(lambda: value) == Outcome("succeeded", result=kept)


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def circular() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    "value",
    [object(), {1, 2}, math.nan, [math.inf], circular(), nested(100_000), "x" * 70_000,
     {(1, 2): 3}, 10**5000, b"bytes"],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_a_result_that_cannot_be_kept_is_still_a_success(value: Any) -> None:
    run = Run(lambda: value, level=logging.CRITICAL)
    assert run.call() == Outcome("succeeded")
    assert " WARNING The result is not kept: " in run.log.drain_all()


# Async bodies


def test_an_async_body_is_awaited() -> None:
    async def body(ar: Any) -> int:
        await ar.ainfo("begun")
        await asyncio.sleep(0)
        return 42

    run = Run(body)
    assert run.call() == Outcome("succeeded", result=42)
    assert run.log.drain_all().endswith("INFO begun\n")


def test_an_async_body_behind_a_decorator_that_is_not() -> None:
    async def body(ar: Any) -> str:
        await asyncio.sleep(0)
        return "awaited"

    @functools.wraps(body)
    def decorated(ar: Any) -> Any:
        return body(ar)

    assert call(decorated) == Outcome("succeeded", result="awaited")


async def test_many_async_bodies_in_one_loop_keep_their_own_logs() -> None:
    capture.install()

    def make(number: int) -> Run:
        async def body(ar: Any) -> None:
            await asyncio.sleep(0)
            await asyncio.create_task(child())

        async def child() -> None:
            logging.getLogger("shop").info("I am %d", number)

        return Run(body)

    runs = [make(number) for number in range(5)]
    await asyncio.gather(*(run.body.acall() for run in runs))
    for number, run in enumerate(runs):
        assert run.log.drain_all().endswith(f"INFO I am {number}\n")


async def test_an_async_body_that_raises_leaves_the_loop_alone() -> None:
    for error in ERRORS:
        assert (await Run(araising(copy.copy(error))).body.acall()).state == "failed"


# Interruptions


@pytest.fixture
def begun() -> threading.Event:
    return threading.Event()


def looping(begun: threading.Event) -> Callable[[Any], None]:
    def body(ar: Any) -> None:
        begun.set()
        end = time.monotonic() + DEADLINE
        while time.monotonic() < end:
            pass

    return body


def napping(begun: threading.Event) -> Callable[[Any], None]:
    def body(ar: Any) -> None:
        begun.set()
        for _ in range(2000):
            threading.Event().wait(0.01)

    return body


def asleep(begun: threading.Event) -> Callable[[Any], Any]:
    async def body(ar: Any) -> None:
        begun.set()
        await asyncio.sleep(DEADLINE)

    return body


@pytest.mark.parametrize("make", [looping, napping, asleep])
def test_a_body_is_interrupted(make: Callable[[Any], Any], begun: threading.Event) -> None:
    run = Run(make(begun))
    thread, outcomes = run.in_thread()
    assert begun.wait(DEADLINE)
    run.stop("it ran longer than 1 s", JobTimedOut)
    thread.join(DEADLINE)
    (outcome,) = outcomes
    assert outcome.state == "timed_out"
    assert outcome.error.endswith("JobTimedOut: it ran longer than 1 s\n")
    assert "in body" in outcome.error  # where it was when its time was over


@pytest.mark.parametrize("make", [looping, asleep])
def test_a_cancelled_body_says_why(make: Callable[[Any], Any], begun: threading.Event) -> None:
    run = Run(make(begun))
    thread, outcomes = run.in_thread()
    assert begun.wait(DEADLINE)
    run.stop("somebody cancelled it")
    thread.join(DEADLINE)
    assert outcomes == [Outcome("cancelled", error="somebody cancelled it")]
    assert run.log.drain_all().endswith("WARNING Cancelled: somebody cancelled it\n")


@pytest.mark.parametrize("make", [looping, asleep])
def test_a_body_that_linod_itself_stops_is_lost(
    make: Callable[[Any], Any], begun: threading.Event
) -> None:
    run = Run(make(begun))
    thread, outcomes = run.in_thread()
    assert begun.wait(DEADLINE)
    run.stop("linod stops", JobStopped)
    thread.join(DEADLINE)
    assert outcomes == [Outcome("lost", error="linod stops")]
    assert run.log.drain_all().endswith("WARNING Stopped: linod stops\n")


@pytest.mark.parametrize("again", [JobCancelled, JobCancelled("cleaned up")])
def test_who_catches_a_cancellation_hears_linod_s_own_and_may_raise_it_anew(again: Any) -> None:
    def body(ar: Any) -> None:
        try:
            ar.check_cancelled()
        except JobCancelled:
            raise again from None

    run = Run(body)
    run.cancellation.set("linod stops", JobStopped)
    assert run.call() == Outcome("lost", error="linod stops")


def test_a_body_that_is_asked_notices_by_itself() -> None:
    run = Run(lambda ar: ar.check_cancelled())
    run.cancellation.set("enough")
    assert run.call() == Outcome("cancelled", error="enough")


@pytest.mark.parametrize("make", [looping, asleep])
def test_interrupted_before_it_began_it_never_begins(
    make: Callable[[Any], Any], begun: threading.Event
) -> None:
    run = Run(make(begun))
    run.stop("too late")
    assert run.call().state == "cancelled"
    assert not begun.is_set()


def test_interrupted_after_its_end_nothing_is_struck() -> None:
    run = Run(lambda: "done")
    assert run.call().result == "done"
    run.stop("too late")
    assert sum(range(10_000)) == 49995000  # the bytecode in which it would strike


def test_a_body_that_cleans_up_is_not_interrupted_twice(begun: threading.Event) -> None:
    cleaning, go_on, cleaned = threading.Event(), threading.Event(), threading.Event()

    def body(ar: Any) -> None:
        try:
            looping(begun)(ar)
        finally:
            cleaning.set()
            while not go_on.wait(0.01):
                pass
            cleaned.set()

    run = Run(body)
    thread, outcomes = run.in_thread()
    assert begun.wait(DEADLINE)
    run.stop("once")
    assert cleaning.wait(DEADLINE)
    run.stop("twice")
    go_on.set()
    thread.join(DEADLINE)
    assert cleaned.is_set()
    assert outcomes == [Outcome("cancelled", error="once")]


@pytest.mark.parametrize("is_async", [False, True])
def test_a_body_that_goes_on_and_ends_well_has_succeeded(
    begun: threading.Event, is_async: bool
) -> None:
    def stubborn(ar: Any) -> str:
        try:
            looping(begun)(ar)
        except JobCancelled:
            return "finished all the same"
        return "never interrupted"

    async def astubborn(ar: Any) -> str:
        try:
            await asleep(begun)(ar)
        except asyncio.CancelledError:
            return "finished all the same"
        return "never interrupted"

    run = Run(astubborn if is_async else stubborn)
    thread, outcomes = run.in_thread()
    assert begun.wait(DEADLINE)
    run.stop("please")
    thread.join(DEADLINE)
    assert outcomes == [Outcome("succeeded", result="finished all the same")]


async def test_an_interrupted_async_body_leaves_its_caller_whole(begun: threading.Event) -> None:
    run = Run(asleep(begun))

    async def caller() -> Outcome:
        outcome = await run.body.acall()
        await asyncio.sleep(0)  # a cancellation that is left over would strike here
        return outcome

    task = asyncio.create_task(caller())
    assert await asyncio.to_thread(begun.wait, DEADLINE)
    run.stop("enough")
    assert (await task).state == "cancelled"
    assert task.cancelling() == 0


async def test_an_interruption_that_comes_with_the_end_leaves_the_caller_whole() -> None:
    run: Run

    async def body(ar: Any) -> str:
        run.stop("just now")
        return "done"

    run = Run(body)
    assert (await run.body.acall()).result == "done"
    await asyncio.sleep(0)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


def test_late_interruptions_never_strike_the_thread_s_next_body() -> None:
    """Bodies that end at once and are interrupted at that very moment, in one worker's thread."""
    states, struck = [], []

    def worker() -> None:
        for _ in range(300):
            run = Run(lambda: sum(range(50)))
            other = threading.Thread(target=run.stop, args=("late",))
            other.start()
            try:
                states.append(run.call().state)
                other.join()
            except Interruption as error:
                struck.append(error)

    thread = threading.Thread(target=worker)
    thread.start()
    thread.join(DEADLINE)
    assert not struck
    assert len(states) == 300
    assert set(states) <= {"succeeded", "cancelled"}


@pytest.fixture(autouse=True)
def _nothing_is_left_unawaited() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
