"""P12: the log path never stops the site."""

from __future__ import annotations

import contextlib
import resource
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.faults.logserver import checker
from tests.faults.logserver.world import Sender, Server, is_answered, results, wait, wait_for

MOUNT_MB = 96


@contextmanager
def served(folder: Path) -> Iterator[Server]:
    folder.mkdir(parents=True, exist_ok=True)
    server = Server(folder)
    server.start()
    server.wait_until_it_acknowledges()
    try:
        yield server
    finally:
        server.stop()


def away(folder: Path, *, seconds: float, rate: float, senders: int = 2) -> dict[str, Any]:
    """No server for so long."""
    with served(folder) as server:
        fleet = start(folder, senders, rate, seconds + 4)
        wait(2)
        server.kill()
        wait(seconds)
        server.start()
        said = results(fleet, seconds + 120)
        return figures("server away", folder, said, server)


def disk_full(folder: Path, *, seconds: float, rate: float, senders: int = 2) -> dict[str, Any]:
    """A disk (a small tmpfs) without room for so long; needs root."""
    folder.mkdir(parents=True)
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={MOUNT_MB}m", "linod-test", str(folder)], check=True
    )
    try:
        with served(folder) as server:
            fleet = start(folder, senders, rate, seconds + 4)
            wait(2)
            filler = folder / "filler"
            with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
                while True:
                    file.write(b"x" * 4096)
            wait(seconds)
            filler.unlink()
            said = results(fleet, seconds + 120)
            return figures("disk full", folder, said, server)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def file_full(folder: Path, *, seconds: float, rate: float, senders: int = 2) -> dict[str, Any]:
    """The same without root: the kernel refuses the server a file beyond a size."""
    with served(folder) as server:
        fleet = start(folder, senders, rate, seconds + 3)
        wait(1)
        assert server.process is not None
        size = (folder / "lino.log").stat().st_size + 777
        hard = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)[1]
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (size, hard))
        wait(seconds)
        assert (folder / "lino.log").stat().st_size <= size
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (hard, hard))
        return figures("disk full", folder, results(fleet, seconds + 120), server)


def start(folder: Path, senders: int, rate: float, seconds: float) -> list[Sender]:
    return [
        Sender(folder, f"sender{number}", rate=rate, seconds=seconds, flush=60, own=True)
        for number in range(senders)
    ]


def figures(fault: str, folder: Path, said: list[dict[str, Any]], server: Server) -> dict[str, Any]:
    found = checker.read([folder / "lino.log"])
    return {
        "fault": fault,
        "records": sum(each["count"] for each in said),
        "dropped, and counted": sum(found.dropped.values()),
        "lost": sum(abs(found.lost(each["name"], each["count"])) for each in said),
        "doubled": found.doubled,
        "torn": len(found.torn),
        "torn, examples": found.torn[:3],
        "reordered": found.reordered,
        "emit max ms": round(max(each["emit_max_ms"] for each in said), 1),
        "emit on its own, max ms": round(max(each["emit_own_max_ms"] for each in said), 1),
        "control max ms": round(max(each["control_max_ms"] for each in said), 1),
        "buffered, max MiB": round(max(each["buffer_mb"] for each in said), 2),
        "server, max MB": round(server.megabytes(), 1),
    }


def beside(
    fault: str, folder: Path, attack: Callable[[Path], dict[str, Any]], *, rate: float,
    seconds: float,
) -> dict[str, Any]:  # fmt: skip
    """What an honest sender meets while somebody attacks, and what it met before."""
    with served(folder) as server:
        options = {"rate": rate, "seconds": seconds, "latency": True, "own": True}
        before = Sender(folder, "before", **options).result()
        done: dict[str, Any] = {}
        attacking = threading.Thread(target=lambda: done.update(attack(folder)))
        attacking.start()
        wait(0.5)
        during = Sender(folder, "during", **options).result()
        attacking.join()
        wait_for(lambda: is_answered(folder), "the server answers after the attack")
        found = figures(fault, folder, [before, during], server)
        for name in ("latency_p50_ms", "latency_p99_ms"):
            found[name.replace("_", " ")] = [round(each[name], 2) for each in (before, during)]
        return found | done


def attacked_by(script: str, *arguments: object) -> Callable[[Path], dict[str, Any]]:
    """An attack in a process of its own."""

    def attack(folder: Path) -> dict[str, Any]:
        words = [sys.executable, "-m", "tests.faults.logserver.attacks", script, str(folder)]
        done = subprocess.run(
            [*words, *map(str, arguments)], capture_output=True, text=True, check=True
        )
        return {"attack": done.stdout.strip()}

    return attack


def misses(found: dict[str, Any]) -> list[str]:
    """The promises that these figures break."""
    wrong = [name for name in ("lost", "doubled", "torn", "reordered") if found[name]]
    if found["emit max ms"] - found["control max ms"] > 50:
        wrong.append("emit max ms")
    for name in ("latency p50 ms", "latency p99 ms"):
        before, during = found.get(name, (1.0, 1.0))
        if during >= 2 * before:
            wrong.append(name)
    if found["buffered, max MiB"] > 8:
        wrong.append("buffered, max MiB")
    if found["server, max MB"] > 150:
        wrong.append("server, max MB")
    return wrong
