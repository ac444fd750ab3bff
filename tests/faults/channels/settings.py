"""The site of the experiment; ``P10_FOLDER`` is its folder."""

import os
from pathlib import Path

from tests.live.settings import *  # noqa: F403 - the tests' site with channels
from tests.live.settings import INSTALLED_APPS as TESTS_APPS
from tests.live.settings import LINOD as TESTS_LINOD

FOLDER = Path(os.environ["P10_FOLDER"])
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": FOLDER / "db.sqlite3",
        "OPTIONS": {
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL",
            "timeout": 20,
        },
    }
}
INSTALLED_APPS = [*TESTS_APPS, "tests.faults.channels"]
LINOD = TESTS_LINOD | {
    "RUN_DIR": str(FOLDER / "run"),
    "USE_CHANNELS": os.environ.get("P10_CHANNELS", "1") == "1",
}
