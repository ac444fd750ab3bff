"""The memory of a process that runs for months."""

from __future__ import annotations

import contextlib
import ctypes
import gc

#: Of mallopt(3): from what size on a block is mapped by itself; glibc's own number, and its begin.
M_MMAP_THRESHOLD, THRESHOLD = -3, 128 * 1024
#: Of gc.set_threshold(): what a group of jobs makes lives until that group is recorded. By Python's
#: own numbers it would be walked through several times before that.
THRESHOLDS = 10_000, 10, 10


def settle() -> None:
    """To be called once, when all is loaded and before anything runs.

    What was loaded stays until the end, so the garbage collector need not walk through it while
    somebody waits for a run. And glibc keeps its threshold: else it follows the largest block that
    was freed, and a long log's pieces stay in the heap of each thread that had one. Where there is
    another C library nothing is set.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, THRESHOLD)


def give_back() -> None:
    """To be called when much was in use and little is: free memory goes back to the system.

    Also what errors hold, whose tracebacks know them: Django's of the database are such.
    """
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
