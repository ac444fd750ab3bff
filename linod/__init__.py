"""linod: the one process that a Django site runs beside its web server.

It runs the site's recurring procedures on time and keeps their history and their logs::

    from linod import schedule_daily

    @schedule_daily(at="20:00")
    def clear_seen_messages(ar):
        ...

Everything below is imported when it is first used, so that a settings file may import ``linod``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from linod.adoption import adopt_schedule, command_procedure
    from linod.choices import LogLevels, Recurrences
    from linod.models import BackgroundTask, Job
    from linod.procedures import (
        Procedure,
        Procedures,
        background_task,
        schedule_daily,
        schedule_often,
    )
    from linod.requests import BaseRequest, login
    from linod.tables import BackgroundTasks, RunJob, show

__version__ = "0.1.0"

_HOMES = {
    "Procedure": "procedures",
    "Procedures": "procedures",
    "LogLevels": "choices",
    "Recurrences": "choices",
    "BackgroundTask": "models",
    "BackgroundTasks": "tables",
    "Job": "models",
    "RunJob": "tables",
    "BaseRequest": "requests",
    "login": "requests",
    "show": "tables",
    "background_task": "procedures",
    "schedule_often": "procedures",
    "schedule_daily": "procedures",
    "command_procedure": "adoption",
    "adopt_schedule": "adoption",
}

__all__ = [
    "BackgroundTask",
    "BackgroundTasks",
    "BaseRequest",
    "Job",
    "LogLevels",
    "Procedure",
    "Procedures",
    "Recurrences",
    "RunJob",
    "adopt_schedule",
    "background_task",
    "command_procedure",
    "login",
    "schedule_daily",
    "schedule_often",
    "show",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'linod' has no attribute {name!r}")
    return getattr(importlib.import_module(f"linod.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
