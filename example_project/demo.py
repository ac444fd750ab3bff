#!/usr/bin/env python
"""Start one of the example's sites and its daemon together: ``make demo``.

It migrates the database, loads the demo data, starts the web server and ``manage.py linod``, shows
what they say, and ends both on Ctrl-C. Where there is an inbox it also plays the outside world:
every few seconds somebody writes a mail.

Exit codes: 0 ended on request, 1 something failed, 2 a wrong option.
"""

from __future__ import annotations

import argparse
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from itertools import count
from pathlib import Path
from types import MappingProxyType
from typing import Any

from common.demo_data import PASSWORD, USERNAME
from common.settings import MAILDIR
from inbox.letters import letter
from inbox.maildir import Maildir

HERE = Path(__file__).resolve().parent
HOST = "127.0.0.1"
FIRST_PORT, LAST_PORT = 8000, 8099
SITES = ("tour", "team", "noi")
WITH_INBOX = ("tour", "team")
#: Seconds between two runs of the tasks that recur in seconds, and between two mails.
TASK_INTERVAL, MAIL_INTERVAL = 3, 7
#: Seconds that both get to come up, and that both get to end: the daemon waits up to 25 s for its
#: running jobs.
START_LIMIT, STOP_LIMIT = 60, 35
STOP_SIGNALS = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP})


class Failure(Exception):
    """What went wrong, for people."""


class StopRequest(Exception):
    """Somebody wants the demo to end."""


class Signals:
    """Signals as something to wait for: none is lost, none strikes in the middle of anything."""

    def __init__(self) -> None:
        self._inner, self._outer = socket.socketpair()
        self._inner.setblocking(False)
        self._outer.setblocking(False)
        signal.set_wakeup_fd(self._outer.fileno())
        for number in (*STOP_SIGNALS, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)

    def wait(self, seconds: float) -> bool:
        """Wait for a signal, that long at most; whether one of them asks to stop."""
        select.select([self._inner], [], [], max(0.0, seconds))
        try:
            return not STOP_SIGNALS.isdisjoint(self._inner.recv(4096))
        except BlockingIOError:
            return False


class Readiness:
    """Where a process says that it serves, as sd_notify(3) has it: ``READY=1`` in a datagram."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="demo-")
        address = str(Path(self._folder.name) / "notify")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address)
        self._socket.setblocking(False)
        self.environment = {"NOTIFY_SOCKET": address}
        self.is_told = False

    def hear(self) -> None:
        """Take in what was said since the last call; unheard, it would hold the speaker up."""
        with suppress(BlockingIOError):
            while True:
                self.is_told |= b"READY=1" in self._socket.recv(4096).splitlines()

    def close(self) -> None:
        """Hear nothing more."""
        self._socket.close()
        self._folder.cleanup()


class Child:
    """A management command in a process of its own.

    It leads a process group, so that Ctrl-C in a terminal reaches only the demo, which then stops
    each child once: for the daemon, a second signal would mean "at once".
    """

    def __init__(
        self,
        what: str,
        site: str,
        *command: str,
        quiet: bool = False,
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.what = what
        self.process = subprocess.Popen(
            [sys.executable, "manage.py", *command],
            cwd=HERE,
            env=os.environ
            | {
                "DJANGO_RUNSERVER_HIDE_WARNING": "true",
                "DJANGO_SETTINGS_MODULE": f"{site}.settings",
                "PYTHONUNBUFFERED": "1",
                **environment,
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL if quiet else None,
            process_group=0,
        )

    @property
    def code(self) -> int | None:
        """Its exit code; None while it runs."""
        return self.process.poll()

    def terminate(self) -> None:
        """Ask it to end."""
        self.process.terminate()

    def kill(self) -> None:
        """End it, and whatever it started."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class Demo:
    """The site and its daemon, from beginning to end."""

    def __init__(self, site: str, port: int) -> None:
        self.site = site
        self.port = port
        self.signals = Signals()
        self.readiness = Readiness()
        self.children: list[Child] = []

    def run(self) -> int:
        """Run until somebody wants it to end or a child does; returns the exit code."""
        try:
            self._do("migrate", "--verbosity=0")
            self._do("load_demo", f"--lively={TASK_INTERVAL}")
            server = ("runserver", "--noreload", "--skip-checks", f"{HOST}:{self.port}")
            self._start("The web server", *server, quiet=True)
            self._start("The daemon", "linod", environment=self.readiness.environment)
            self._wait_until(lambda: answers(self.port), "The web server does not answer")
            self._wait_until(lambda: self.readiness.is_told, "The daemon is not at work")
            self._welcome()
            self._watch()
        except StopRequest:
            say("Stopping ...")
            return 0 if self._stop() else 1
        except Failure as failure:
            complain(str(failure))
        finally:
            self._stop()
            self.readiness.close()
        return 1

    def _start(self, what: str, *command: str, **options: Any) -> Child:
        child = Child(what, self.site, *command, **options)
        self.children.append(child)
        return child

    def _do(self, *command: str) -> None:
        """Run a command to its end."""
        child = self._start(f"manage.py {command[0]}", *command)
        while child.code is None:
            self._wait(START_LIMIT)
        self.children.remove(child)
        if child.code:
            raise Failure(f"{child.what} failed with exit code {child.code}")

    def _wait(self, seconds: float) -> None:
        if self.signals.wait(seconds):
            raise StopRequest

    def _check(self) -> None:
        self.readiness.hear()
        for child in self.children:
            if child.code is not None:
                raise Failure(f"{child.what} ended by itself with exit code {child.code}")

    def _wait_until(self, is_so: Callable[[], bool], complaint: str) -> None:
        deadline = time.monotonic() + START_LIMIT
        while not is_so():
            self._check()
            if time.monotonic() > deadline:
                raise Failure(f"{complaint} after {START_LIMIT} seconds")
            self._wait(0.2)
        self._check()

    def _welcome(self) -> None:
        say(
            f"\n    The site {self.site!r} runs at http://{HOST}:{self.port}/linod/\n"
            f"    Log in as {USERNAME} with the password {PASSWORD}.\n"
            f"    Below is what its daemon does. Ctrl-C ends both.\n"
        )

    def _watch(self) -> None:
        """Let them run; on the site that reads mail, somebody writes now and then."""
        outside = Maildir(MAILDIR) if self.site in WITH_INBOX else None
        for number in count(1):
            if outside is not None:
                name = f"{os.getpid()}.{number}"
                outside.deliver(letter(name, f"Are you there? ({number})"))
            next_mail = time.monotonic() + MAIL_INTERVAL
            while time.monotonic() < next_mail:
                self._check()
                self._wait(next_mail - time.monotonic())

    def _stop(self) -> bool:
        """End all children; False when one of them did not end as it should."""
        ending = [child for child in self.children if child.code is None]
        self.children = []
        for child in ending:
            child.terminate()
        deadline = time.monotonic() + STOP_LIMIT
        while any(child.code is None for child in ending) and time.monotonic() < deadline:
            if self.signals.wait(deadline - time.monotonic()):
                say("Stopping at once ...")
                for child in ending:
                    child.terminate()
        for child in ending:
            if child.code is None:
                complain(f"{child.what} did not end in {STOP_LIMIT} seconds and was killed")
                child.kill()
        # The web server of Django has nothing to finish: the signal itself ends it.
        bad = [child for child in ending if child.code not in (0, -signal.SIGTERM)]
        for child in bad:
            complain(f"{child.what} ended with exit code {child.code}")
        return not bad


def answers(port: int) -> bool:
    """Whether somebody listens there."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((HOST, port)) == 0


def is_free(port: int) -> bool:
    """Whether a server could listen there."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def choose_port(wanted: int | None) -> int:
    """The port that was asked for, or the first free one."""
    ports = range(FIRST_PORT, LAST_PORT + 1) if wanted is None else [wanted]
    free = next((port for port in ports if is_free(port)), None)
    if free is None:
        raise Failure(
            "No port from 8000 to 8099 is free" if wanted is None else f"Port {wanted} is not free"
        )
    return free


def port_number(text: str) -> int:
    number = int(text)
    if not 0 < number < 2**16:
        raise argparse.ArgumentTypeError(f"{number} is not between 1 and 65535")
    return number


def say(text: str) -> None:
    print(text, flush=True)


def complain(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description="Start a site of the example and its daemon.")
    parser.add_argument("--site", choices=SITES, default=SITES[0])
    parser.add_argument(
        "--port", type=port_number, help=f"default: the first free one from {FIRST_PORT}"
    )
    options = parser.parse_args()
    try:
        return Demo(options.site, choose_port(options.port)).run()
    except Failure as failure:
        complain(str(failure))
        return 1


if __name__ == "__main__":
    sys.exit(main())
