"""A small dose of P10, as CI takes it: in a process of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.example import absent
from tests.live.redis_server import RedisServer


@pytest.mark.parametrize("capacity", [100, 1])
def test_a_small_dose(capacity: int) -> None:
    if not RedisServer.is_installed():
        absent("redis-server is not installed")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "tests.faults.channels", "--capacity", str(capacity)),
            # Other tests run beside: one burst of them must not fall on most of the rounds.
            *("--outages", "4"),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
