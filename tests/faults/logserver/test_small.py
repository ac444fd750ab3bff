"""P11 and P12 at a size that a run of all tests bears."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.logserver import p11, p12


def test_p11_what_is_acknowledged_is_in_the_file_once(tmp_path: Path) -> None:
    found = p11.run(
        tmp_path, seconds=6, senders=3, rate=500, kills=4, freezes=2, deletions=1,
        rotate_every=1, seed=1,
    )  # fmt: skip
    counts = ("lost", "doubled", "torn", "reordered", "not acknowledged", "dropped, and counted")
    assert {name: found[name] for name in counts} == dict.fromkeys(counts, 0), found
    assert found["kills"] == 4
    assert found["files"] > 3


def harmless(found: dict[str, object]) -> None:
    counts = ("lost", "doubled", "torn", "reordered")
    assert {name: found[name] for name in counts} == dict.fromkeys(counts, 0), found
    assert found["buffered, max MiB"] <= 8, found  # type: ignore[operator]
    assert found["server, max MB"] < 150, found  # type: ignore[operator]


@pytest.mark.parametrize("fault", [p12.away, p12.file_full])
def test_p12_what_is_dropped_is_counted(tmp_path: Path, fault: object) -> None:
    found = fault(tmp_path / "log", seconds=4, rate=3000, senders=1)  # type: ignore[operator]
    harmless(found)
    assert found["dropped, and counted"] > 0


@pytest.mark.parametrize(
    ("name", "size", "seconds"), [("fuzz", 20_000, 3), ("slow", 300, 3), ("flood", 3, 3)]
)
def test_p12_an_attack_is_no_trouble_for_others(
    tmp_path: Path, name: str, size: int, seconds: int
) -> None:
    attack = p12.attacked_by(name, size)
    harmless(p12.beside(name, tmp_path / "log", attack, rate=50, seconds=seconds))
