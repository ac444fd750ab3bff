"""The settings of the fault tests' site; the harness says in the environment where its database is.

======================= =====================================================================
variable                meaning
======================= =====================================================================
LINOD_FAULTS_DB         sqlite, postgresql or mariadb
LINOD_FAULTS_NAME       the database: SQLite's file, or a name on the server
LINOD_FAULTS_PORT       the server's port on 127.0.0.1, or that of the proxy before it
LINOD_FAULTS_RUN_DIR    folder of the wake-up sockets
LINOD_FAULTS_LINOD      JSON: what this process has in ``LINOD`` beside the default of the tests
======================= =====================================================================
"""

import json
import os
from typing import Any

KIND = os.environ["LINOD_FAULTS_DB"]
ENGINES = {"sqlite": "sqlite3", "postgresql": "postgresql", "mariadb": "mysql"}
USERS = {"sqlite": "", "postgresql": "postgres", "mariadb": "root"}


def database() -> dict[str, Any]:
    """As a new project has it: no options."""
    values: dict[str, Any] = {
        "ENGINE": f"django.db.backends.{ENGINES[KIND]}",
        "NAME": os.environ["LINOD_FAULTS_NAME"],
    }
    if KIND != "sqlite":
        values |= {
            "HOST": "127.0.0.1",
            "PORT": os.environ["LINOD_FAULTS_PORT"],
            "USER": USERS[KIND],
        }
    return values


DATABASES = {"default": database()}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
SECRET_KEY = "only for tests"
USE_TZ = True
TIME_ZONE = "UTC"
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "linod",
    "tests.faults.site",
]
LINOD = {
    "RUN_DIR": os.environ["LINOD_FAULTS_RUN_DIR"],
    "LEASE": 2,
    "GRACE": 3,
} | json.loads(os.environ.get("LINOD_FAULTS_LINOD", "{}"))
