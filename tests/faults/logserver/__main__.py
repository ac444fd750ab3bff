"""``python -m tests.faults.logserver [P11|P12] [--minutes-away 10] [--seed N]``: the full size."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.faults.logserver import p11, p12


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(prog="python -m tests.faults.logserver", description=__doc__)
    add = found.add_argument
    add("promise", nargs="*", default=["P11", "P12"], help="P11, P12 or both")
    add("--seed", type=int, default=1)
    add("--minutes-away", type=float, default=10.0, help="how long the server is away")
    add("--only", help="of P12: away, disk, fuzz, slow or flood")
    return found


def full_p12(folder: Path, minutes: float, only: str | None) -> Iterator[dict[str, Any]]:
    if only in (None, "fuzz"):
        attack = p12.attacked_by("fuzz", 1_000_000)
        yield p12.beside("1,000,000 fuzzed frames", folder / "fuzz", attack, rate=100, seconds=20)
    if only in (None, "slow"):
        attack = p12.attacked_by("slow", 300)
        yield p12.beside("300 slow connections", folder / "slow", attack, rate=100, seconds=6)
    if only in (None, "flood"):
        attack = p12.attacked_by("flood", 20)
        yield p12.beside("one sender floods", folder / "flood", attack, rate=100, seconds=15)
    if only in (None, "disk"):
        yield p12.disk_full(folder / "disk", seconds=60, rate=500)
    if only in (None, "away"):
        yield p12.away(folder / "away", seconds=minutes * 60, rate=500)


def main() -> int:
    options = parser().parse_args()
    folder = Path(tempfile.mkdtemp(prefix="linod-faults-"))
    wrong: list[str] = []
    try:
        if "P11" in options.promise:
            found = p11.run(
                folder, seconds=60, senders=8, rate=2000, kills=100, freezes=20, deletions=3,
                rotate_every=5, seed=options.seed,
            )  # fmt: skip
            wrong += tell("P11", found, p11.misses(found))
        if "P12" in options.promise:
            for found in full_p12(folder, options.minutes_away, options.only):
                wrong += tell("P12", found, p12.misses(found))
    finally:
        shutil.rmtree(folder)
    return 1 if wrong else 0


def tell(promise: str, found: dict[str, Any], wrong: list[str]) -> list[str]:
    lines = [f"{promise}:", *(f"  {name}: {value}" for name, value in found.items())]
    verdict = f"MISSED: {', '.join(wrong)}" if wrong else "kept"
    sys.stdout.write("\n".join([*lines, f"  {verdict}\n"]))
    sys.stdout.flush()
    return wrong


if __name__ == "__main__":
    sys.exit(main())
