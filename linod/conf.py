"""The one dict ``LINOD`` of a site's settings, read late and checked as a whole."""

from __future__ import annotations

import difflib
import os
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

from django.conf import ENVIRONMENT_VARIABLE, settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed

from linod.loglines import DEFAULT_FORMAT, template_of
from linod.logsender import LOCK, SOCKET
from linod.phrases import ENGLISH, Language, OneOf, gettext_noop


@dataclass(frozen=True, kw_only=True)
class Config:
    """What ``LINOD`` says, with the default of each key."""

    #: Names the site in sockets, channels and messages; default: the project's package.
    SITE: str = ""
    #: Serve websockets and the channel of commands (needs ``linod[channels]``).
    USE_CHANNELS: bool = False
    #: Folder of the daemons' wake-up sockets; default: a private folder of this user.
    RUN_DIR: str | Path | None = None
    #: Seconds between two looks at the database when nothing calls.
    BACKGROUND_SLEEP_TIME: int | float = 5.0
    #: How many jobs one daemon runs at the same time.
    MAX_CONCURRENCY: int = 10
    #: Seconds after which a silent daemon's jobs are given up.
    LEASE: int | float = 30.0
    #: Seconds that running jobs are given when the daemon stops.
    GRACE: int | float = 25.0
    #: Days for which ended jobs and the ledger are kept.
    KEEP_JOBS_DAYS: int = 30
    #: Username of the user that procedures see as ``ar.user``; None: nobody.
    DAEMON_USER: str | None = None
    #: Alias of the database that holds linod's rows.
    DATABASE: str = "default"
    #: Folder of the site's log file and of the log server's socket; default: what ``LOGGING`` says
    #: to a LinodHandler; None: no log server.
    LOG_DIR: str | Path | None = None
    #: Name of the log file in ``LOG_DIR``.
    LOG_FILE: str = "lino.log"
    #: The first line of a record.
    LOG_FORMAT: str = DEFAULT_FORMAT
    #: Begin a new log file with each "hour" or "day"; empty: never.
    LOG_ROTATE_EVERY: str = ""
    #: Begin a new log file before this one has more megabytes; 0: never.
    LOG_ROTATE_MB: int | float = 0
    #: How many former log files stay.
    LOG_KEEP_FILES: int = 10
    #: Users whose processes may send records, beside the log server's own and root.
    LOG_USERS: list[str] | tuple[str, ...] = ()


#: What each key takes.
KINDS = get_type_hints(Config)
#: No number of seconds, days or files that is larger makes sense.
LIMIT = 100_000
ABOVE_ZERO = gettext_noop("LINOD[%(key)r] must be above zero and below 100,000, not %(value)r")
FROM_ZERO = gettext_noop("LINOD[%(key)r] must be from zero to below 100,000, not %(value)r")
#: What numbers may be: the least, what is too much, and how that is said.
NUMBERS = {
    # More looks than 20 a second would only wear out the database.
    "BACKGROUND_SLEEP_TIME": (
        0.05,
        LIMIT,
        gettext_noop("LINOD[%(key)r] must be from 0.05 to below 100,000, not %(value)r"),
    ),
    # Each may take a thread and a connection; processes and servers come to their own limits.
    "MAX_CONCURRENCY": (
        1,
        1_001,
        gettext_noop("LINOD[%(key)r] must be from 1 to 1,000, not %(value)r"),
    ),
    # It is renewed each third of it: a busy machine would be too late, and give its own jobs up.
    "LEASE": (
        0.5,
        LIMIT,
        gettext_noop("LINOD[%(key)r] must be from 0.5 to below 100,000, not %(value)r"),
    ),
    "KEEP_JOBS_DAYS": (1, LIMIT, ABOVE_ZERO),
    "LOG_KEEP_FILES": (1, LIMIT, ABOVE_ZERO),
    "GRACE": (0, LIMIT, FROM_ZERO),
    "LOG_ROTATE_MB": (0, LIMIT, FROM_ZERO),
}
#: Log files may be begun anew this often.
PERIODS = ("", "hour", "day")
#: Names of files and users.
FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
#: Channels and sockets are named after the site; their names take these characters only.
SITE_NAME = re.compile(r"[A-Za-z0-9_.-]{1,50}")


def problems(given: Any, language: Language = ENGLISH) -> list[str]:
    """What is wrong with a ``LINOD`` setting, one line each; empty when it is fine."""
    if not isinstance(given, dict):
        text = language.gettext("LINOD must be a dict, not %(kind)s")
        return [text % {"kind": type(given).__name__}]
    return [line for key, value in given.items() if (line := _problem(key, value, language))]


def _problem(key: Any, value: Any, language: Language) -> str:
    if key not in KINDS:
        near = difflib.get_close_matches(str(key).upper(), KINDS, n=1)
        if near:
            text = language.gettext("LINOD has no key %(key)r, did you mean %(near)r?")
            return text % {"key": key, "near": near[0]}
        text = language.gettext("LINOD has no key %(key)r; known are %(known)s")
        return text % {"key": key, "known": ", ".join(KINDS)}
    kinds = _kinds(key)
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        names = OneOf("None" if each is NoneType else each.__name__ for each in kinds)
        text = language.gettext("LINOD[%(key)r] must be %(kinds)s, not %(value)r")
        return text % {"key": key, "kinds": names.said(language), "value": value}
    must, why = _limit(key, value)
    return language.gettext(must) % {"key": key, "value": value, "why": why} if must else ""


def _kinds(key: str) -> tuple[type, ...]:
    kind = KINDS[key]
    alternatives = get_args(kind) if isinstance(kind, UnionType) else (kind,)
    return tuple(get_origin(each) or each for each in alternatives)


def _limit(key: str, value: Any) -> tuple[str, str]:
    """What a value of the right kind must be, and why it is not; empty when it is."""
    if key in NUMBERS:
        least, too_much, must = NUMBERS[key]
        return ("", "") if least <= value < too_much else (must, "")
    if key == "SITE" and not SITE_NAME.fullmatch(value):
        must = gettext_noop(
            "LINOD[%(key)r] must be letters, digits and the signs _.- only, not %(value)r"
        )
        return must, ""
    return _log_limit(key, value)


def _log_limit(key: str, value: Any) -> tuple[str, str]:
    must = why = ""
    if key == "LOG_FILE" and not (FILE_NAME.fullmatch(value) and value not in (SOCKET, LOCK)):
        must = gettext_noop(
            "LINOD[%(key)r] must be the name of a file: letters, digits and the signs _.- only,"
            " not %(value)r"
        )
    elif key == "LOG_ROTATE_EVERY" and value not in PERIODS:
        must = gettext_noop('LINOD[%(key)r] must be "hour", "day" or empty, not %(value)r')
    elif key == "LOG_USERS" and not all(isinstance(each, str) for each in value):
        must = gettext_noop("LINOD[%(key)r] must be names of users, not %(value)r")
    elif key == "LOG_FORMAT":
        try:
            template_of(value)
        except ValueError as error:
            must = gettext_noop("LINOD[%(key)r] must be a line's format (%(why)s), not %(value)r")
            why = str(error)
    return must, why


@lru_cache(maxsize=1)
def config() -> Config:
    """The site's settings; ImproperlyConfigured when a key or a value is wrong."""
    given = getattr(settings, "LINOD", {})
    wrong = problems(given)
    if wrong:
        raise ImproperlyConfigured(wrong[0])
    return Config(**{"SITE": default_site(), "LOG_DIR": default_log_dir(), **given})


def default_site() -> str:
    """The project's package: the first part of the settings module's name."""
    # Django's override_settings(), which users' tests use, hides the name from the settings.
    named = getattr(settings, "SETTINGS_MODULE", None) or os.environ.get(ENVIRONMENT_VARIABLE)
    return str(named or "site").partition(".")[0]


def default_log_dir() -> str | Path | None:
    """The folder to which ``LOGGING`` sends: so that one line in the settings is enough."""
    handlers = (getattr(settings, "LOGGING", None) or {}).get("handlers", {})
    for handler in handlers.values():
        kind = handler.get("class") or handler.get("()")
        name = kind if isinstance(kind, str) else getattr(kind, "__qualname__", "")
        if name.rpartition(".")[2] == "LinodHandler" and handler.get("log_dir"):
            found: str | Path = handler["log_dir"]
            return found
    return None


def _forget(*, setting: str, **kwargs: Any) -> None:
    if setting in ("LINOD", "LOGGING", "SETTINGS_MODULE"):
        config.cache_clear()


setting_changed.connect(_forget, dispatch_uid="linod.conf")
