"""A Redis of one test: its own process on a free port, to be frozen and killed."""

from __future__ import annotations

import shutil
import signal
import subprocess
from typing import Any

import redis

from tests.ports import free_port
from tests.waiting import wait_until


class RedisServer:
    """A private redis-server that keeps nothing on disk."""

    def __init__(self) -> None:
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None

    @staticmethod
    def is_installed() -> bool:
        """Whether there is a redis-server to start."""
        return shutil.which("redis-server") is not None

    @property
    def url(self) -> str:
        """Where it is."""
        return f"redis://127.0.0.1:{self.port}/0"

    def layer(self, **config: Any) -> dict[str, Any]:
        """CHANNEL_LAYERS for it."""
        backend = "channels_redis.core.RedisChannelLayer"
        return {"default": {"BACKEND": backend, "CONFIG": {"hosts": [self.url], **config}}}

    def start(self) -> None:
        """Start and wait until it answers."""
        command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1"]
        command += ["--save", "", "--appendonly", "no"]
        self.process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        wait_until(self.answers, "Redis answers")

    def answers(self) -> bool:
        """Whether it does."""
        with redis.Redis.from_url(self.url, socket_timeout=1) as client:
            try:
                return bool(client.ping())
            except redis.RedisError:
                return False

    def freeze(self) -> None:
        """Let it stand still with all its connections."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def thaw_and_kill(self) -> None:
        """End it, frozen or not."""
        if self.process is not None:
            self.thaw()
        self.kill()

    def kill(self) -> None:
        """End it at once; what it held is gone."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
