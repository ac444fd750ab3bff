"""The measured process: ``manage.py linod`` as a user starts it, and what the kernel says of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from django.db import connection

from benchmarks import apps, notes, settings
from linod.models import Daemon

ROOT = Path(__file__).parents[1]
#: Seconds that a process gets to come up, and to end.
PATIENCE = 60.0
#: Characters of its log that are shown when it fails.
LAST_WORDS = 4000


def wait_until(condition: Callable[[], object], seconds: float, what: str) -> None:
    """Look every few milliseconds; TimeoutError says ``what`` did not come."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.005)


def environment(**changes: str) -> dict[str, str]:
    """The environment of a process that opens the database of this one."""
    return os.environ | {"LINOD_BENCH_DB_NAME": str(connection.settings_dict["NAME"])} | changes


@dataclass
class Process:
    """A process that is measured from outside."""

    popen: subprocess.Popen[bytes]

    @property
    def cpu_seconds(self) -> float:
        """CPU time of all its threads."""
        threads = Path(f"/proc/{self.popen.pid}/task").glob("*/schedstat")
        return sum(int(path.read_text().split()[0]) for path in threads) / 1e9

    @property
    def megabytes(self) -> float:
        """Its proportional share of memory (PSS): a page that n processes share counts 1/n."""
        text = Path(f"/proc/{self.popen.pid}/smaps_rollup").read_text(encoding="ascii")
        line = next(line for line in text.splitlines() if line.startswith("Pss:"))
        return int(line.split()[1]) / 1024


@dataclass
class Running(Process):
    """A daemon at work, and what it notes."""

    notes: notes.Reader
    counter: Path

    @property
    def statements(self) -> int:
        """SQL statements so far; transactions' own BEGIN and COMMIT are not among them."""
        return int.from_bytes(self.counter.read_bytes(), "little")


@contextmanager
def daemon(profile: Path | None = None, *, count: bool = False) -> Iterator[Running]:
    """Run a daemon; it must end by itself and well when told to stop.

    :param profile: where its profile goes; None: it is not profiled.
    :param count: whether its SQL statements are counted.
    """
    folder = settings.FOLDER
    written, counter, said = folder / "notes", folder / "counter", folder / "daemon.log"
    counter.write_bytes(bytes(8))
    reader = notes.Reader(written)
    env = environment(**{notes.VARIABLE: str(written)})
    if count:
        env[apps.COUNTER] = str(counter)
    command = ["-m", "django", "linod"]
    if profile is not None:
        command = ["-m", "benchmarks.profiled", str(profile)]
    with said.open("wb") as output:
        popen = subprocess.Popen(
            [sys.executable, *command], cwd=ROOT, env=env, stdout=output, stderr=output
        )
    try:
        wait_until(lambda: _is_up(popen), PATIENCE, "the daemon's start")
        yield Running(popen, reader, counter)
        popen.send_signal(signal.SIGTERM)
        popen.wait(PATIENCE)
    finally:
        reader.close()
        if popen.poll() is None:
            popen.kill()
            popen.wait()
        if popen.returncode != 0:
            sys.stderr.write(said.read_text(errors="replace")[-LAST_WORDS:])
    if popen.returncode != 0:
        raise RuntimeError(f"the daemon ended with code {popen.returncode}")


def _is_up(popen: subprocess.Popen[bytes]) -> bool:
    if popen.poll() is not None:
        raise RuntimeError(f"the daemon ended with code {popen.returncode} as it came up")
    return Daemon.objects.filter(pid=popen.pid, state=Daemon.State.RUNNING).exists()


BARE = """
import time, django
django.setup()
from django.db import connection
connection.cursor().execute("SELECT 1")
print("up", flush=True)
time.sleep(600)
"""


@contextmanager
def bare_django(*, with_linod: bool) -> Iterator[Process]:
    """A process with the same settings that has made one query and does nothing."""
    env = environment(LINOD_BENCH_BARE="" if with_linod else "1")
    popen = subprocess.Popen(
        [sys.executable, "-c", BARE], cwd=ROOT, env=env, stdout=subprocess.PIPE
    )
    try:
        assert popen.stdout is not None
        if popen.stdout.readline() != b"up\n":
            raise RuntimeError("the bare Django process did not come up")
        yield Process(popen)
    finally:
        popen.kill()
        popen.communicate()
