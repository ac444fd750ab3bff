"""The one dict ``LINOD`` of a site's settings, read late and checked as a whole."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

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
    BACKGROUND_SLEEP_TIME: float = 5.0
    #: How many jobs one daemon runs at the same time.
    MAX_CONCURRENCY: int = 10
    #: Seconds after which a silent daemon's jobs are given up.
    LEASE: float = 30.0
    #: Seconds that running jobs are given when the daemon stops.
    GRACE: float = 25.0
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


POSITIVE = ("BACKGROUND_SLEEP_TIME", "MAX_CONCURRENCY", "LEASE", "KEEP_JOBS_DAYS")
TYPES: dict[str, tuple[type, ...]] = {
    "SITE": (str,),
    "USE_CHANNELS": (bool,),
    "RUN_DIR": (str, Path, type(None)),
    "BACKGROUND_SLEEP_TIME": (int, float),
    "MAX_CONCURRENCY": (int,),
    "LEASE": (int, float),
    "GRACE": (int, float),
    "KEEP_JOBS_DAYS": (int,),
    "DAEMON_USER": (str, type(None)),
    "DATABASE": (str,),
    "LOG_DIR": (str, Path, type(None)),
    "LOG_FILE": (str,),
}


def problems(given: Any) -> list[str]:
    """What is wrong with a ``LINOD`` setting, one line each; empty when it is fine."""
    if not isinstance(given, dict):
        return [f"LINOD must be a dict, not {type(given).__name__}"]
    known = [field.name for field in fields(Config)]
    found = []
    for key, value in given.items():
        if key not in known:
            near = difflib.get_close_matches(str(key).upper(), known, n=1)
            hint = f", did you mean {near[0]!r}?" if near else f"; known are {', '.join(known)}"
            found.append(f"LINOD has no key {key!r}{hint}")
        elif not isinstance(value, TYPES[key]) or (
            isinstance(value, bool) and bool not in TYPES[key]
        ):
            names = " or ".join(
                "None" if kind is type(None) else kind.__name__ for kind in TYPES[key]
            )
            found.append(f"LINOD[{key!r}] must be {names}, not {value!r}")
        elif key in POSITIVE and value <= 0:
            found.append(f"LINOD[{key!r}] must be above zero, not {value!r}")
        elif key == "GRACE" and value < 0:
            found.append(f"LINOD[{key!r}] must not be negative, not {value!r}")
    return found


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
