"""Points at which a daemon freezes, kills or leaves itself, when the harness has set a trap there.

A trap is a file named after its point in the folder that the environment names; its text is what
happens. Whichever daemon takes it away has sprung it, so a trap springs once. The points are found
by what is sent to the database, so linod itself knows nothing of them:

====================== ==========================================================================
point                  when
====================== ==========================================================================
claim-before-commit    jobs were inserted, the transaction is open
claim-after-commit     the same, committed; their bodies have not begun
finish-before-commit   outcomes were written, the transaction is open
finish-after-commit    the same, committed
body                   inside a body, after its first line in the journal
====================== ==========================================================================
"""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

#: Names the folder of the traps, and this process in it.
VARIABLE, NAME = "LINOD_FAULTS_TRAPS", "LINOD_FAULTS_DAEMON"
POINTS = (
    "claim-before-commit",
    "claim-after-commit",
    "finish-before-commit",
    "finish-after-commit",
    "body",
)
CLAIM = re.compile(r'INSERT INTO ["`]linod_job["`]')
FINISH = re.compile(r'UPDATE ["`]linod_job["`].*\bSET\b.*["`]result["`]')


def spring(point: str) -> None:
    """Do what the trap at this point says, if there is one."""
    if VARIABLE not in os.environ:
        return
    trap, name = Path(os.environ[VARIABLE]) / point, os.environ[NAME]
    taken = trap.with_suffix(f".{name}")
    try:
        trap.rename(taken)
    except FileNotFoundError:
        return
    action = taken.read_text()
    taken.write_text(f"{name} {time.monotonic()}")
    taken.rename(trap.with_suffix(".sprung"))
    match action:
        case "stop":
            # To this very thread: one that goes to the process leaves it some time, for a COMMIT.
            signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "exit":
            os._exit(3)


def install() -> None:
    """Watch the statements and the commits of every connection."""
    connection_created.connect(_watch, dispatch_uid="faults.traps")
    former = BaseDatabaseWrapper._commit  # type: ignore[attr-defined]
    former_rollback = BaseDatabaseWrapper._rollback  # type: ignore[attr-defined]

    def commit(self: Any) -> Any:
        kind = _take(self)
        if kind:
            spring(f"{kind}-before-commit")
        result = former(self)
        if kind:
            spring(f"{kind}-after-commit")
        return result

    def rollback(self: Any) -> Any:
        _take(self)
        return former_rollback(self)

    BaseDatabaseWrapper._commit = commit  # type: ignore[attr-defined]
    BaseDatabaseWrapper._rollback = rollback  # type: ignore[attr-defined]


def _take(connection: Any) -> str:
    kind: str = getattr(connection, "faults_kind", "")
    connection.faults_kind = ""
    return kind


def _watch(connection: Any, **kwargs: Any) -> None:
    if _note_statement not in connection.execute_wrappers:
        connection.execute_wrappers.append(_note_statement)


def _note_statement(
    execute: Callable[..., Any], sql: str, params: Any, many: bool, context: dict[str, Any]
) -> Any:
    result = execute(sql, params, many, context)
    connection = context["connection"]
    if FINISH.search(sql):
        connection.faults_kind = "finish"
    elif CLAIM.search(sql) and not getattr(connection, "faults_kind", ""):
        connection.faults_kind = "claim"
    return result
