"""P11: what was acknowledged is in the file once, whole, in its sender's order."""

from __future__ import annotations

import os
import random
import threading
import time
from pathlib import Path
from typing import Any

from tests.faults.logserver import checker
from tests.faults.logserver.world import Sender, Server, is_answered, results, wait, wait_for


class Files:
    """The log file, and what was made of its predecessors, in their order."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "lino.log"
        self.kept = folder.with_name("deleted")
        self.kept.mkdir()
        self.former: list[Path] = []
        self.deletions: list[float] = []
        self._lock = threading.Lock()

    def rotate(self) -> None:
        """As logrotate does: a new name, and nobody is told."""
        with self._lock:
            new = self.path.with_name(f"lino.log-{len(self.former):04}")
            try:
                self.path.rename(new)
            except FileNotFoundError:
                return
            self.former.append(new)

    def delete(self, server: Server) -> None:
        """Delete the file (the checker keeps it); note when a new record is in a new one."""
        with self._lock:
            wait_for(self.path.exists, "there is a file to delete")
            kept = self.kept / f"{len(self.former):04}"
            os.link(self.path, kept)
            self.path.unlink()
            self.former.append(kept)
            begin = time.monotonic()
            wait_for(lambda: is_answered(server.folder), "a record is written after the deletion")
            assert self.path.exists()
            self.deletions.append(time.monotonic() - begin)


def run(
    folder: Path, *, seconds: float, senders: int, rate: float, kills: int, freezes: int,
    deletions: int, rotate_every: float, seed: int,
) -> dict[str, Any]:  # fmt: skip
    """Do all that; returns the figures."""
    folder = folder / "log"
    folder.mkdir()
    chance = random.Random(seed)
    files, server, done = Files(folder), Server(folder), threading.Event()
    server.start()
    server.wait_until_it_acknowledges()

    def rotate() -> None:
        while not done.wait(rotate_every):
            files.rotate()

    rotating = threading.Thread(target=rotate)
    rotating.start()
    begin = time.monotonic()
    names = [f"sender{number}" for number in range(senders)]
    fleet = [Sender(folder, name, rate=rate, seconds=seconds) for name in names]
    try:
        faults = ["kill"] * kills + ["freeze"] * freezes + ["delete"] * deletions
        chance.shuffle(faults)
        for number, fault in enumerate(faults):
            due = begin + seconds * (number + chance.random()) / len(faults)
            wait(max(0.0, due - time.monotonic()))
            match fault:
                case "kill":
                    server.restart()
                case "freeze":
                    server.freeze(chance.uniform(0.05, 0.5))
                case "delete":
                    files.delete(server)
        faults_took = time.monotonic() - begin
        said = results(fleet, seconds + 120)
    finally:
        done.set()
        rotating.join()
        for sender in fleet:
            sender.process.kill()
        server.stop()
    found = checker.read([*files.former, files.path])
    return {
        "seed": seed,
        "seconds": seconds,
        "faults in seconds": round(faults_took, 1),
        "kills": len(server.restarts),
        "freezes": freezes,
        "deletions": len(files.deletions),
        "files": len(files.former) + 1,
        "records": sum(each["count"] for each in said),
        "records/s": round(sum(each["count"] for each in said) / seconds),
        "lost": sum(found.lost(each["name"], each["count"]) for each in said),
        "dropped, and counted": sum(found.dropped.values()),
        "not acknowledged": sum(each["left"] for each in said),
        "doubled": found.doubled,
        "torn": len(found.torn),
        "torn, examples": found.torn[:3],
        "reordered": found.reordered,
        "restart until acknowledging, max s": round(max(server.restarts, default=0), 2),
        "deletion until in the new file, max s": round(max(files.deletions, default=0), 2),
        "emit p99.9 ms": round(max(each["emit_p999_ms"] for each in said), 2),
        "emit max ms": round(max(each["emit_max_ms"] for each in said), 1),
        "control max ms": round(max(each["control_max_ms"] for each in said), 1),
    }


def misses(figures: dict[str, Any]) -> list[str]:
    """The promises that these figures break."""
    wrong = [
        name
        for name in ("lost", "doubled", "torn", "reordered", "not acknowledged",
                     "dropped, and counted")
        if figures[name]
    ]  # fmt: skip
    timed = ("restart until acknowledging, max s", "deletion until in the new file, max s")
    return wrong + [name for name in timed if figures[name] > 1.0]
