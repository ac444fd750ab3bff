"""The tests' settings, with procedures of its own and what the environment says.

=================  ========================================================
variable           meaning
=================  ========================================================
SITE_LINOD         the setting LINOD, as JSON
SITE_LOGGING       1: the site has a handler on the terminal for everything;
                   a folder: everything goes to the log server there
SITE_EXTRA_APP     one more application
SITE_READ_ONLY     1: the database takes no writes, as during a failover
=================  ========================================================
"""

import json
import os

from linod.loghandler import logging_config
from tests.settings import *  # noqa: F403 - the tests' own site
from tests.settings import DATABASES, TEST_DB
from tests.settings import INSTALLED_APPS as THEIRS

LINOD = json.loads(os.environ.get("SITE_LINOD", "{}"))
EXTRA = os.environ.get("SITE_EXTRA_APP")
INSTALLED_APPS = [*THEIRS, "tests.command_site", *([EXTRA] if EXTRA else [])]
if os.environ.get("SITE_LOGGING") == "1":
    LOGGING = {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"site": {"format": "SITE %(message)s"}},
        "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "site"}},
        "root": {"handlers": ["console"], "level": "INFO"},
    }
elif os.environ.get("SITE_LOGGING", "").startswith("/"):
    LOGGING = logging_config(os.environ["SITE_LOGGING"])

if os.environ.get("SITE_READ_ONLY") == "1":
    DATABASES["default"]["OPTIONS"] = {
        "sqlite": {"init_command": "PRAGMA query_only = 1"},
        "postgresql": {"options": "-c default_transaction_read_only=on"},
        "mariadb": {"init_command": "SET SESSION TRANSACTION READ ONLY"},
    }[TEST_DB]
