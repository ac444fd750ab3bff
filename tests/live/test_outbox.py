"""The outbox and what sends it: the last state of each thing, bounded, with numbers that tell."""

from __future__ import annotations

import asyncio
import logging
import uuid
from datetime import UTC, datetime
from typing import Any

import pytest

from linod import events, layers, outbox
from linod.broadcast import Broadcaster
from linod.layers import Trouble
from linod.outbox import Outbox
from linod.procedures import Procedure
from linod.records import Claimed, Finished
from linod.signals import jobs_finished, jobs_said, jobs_started
from tests.waiting import DEADLINE

NOW = datetime(2026, 11, 22, 16, 1, 4, 5, tzinfo=UTC)


def claimed(number: int = 1) -> Claimed:
    def work(ar: Any) -> None:
        """Nothing."""

    procedure = Procedure(work, name="work")
    return Claimed(
        uuid.UUID(int=number), uuid.uuid4(), 2, "running", number, procedure, {}, NOW, "schedule",
        1, "INFO", start_time=NOW,
    )  # fmt: skip


def finished(number: int = 1, **values: Any) -> Finished:
    return Finished(claimed(number), "failed", NOW, NOW, **values)


@pytest.fixture
def box() -> Any:
    looked: list[int] = []
    box = Outbox("web1", lambda: None)
    box.connect(looked.extend)
    yield box, looked
    box.disconnect()


def test_the_last_state_of_a_job_is_enough(box: Any) -> None:
    here, looked = box
    jobs_started.send(None, jobs=[claimed(1), claimed(2)])
    jobs_said.send(None, pieces=[(claimed(1), 0, "one\ntwo\n", {"done": 1})])
    jobs_finished.send(None, outcomes=[finished(1, error="Traceback\nValueError: x\n")])
    parcel = here.take()
    second, first = parcel.events  # in the order of their last change
    assert second["job"]["state"] == "running"
    assert first["job"] == events.claimed_data(claimed(1), "web1") | {
        "state": "failed",
        "end_time": "2026-11-22T16:01:04.000005+00:00",
        "error": "ValueError: x",
    }
    (log,) = parcel.logs
    assert (log["n"], log["lines"], log["cut"]) == (200_000, ["one", "two"], False)
    assert looked == [1, 2, 1]
    assert here.take() == outbox.Parcel()


def test_progress_is_told_until_the_end(box: Any) -> None:
    here, _looked = box
    jobs_said.send(None, pieces=[(claimed(), 0, "", {"done": 1})])
    jobs_said.send(None, pieces=[(claimed(), 1, "", {"done": 2})])
    (event,) = here.take().events
    assert event == {"type": "progress", "job": str(claimed().id), "progress": {"done": 2}}


def test_the_oldest_is_dropped_and_counted(box: Any) -> None:
    here, _looked = box
    for number in range(outbox.EVENTS + 7):
        jobs_started.send(None, jobs=[claimed(number)])
    parcel = here.take()
    assert len(parcel.events) == outbox.EVENTS
    assert parcel.events[0]["job"]["task"] == 7
    assert parcel.events_dropped
    assert not parcel.logs_dropped
    assert here.dropped == 7
    assert not here.take().events_dropped


def test_logs_are_bounded_by_their_size(box: Any) -> None:
    here, _looked = box
    long = "".join(f"line {n}\n" for n in range(20_000))
    for n in range(20):
        jobs_said.send(None, pieces=[(claimed(), n, long, None)])
    parcel = here.take()
    assert parcel.logs_dropped
    assert not parcel.events
    assert len(parcel.logs) == outbox.LOGS // events.PIECE
    assert all(log["cut"] and log["lines"][-1] == "line 19999" for log in parcel.logs)


class Layer:
    """A channel layer that remembers, or fails as it is told."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, dict[str, Any]]] = []
        self.error: Exception | None = None
        self.is_frozen = False

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        if self.is_frozen:
            await asyncio.Event().wait()
        if self.error is not None:
            raise self.error
        self.sent.append((group, message))


def broadcaster(layer: Any) -> Broadcaster:
    return Broadcaster(layer, "here", uuid.UUID(int=5), lambda lag: {"lag": lag})


async def test_what_is_sent_and_how_it_is_numbered(box: Any) -> None:
    here, _looked = box
    layer = Layer()
    sender = broadcaster(layer)
    jobs_finished.send(None, outcomes=[finished(log="said\n")])
    await sender.tell(here)
    (to_all, first), (to_readers, log) = layer.sent
    assert (to_all, to_readers) == ("broadcast_here", "logs_here")
    assert [event["type"] for event in first["events"]] == ["job", "daemon"]
    assert (first["type"], first["owner"], first["n"]) == ("live.events", f"{5:032x}", 1)
    assert "said" not in str(first)
    assert (log["type"], log["n"], log["events"][0]["lines"]) == ("live.logs", 1, ["said"])
    here.drop_all()
    await sender.tell(here)
    assert [message["n"] for _group, message in layer.sent[2:]] == [3, 3]


async def test_what_cannot_be_sent_leaves_a_gap(box: Any) -> None:
    here, _looked = box
    layer = Layer()
    sender = broadcaster(layer)
    layer.error = ConnectionError("gone")
    jobs_started.send(None, jobs=[claimed()])
    with pytest.raises(ConnectionError):
        await sender.tell(here)
    layer.error = None
    jobs_started.send(None, jobs=[claimed()])
    await sender.tell(here)
    assert [message["n"] for _group, message in layer.sent] == [2]


async def test_a_frozen_layer_holds_nothing_up(
    box: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "linod")
    monkeypatch.setattr(layers, "PATIENCE", 0.01)
    here, _looked = box
    layer = Layer()
    layer.is_frozen = True
    sender = broadcaster(layer)
    sender.trouble = Trouble("Live page")
    for _ in range(3):
        async with sender.trouble.bounded(0.01):
            await sender.tell(here)
    assert not sender.trouble.is_over
    layer.is_frozen = False
    async with sender.trouble.bounded(1):
        await sender.tell(here)
    assert sender.trouble.is_over
    said = [record.getMessage() for record in caplog.records]
    assert said == [
        "Live page: the channel layer does not answer: TimeoutError",
        "Live page: the channel layer answers again",
    ]


async def test_hearing_goes_on_whatever_comes(caplog: pytest.LogCaptureFixture) -> None:
    heard = []

    class Ear:
        answers: Any = iter([ConnectionError("gone"), {"n": 1}, {"n": 2}, {"n": 3}])

        async def receive(self, channel: str) -> Any:
            answer = next(self.answers, None)
            if answer is None:
                await asyncio.Event().wait()
            if isinstance(answer, Exception):
                raise answer
            return answer

    done = asyncio.Event()

    async def take(message: dict[str, Any]) -> None:
        heard.append(message["n"])
        if message["n"] == 2:
            raise ValueError("not this one")
        if message["n"] == 3:
            done.set()

    ear: Any = Ear()
    task = asyncio.create_task(layers.hear(ear, "c", take, "Test"))
    await asyncio.wait_for(done.wait(), DEADLINE)
    task.cancel()
    assert heard == [1, 2, 3]
    assert "not this one" in caplog.text
