"""System checks: what is wrong with a site's settings, before the daemon starts."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage
from django.utils import translation
from django.utils.translation import gettext as _

from linod import conf
from linod.exceptions import CircularOrder
from linod.logsender import PATH_LIMIT, SOCKET
from linod.procedures import Procedures


def check_settings(**kwargs: Any) -> list[CheckMessage]:
    """linod.E001 and on: see ``docs/reference/settings.rst``."""
    found: list[CheckMessage] = []
    if not settings.USE_TZ:
        hint = _("Set USE_TZ = True: due instants are moments, not wall times.")
        found.append(checks.Error(_("linod needs USE_TZ"), hint=hint, id="linod.E001"))
    wrong = conf.problems(getattr(settings, "LINOD", {}), translation)
    found += [checks.Error(problem, id="linod.E002") for problem in wrong]
    if not wrong:
        found += _check_values(conf.config())
    try:
        Procedures.in_running_order()
    except CircularOrder as error:
        found.append(checks.Error(error.said(translation), id="linod.E005"))
    app = settings.AUTH_USER_MODEL.partition(".")[0]
    if app not in apps.app_configs:
        message = _("linod needs the application %(app)r, which has the users") % {"app": app}
        hint = _("Add it to INSTALLED_APPS (Django's own: 'django.contrib.auth').")
        found.append(checks.Error(message, hint=hint, id="linod.E006"))
    found += _unknown_predecessors()
    return found


def _unknown_predecessors() -> Iterator[CheckMessage]:
    """What a ``run_after`` names need not be there, but a typing error would pass unnoticed."""
    known = Procedures.known_names()
    for procedure in Procedures:
        for name in set(procedure.run_after).difference(known):
            near = get_close_matches(name, known, n=1)
            message = _(
                "Procedure %(procedure)s: run_after names %(name)r, which is not declared here"
            )
            hint = _("Did you mean %(name)r?") % {"name": near[0]} if near else None
            details = {"procedure": procedure, "name": name}
            yield checks.Warning(message % details, hint=hint, id="linod.W001")


def _check_values(config: conf.Config) -> list[CheckMessage]:
    found: list[CheckMessage] = []
    if config.DATABASE not in settings.DATABASES:
        message = _("LINOD['DATABASE'] names %(alias)r, which DATABASES lacks")
        found.append(checks.Error(message % {"alias": config.DATABASE}, id="linod.E003"))
    if config.USE_CHANNELS:
        found += _check_channels()
    if config.LOG_DIR is not None and (problem := _log_problem(Path(config.LOG_DIR))):
        found.append(checks.Error(problem, id="linod.E009"))
    return found


def _log_problem(folder: Path) -> str:
    """Why processes and the log server would not meet in this folder."""
    sent_to = conf.default_log_dir()
    if sent_to is not None and Path(sent_to).absolute() != folder.absolute():
        text = _("LINOD['LOG_DIR'] is %(folder)s, but LOGGING sends to %(other)s")
        return text % {"folder": folder, "other": sent_to}
    if len(os.fsencode((folder / SOCKET).absolute())) > PATH_LIMIT:
        longest = PATH_LIMIT - len(SOCKET) - 1
        text = _(
            "LINOD['LOG_DIR'] is too long for a socket: at most %(limit)d bytes, not %(folder)s"
        )
        return text % {"limit": longest, "folder": folder}
    return ""


def _check_channels() -> list[CheckMessage]:
    """One clear line about what the first of them to be missing is."""
    names = ("channels", "channels_redis", "daphne")
    absent = [name for name in names if importlib.util.find_spec(name) is None]
    if absent:
        message = _("LINOD['USE_CHANNELS'] needs %s") % ", ".join(absent)
        hint = "pip install 'linod[channels]'"
        return [checks.Error(message, hint=hint, id="linod.E004")]
    layer = getattr(settings, "CHANNEL_LAYERS", {}).get("default", {}).get("BACKEND", "")
    if not layer:
        message = _(
            "LINOD['USE_CHANNELS'] needs a channel layer, CHANNEL_LAYERS['default'] has none"
        )
        hint = _("Set its BACKEND to 'channels_redis.core.RedisChannelLayer', CONFIG to its hosts")
        return [checks.Error(message, hint=hint, id="linod.E008")]
    if layer.endswith("InMemoryChannelLayer"):
        message = _("The in-memory channel layer does not reach from the daemon to the web server")
        hint = _("Use channels_redis.core.RedisChannelLayer; until then the live page polls")
        return [checks.Warning(message, hint=hint, id="linod.W002")]
    return []


def register() -> None:
    """Make Django run these checks."""
    checks.register(check_settings, "linod")
