"""Daphne in a process of its own, serving ``linod.routing.application``."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.sessions.backends.db import SessionStore

from tests.ports import free_port, is_open
from tests.waiting import DEADLINE, wait_until


class Daphne:
    """The server; ``env`` tells it the database and the channel layer."""

    def __init__(self, env: dict[str, str], settings: str = "tests.live.settings") -> None:
        self.port = free_port()
        command = [sys.executable, "-m", "daphne", "-b", "127.0.0.1", "-p", str(self.port)]
        command += ["-v", "0", "linod.routing:application"]
        self.process = subprocess.Popen(command, env=env | {"DJANGO_SETTINGS_MODULE": settings})
        wait_until(lambda: is_open(self.port) or self.process.poll() is not None, "Daphne answers")
        assert self.process.poll() is None, "Daphne has ended"

    def stop(self) -> None:
        """End it."""
        self.process.terminate()
        try:
            self.process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@contextmanager
def serving(env: dict[str, str]) -> Iterator[Daphne]:
    """A server for the time of a test."""
    server = Daphne(env)
    try:
        yield server
    finally:
        server.stop()


def log_in(user: Any) -> str:
    """A session of the user; returns the cookie that shows it."""
    session = SessionStore()
    session[SESSION_KEY] = str(user.pk)
    session[BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[0]
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.save()
    return f"{settings.SESSION_COOKIE_NAME}={session.session_key}"
