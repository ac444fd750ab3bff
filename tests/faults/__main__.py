"""Inject faults and check what came of them.

    python -m tests.faults P1 postgresql            one promise at full size, and note the figures
    python -m tests.faults --size small             all promises on all databases, as CI does
    python -m tests.faults P1 sqlite --seed 7       the same faults again

At full size each promise runs in a process of its own, on a server of its own; at a small one some
promises of a database share both. Exit code 1: a limit was broken.
"""

from __future__ import annotations

import argparse
import importlib
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.faults import servers
from tests.faults.world import BROKEN

if TYPE_CHECKING:
    from tests.faults.world import Finding

PROMISES = ("P1", "P2", "P3", "P4", "P5", "P6", "P7", "P8", "P9", "P13")
SMALL = 0.02
#: At a small size: how many groups are tried beside each other, fewer where short times count; and
#: which promises are one group on each database.
BESIDE = (
    (4, (("P8", "P1"), ("P5", "P2"), ("P7", "P3", "P6"))),
    (3, (("P4",),)),
    (2, (("P13",),)),
    (1, (("P9",),)),
)
ALL = "all"
#: Promises that are tried one after the other in one process, on one server.
Group = tuple[tuple[str, ...], str]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults")
    parser.add_argument(
        "promise", nargs="?", default=PROMISES, type=promises, help="P1, P1,P7 or all"
    )
    parser.add_argument("database", nargs="?", default=ALL, choices=[*servers.SERVERS, ALL])
    parser.add_argument("--size", default="1", help="1: full; a part of it; small: as in CI")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--keep", action="store_true", help="keep the folder with all logs")
    parser.add_argument("--note", action="store_true", help="note the figures of a part, too")
    given = parser.parse_args()
    given.size = SMALL if given.size == "small" else float(given.size)
    names = tuple(servers.SERVERS) if given.database == ALL else (given.database,)
    groups = [(tuple(p for p in given.promise if d in module(p).DATABASES), d) for d in names]
    groups = [group for group in groups if group[0]]
    if given.database != ALL and (given.size < 1 or len(given.promise) == 1):
        return max((together(*group, given) for group in groups), default=0)
    options = ["--size", str(given.size)] + (["--seed", str(given.seed)] if given.seed else [])
    if given.size >= 1:
        broken = [line for group, d in groups for p in group for line in each(((p,), d), options)]
    else:
        broken = [
            line
            for count, lots in BESIDE
            for line in beside(
                [
                    (tuple(p for p in lot if p in group), database)
                    for lot in lots
                    for group, database in groups
                ],
                count,
                options,
            )
        ]
    say("\n".join(["Broken:", *broken]) if broken else "All held.")
    return int(bool(broken))


def promises(text: str) -> tuple[str, ...]:
    """The promises of the command line."""
    found = PROMISES if text == ALL else tuple(text.split(","))
    if unknown := set(found) - set(PROMISES):
        raise argparse.ArgumentTypeError(f"{min(unknown)} is none of {', '.join(PROMISES)}")
    return found


def beside(groups: Sequence[Group], count: int, options: list[str]) -> list[str]:
    """So many groups at a time; what did not hold."""
    with ThreadPoolExecutor(count) as pool:
        found = pool.map(lambda group: each(group, options), filter(itemgetter(0), groups))
        return [line for broken in found for line in broken]


def each(group: Group, options: list[str]) -> list[str]:
    """A group in a process of its own; what did not hold. What it says is shown at its end."""
    command = [sys.executable, "-m", "tests.faults", ",".join(group[0]), group[1], *options]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    say(done.stdout.rstrip())
    return broken_lines(done.stdout) if done.returncode else []


def broken_lines(said: str) -> list[str]:
    """What tells of broken promises, to stand at the end of a long log: that is read first."""
    found = []
    for section in re.split(r"^(?=P\d+ \w+: )", said.rstrip(), flags=re.MULTILINE):
        heading, *lines = section.splitlines() or [""]
        if not heading:
            continue
        if not re.search(r"^    took ", section, re.MULTILINE):
            found += [heading, *lines[-5:]]  # an error ended it
        elif any(line.endswith(BROKEN) for line in lines):
            found += [heading, *(x for x in lines if x.endswith(BROKEN) or x.startswith("    ! "))]
    return found


def module(promise: str) -> Any:
    """The file of a promise."""
    return importlib.import_module(f"tests.faults.p{int(promise[1:]):02}")


def together(some: tuple[str, ...], database: str, given: Any) -> int:
    """Promises on one database, one after the other on one server; those that change it last."""
    folder = Path(tempfile.mkdtemp(prefix="lf-"))
    folder.chmod(0o755)
    server = servers.SERVERS[database](folder)
    try:
        server.start()
        open_site(server, folder)
        ordered = sorted(some, key=lambda promise: hasattr(module(promise), "prepare"))
        broken = [promise for promise in ordered if not one(promise, server, given)]
    finally:
        server.stop()
        if not given.keep:
            subprocess.run(["rm", "-rf", str(folder)], check=False)
    return int(bool(broken))


def one(promise: str, server: servers.Server, given: Any) -> bool:
    """One promise; whether it held."""
    seed = random.randrange(10**6) if given.seed is None else given.seed
    say(f"{promise} {server.kind}: {module(promise).TITLE} (seed {seed}, size {given.size:g})")
    began = time.monotonic()
    if prepare := getattr(module(promise), "prepare", None):
        server.stop()
        prepare(server)
        server.start()
    folder = server.folder / promise
    folder.mkdir()
    findings = experiment(promise, server, folder, seed, given.size)
    if given.size == 1 or given.note:
        note(promise, server.kind, findings, seed)
    for finding in findings:
        say(f"    {finding}")
    say(
        f"    took {time.monotonic() - began:.0f} s" + (f", kept in {folder}" if given.keep else "")
    )
    return all(finding.held for finding in findings)


def open_site(server: servers.Server, folder: Path) -> None:
    """Set Django up in this process, and make the tables."""
    import django
    from django.core.management import call_command

    os.environ.update(server.environment())
    os.environ["LINOD_FAULTS_RUN_DIR"] = str(folder)
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.faults.site.settings"
    django.setup()
    call_command("migrate", verbosity=0)


def experiment(
    promise: str, server: servers.Server, folder: Path, seed: int, size: float
) -> list[Finding]:
    """Run it on a clean table."""
    from django.db import connection

    from tests.faults.world import World

    connection.close()  # the server may have begun anew
    world = World(server, folder, seed, size)
    world.note = lambda text: say(f"    ! {text}")
    world.forget()
    try:
        findings: list[Finding] = module(promise).run(world)
    finally:
        world.fleet.stop_all(5)
    return findings


def note(promise: str, database: str, findings: list[Finding], seed: int) -> None:
    """Put the figures into the file."""
    from tests.faults import measured

    measured.append(promise, database, findings, seed)


def say(text: str) -> None:
    """For whoever watches."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
