"""What a long log took is given back when it has been stored."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

GROWTH = """
import sys
from pathlib import Path
from linod import memory

def megabytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6

if sys.argv[1] == "settled":
    memory.settle()
first = b"x" * 2**20
del first  # here glibc would learn that blocks of this size come and go
before = megabytes()
blocks = [number.to_bytes() * 2**20 for number in range(32)]
del blocks[:-1]  # the last one keeps the heap from shrinking
print(megabytes() - before)
"""


def growth(how: str) -> float:
    told = subprocess.run(
        [sys.executable, "-c", GROWTH, how], capture_output=True, text=True, check=True
    )
    return float(told.stdout)


@pytest.mark.skipif("glibc" not in os.confstr("CS_GNU_LIBC_VERSION").lower(), reason="glibc only")
def test_large_blocks_are_given_back() -> None:
    assert growth("settled") < 5
    assert growth("as it was") > 20
