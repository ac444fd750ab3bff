"""The one dict ``LINOD`` of a site's settings, read late and checked as a whole."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_type_hints

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed


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
    #: Folder of the site's log file and of the log server's socket; None: no log server.
    LOG_DIR: str | Path | None = None
    #: Name of the log file in ``LOG_DIR``.
    LOG_FILE: str = "lino.log"


#: What each key takes.
KINDS = get_type_hints(Config)
#: Numbers that must be above zero; GRACE may be zero.
POSITIVE = ("BACKGROUND_SLEEP_TIME", "MAX_CONCURRENCY", "LEASE", "KEEP_JOBS_DAYS")
#: No number of seconds, days or slots that is larger makes sense.
LIMIT = 100_000
#: Channels and sockets are named after the site; their names take these characters only.
SITE_NAME = re.compile(r"[A-Za-z0-9_.-]{1,50}")


def problems(given: Any) -> list[str]:
    """What is wrong with a ``LINOD`` setting, one line each; empty when it is fine."""
    if not isinstance(given, dict):
        return [f"LINOD must be a dict, not {type(given).__name__}"]
    return [line for key, value in given.items() if (line := _problem(key, value))]


def _problem(key: Any, value: Any) -> str:
    if key not in KINDS:
        near = difflib.get_close_matches(str(key).upper(), KINDS, n=1)
        hint = f", did you mean {near[0]!r}?" if near else f"; known are {', '.join(KINDS)}"
        return f"LINOD has no key {key!r}{hint}"
    kind = KINDS[key]
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        kinds = get_args(kind) or (kind,)
        names = " or ".join("None" if each is NoneType else each.__name__ for each in kinds)
        return f"LINOD[{key!r}] must be {names}, not {value!r}"
    if key in POSITIVE and not 0 < value < LIMIT:
        return f"LINOD[{key!r}] must be above zero and below {LIMIT:,}, not {value!r}"
    if key == "GRACE" and not 0 <= value < LIMIT:
        return f"LINOD[{key!r}] must be from zero to below {LIMIT:,}, not {value!r}"
    if key == "SITE" and not SITE_NAME.fullmatch(value):
        return f"LINOD[{key!r}] must be letters, digits and the signs _.- only, not {value!r}"
    return ""


@lru_cache(maxsize=1)
def config() -> Config:
    """The site's settings; ImproperlyConfigured when a key or a value is wrong."""
    given = getattr(settings, "LINOD", {})
    wrong = problems(given)
    if wrong:
        raise ImproperlyConfigured(wrong[0])
    return Config(**{"SITE": default_site(), **given})


def default_site() -> str:
    """The project's package: the first part of the settings module's name."""
    return str(getattr(settings, "SETTINGS_MODULE", None) or "site").partition(".")[0]


def _forget(*, setting: str, **kwargs: Any) -> None:
    if setting in ("LINOD", "SETTINGS_MODULE"):
        config.cache_clear()


setting_changed.connect(_forget, dispatch_uid="linod.conf")
