"""P10 at full size: 50 outages of Redis, then some with room for one message only.

    python -m tests.faults.channels [--outages 50] [--seed 1]

Exit code 1: a limit was broken.
"""

from __future__ import annotations

import argparse
import subprocess
import sys

from tests.faults.channels.experiment import run, say


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.channels")
    parser.add_argument("--outages", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--capacity", type=int, default=0, help="only this; 100 and 1 otherwise")
    given = parser.parse_args()
    if given.capacity:
        say(f"P10, {given.outages} outages, capacity {given.capacity} (seed {given.seed})")
        findings = run(given.outages, given.capacity, given.seed)
        for finding in findings:
            say(f"    {finding}")
        return int(not all(finding.held for finding in findings))
    codes = [
        # Django is set up once in a process.
        subprocess.call(
            [
                *(sys.executable, "-m", "tests.faults.channels", "--capacity", str(capacity)),
                *("--outages", str(outages), "--seed", str(given.seed)),
            ]
        )
        for capacity, outages in ((100, given.outages), (1, max(given.outages // 5, 1)))
    ]
    return int(any(codes))


if __name__ == "__main__":
    sys.exit(main())
