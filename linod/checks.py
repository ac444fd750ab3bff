"""System checks: what is wrong with a site's settings, before the daemon starts."""

from __future__ import annotations

import importlib.util
from typing import Any

from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage

from linod import conf
from linod.exceptions import CircularOrder
from linod.procedures import Procedures


def check_settings(**kwargs: Any) -> list[CheckMessage]:
    """linod.E001 to E005: see ``docs/reference/settings.rst``."""
    found: list[CheckMessage] = []
    if not settings.USE_TZ:
        hint = "Set USE_TZ = True: due instants are moments, not wall times."
        found.append(checks.Error("linod needs USE_TZ", hint=hint, id="linod.E001"))
    wrong = conf.problems(getattr(settings, "LINOD", {}))
    found += [checks.Error(problem, id="linod.E002") for problem in wrong]
    if not wrong:
        found += _check_values(conf.config())
    try:
        Procedures.in_running_order()
    except CircularOrder as error:
        found.append(checks.Error(str(error), id="linod.E005"))
    return found


def _check_values(config: conf.Config) -> list[CheckMessage]:
    found: list[CheckMessage] = []
    if config.DATABASE not in settings.DATABASES:
        message = f"LINOD['DATABASE'] names {config.DATABASE!r}, which DATABASES lacks"
        found.append(checks.Error(message, id="linod.E003"))
    if config.USE_CHANNELS:
        absent = [
            name
            for name in ("channels", "channels_redis", "daphne")
            if importlib.util.find_spec(name) is None
        ]
        if absent:
            message = f"LINOD['USE_CHANNELS'] needs {', '.join(absent)}"
            hint = "pip install 'linod[channels]'"
            found.append(checks.Error(message, hint=hint, id="linod.E004"))
    return found


def register() -> None:
    """Make Django run these checks."""
    checks.register(check_settings, "linod")
