"""Daemons as a site starts them: ``python -m django linod`` in processes of their own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults import journal
from tests.faults.servers import dies_with_parent
from tests.faults.site import traps

ROOT = Path(__file__).parents[2]
#: Seconds that a daemon gets to come up on a machine that is busy.
PATIENCE = 60.0
#: What a daemon says when an outcome of its own was refused.
REFUSED = "was taken over; its outcome was dropped"


def wait_until(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    """The condition's value once it is true; TimeoutError says ``what`` did not come."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.01)
    return value


@dataclass
class Process:
    """One daemon."""

    name: str
    popen: subprocess.Popen[bytes]
    log: Path
    started_at: float
    is_frozen: bool = False
    ended_at: float | None = None

    @property
    def pid(self) -> int:
        return self.popen.pid

    @property
    def is_alive(self) -> bool:
        return self.popen.poll() is None

    def said(self, text: str) -> int:
        """How often its log says this."""
        return self.log.read_text(errors="replace").count(text)

    @property
    def is_up(self) -> bool:
        """Whether it has begun to work."""
        return self.is_alive and self.said("Start linod") > 0

    def last_words(self) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-2000:]

    def signal(self, number: int) -> float:
        """Send a signal; returns the moment (monotonic)."""
        now = time.monotonic()
        self.popen.send_signal(number)
        return now

    def kill(self) -> float:
        """kill -9, and wait for its end."""
        now = self.signal(signal.SIGKILL)
        self.popen.wait()
        self.ended_at = now
        return now

    def freeze(self) -> float:
        """SIGSTOP: it holds what it holds, and does nothing."""
        self.is_frozen = True
        return self.signal(signal.SIGSTOP)

    def thaw(self) -> float:
        """SIGCONT."""
        self.is_frozen = False
        return self.signal(signal.SIGCONT)


@dataclass
class Fleet:
    """The daemons of one experiment, those that have ended too."""

    folder: Path
    environment: Mapping[str, str]
    journal: Path
    options: Mapping[str, Any] = field(default_factory=dict)
    all: list[Process] = field(default_factory=list)

    @property
    def alive(self) -> list[Process]:
        return [process for process in self.all if process.is_alive]

    @property
    def fallen(self) -> list[Process]:
        """Those that ended by themselves, and not well."""
        return [p for p in self.all if not p.is_alive and p.popen.returncode > 0]

    @property
    def ready(self) -> list[Process]:
        """Those that work and are not frozen."""
        return [p for p in self.alive if not p.is_frozen and p.is_up]

    def start(
        self, *, prefix: tuple[str, ...] = (), options: Mapping[str, Any] | None = None, **env: str
    ) -> Process:
        """Start one more; it is not up yet.

        :param prefix: a command that runs it, such as ``faketime``.
        :param options: what it has in ``LINOD`` beside the fleet's.
        """
        name = f"d{len(self.all)}"
        command, folder, environment = self.command(name, options)
        log = self.folder / f"{name}.log"
        with log.open("wb") as output:
            popen = subprocess.Popen(
                [*prefix, *command],
                cwd=folder,
                env=environment | env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                preexec_fn=dies_with_parent(),  # noqa: PLW1509 - one call of prctl
            )
        process = Process(name, popen, log, time.monotonic())
        self.all.append(process)
        return process

    def command(
        self, name: str, options: Mapping[str, Any] | None = None
    ) -> tuple[list[str], Path, dict[str, str]]:
        """What runs a daemon of this fleet, where, and in which environment."""
        self.traps.mkdir(exist_ok=True)
        env = {
            **os.environ, **self.environment,
            "PYTHONPATH": str(ROOT),
            "DJANGO_SETTINGS_MODULE": "tests.faults.site.settings",
            "LINOD_FAULTS_LINOD": json.dumps({**self.options, **(options or {})}),
            journal.VARIABLE: str(self.journal),
            traps.VARIABLE: str(self.traps), traps.NAME: name,
        }  # fmt: skip
        return [sys.executable, "-m", "django", "linod"], ROOT, env

    @property
    def traps(self) -> Path:
        """The folder of the traps."""
        return self.folder / "traps"

    def set_trap(self, point: str, action: str) -> None:
        """Let whoever gets to a point next freeze (stop), kill or leave itself."""
        self._trap(point, ".sprung").unlink(missing_ok=True)
        self._trap(point, ".new").write_text(action)
        self._trap(point, ".new").rename(self._trap(point))

    def take_trap(self, point: str) -> bool:
        """Take the trap away; False when it has sprung meanwhile."""
        try:
            self._trap(point).unlink()
        except FileNotFoundError:
            return False
        return True

    def sprung(self, point: str) -> tuple[Process, float] | None:
        """Who got into the trap and when (monotonic); None: nobody has yet."""
        try:
            name, at = self._trap(point, ".sprung").read_text().split()
        except FileNotFoundError:
            return None
        return next(process for process in self.all if process.name == name), float(at)

    def _trap(self, point: str, suffix: str = "") -> Path:
        return self.traps / f"{point}{suffix}"

    def start_all(self, count: int, **options: Any) -> list[Process]:
        """Start so many and wait until they work."""
        started = [self.start(**options) for _ in range(count)]
        for process in started:
            self.wait_for(process)
        return started

    def wait_for(self, process: Process) -> None:
        """Wait until it works."""
        wait_until(
            lambda: process.is_up or not process.is_alive, PATIENCE, f"{process.name} comes up"
        )
        if not process.is_alive:
            raise RuntimeError(f"{process.name} ended as it came up: {process.last_words()}")

    def stop_all(self, seconds: float = 30.0) -> list[int]:
        """SIGTERM to those that live; returns their exit codes. One that hangs is killed: -9."""
        last = self.alive
        for process in last:
            process.thaw()
            process.signal(signal.SIGTERM)
        deadline = time.monotonic() + seconds
        for process in last:
            try:
                process.popen.wait(max(deadline - time.monotonic(), 0.1))
            except subprocess.TimeoutExpired:
                # Its log tells where each thread stands.
                process.signal(signal.SIGUSR1)
                time.sleep(0.5)
                process.kill()
        return [process.popen.returncode for process in last]

    def said(self, text: str) -> int:
        """How often the logs of all daemons say this."""
        return sum(process.said(text) for process in self.all)

    @contextlib.contextmanager
    def running(self, count: int, **options: Any) -> Iterator[list[Process]]:
        """So many daemons while the block runs; whatever lives at its end is stopped."""
        try:
            yield self.start_all(count, **options)
        finally:
            self.stop_all()
