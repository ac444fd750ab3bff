"""SQLite's locks in the hands of a daemon that a signal has stopped: it is told to go on.

A server ends the session of a process that stands still in a transaction. SQLite has nobody who
could: everyone waits until the process goes on. All its daemons are on one host, so that another
one can see what holds them up (Linux only, by proc(5)).
"""

from __future__ import annotations

import logging
import os
import signal
from pathlib import Path

from django.db import connections

from linod import wakeup

logger = logging.getLogger("linod")

#: The bytes by whose locks SQLite's processes keep each other out of the database
#: (sqlite.org/fileformat2.html, "The Lock-Byte Page"). A reader's lock is one of them: until it is
#: gone nobody can commit (sqlite.org/lockingv3.html).
LOCK_BYTES = 0x40000000, 0x400001FF
#: With a write-ahead log only writers keep each other out: by this byte of its index
#: (sqlite.org/walformat.html, "WAL Locks": WAL_WRITE_LOCK).
WAL_WRITE = 120, 120
LOCKS = Path("/proc/locks")


def release(using: str) -> None:
    """Send SIGCONT to a daemon of this site that a signal has stopped and that keeps others out.

    Ctrl-Z, SIGSTOP, and a terminal that a process in the background reads from do that (signal(7)).
    Where something else freezes a process (a debugger, a container's freezer) this does nothing.
    It does not wait, and raises nothing.
    """
    connection = connections[using]
    if connection.vendor != "sqlite":
        return
    others = wakeup.neighbours() - {os.getpid()}
    for pid in sorted(holders(connection.settings_dict["NAME"]) & others):
        if not is_stopped(pid):
            continue
        try:
            os.kill(pid, signal.SIGCONT)
        except (ProcessLookupError, PermissionError) as error:
            logger.warning("Process %d was stopped with a lock of SQLite's: %s", pid, error)
        else:
            logger.warning(
                "The daemon with process id %d was stopped in a transaction: it is told to go on,"
                " since nobody else can write to SQLite",
                pid,
            )


def holders(database: str | Path) -> set[int]:
    """The processes whose locks keep others from writing; none where proc(5) does not tell."""
    # SQLite's other files are beside the file itself, wherever links to it are.
    database = os.path.realpath(database)
    log_index = _inode(f"{database}-shm")
    inode, (first, last) = (
        (_inode(database), LOCK_BYTES) if log_index is None else (log_index, WAL_WRITE)
    )
    try:
        lines = LOCKS.read_text().splitlines()
    except OSError:
        return set()
    found = set()
    for line in lines:
        # "1: POSIX  ADVISORY  WRITE 3568 fe:00:1531517 1073741825 1073741825"; one that waits has
        # "->" behind the number. The device is another one than stat(2) says on some file systems.
        _number, kind, _mode, _access, pid, place, begin, end = line.replace("->", "").split()
        if kind != "POSIX" or int(place.rpartition(":")[2]) != inode:
            continue
        if int(begin) <= last and (end == "EOF" or int(end) >= first):
            found.add(int(pid))
    return found


def is_stopped(pid: int) -> bool:
    """Whether a signal has stopped this process: state T in proc(5), /proc/pid/stat."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return False
    # The name in brackets may have anything in it.
    return stat.rpartition(b")")[2].split()[0] == b"T"


def _inode(path: str | Path) -> int | None:
    try:
        return os.stat(path).st_ino
    except OSError:
        return None
