"""What goes on beside the loop, and when."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from linod import memory, upkeep
from linod.offset import Offset
from linod.records import Terms
from linod.upkeep import Upkeep


class Counted(Upkeep):
    """Counts its seconds; its jobs need nothing."""

    seconds = 0

    def _give_back(self) -> None:
        self.seconds += 1
        super()._give_back()

    async def _tend(self) -> None:
        pass


class Slots:
    """What is asked of an executor."""

    def __init__(self) -> None:
        self.running: dict[str, str] = {}


async def pass_by() -> None:
    """A hundred rounds of the loop; a second takes one of them here."""
    for _ in range(100):
        await asyncio.sleep(0)


def test_where_nothing_runs_no_second_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "UPKEEP", 0)
    given_back: list[int] = []
    monkeypatch.setattr(memory, "give_back", lambda: given_back.append(1))

    async def live() -> None:
        slots: Any = Slots()
        terms = Terms("default", uuid4(), lease=3600)
        offset = Offset(datetime(2026, 1, 1, tzinfo=UTC))
        kept = Counted(terms, None, offset, slots, lambda jobs: None, lambda: False)  # type: ignore[arg-type]
        life = asyncio.create_task(kept.run())

        async def seconds() -> int:
            before = kept.seconds
            await pass_by()
            return kept.seconds - before

        assert await seconds() > 10, "others may have been active before"
        kept.note_others(False)
        await pass_by()
        assert await seconds() == 0
        slots.running["job"] = "it runs"
        kept.look_now()
        assert await seconds() > 10, "a body runs here"
        slots.running.clear()
        await pass_by()
        assert await seconds() == 0
        kept.note_others(True)
        assert await seconds() > 10, "a body runs elsewhere"
        kept.note_others(False)
        await pass_by()
        # A long log is recorded when its body runs no more.
        kept.note_stored(["x" * (upkeep.MUCH + 1)])
        assert await seconds() == 1
        assert given_back == [1]
        life.cancel()

    asyncio.run(live())
