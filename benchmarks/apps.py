"""What listens inside the measured daemon."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable
from typing import Any

from django.apps import AppConfig
from django.db.backends.signals import connection_created

from benchmarks import notes

#: Names a file of eight bytes that counts the statements of the process; without it none are.
COUNTER = "LINOD_BENCH_COUNTER"


class BenchmarksConfig(AppConfig):
    name = "benchmarks"

    def ready(self) -> None:
        if notes.VARIABLE in os.environ:
            from linod import signals

            signals.jobs_finished.connect(_note_recorded)
        if COUNTER in os.environ:
            connection_created.connect(_count_statements_of)


def _note_recorded(outcomes: list[Any], **kwargs: Any) -> None:
    notes.note(notes.RECORDED, len(outcomes))


def _count_statements_of(connection: Any, **kwargs: Any) -> None:
    if _count_statement not in connection.execute_wrappers:
        connection.execute_wrappers.append(_count_statement)


def _count_statement(execute: Callable[..., Any], sql: str, *args: Any) -> Any:
    if sql.startswith("BEGIN"):  # on SQLite the engine sends it by itself
        return execute(sql, *args)
    with open(os.environ[COUNTER], "r+b") as file, mmap.mmap(file.fileno(), 8) as counter:
        counter[:] = (int.from_bytes(counter[:], "little") + 1).to_bytes(8, "little")
    return execute(sql, *args)
