"""One Django site for the tests, on the database that ``LINOD_TEST_DB`` names.

======================= ================================ =====================================
variable                default                          meaning
======================= ================================ =====================================
LINOD_TEST_DB           sqlite                           sqlite, postgresql or mariadb
LINOD_TEST_DB_NAME      (a new one for each run)         a database that exists: how a process
                                                         that a test starts opens the test's own
LINOD_POSTGRESQL_HOST   127.0.0.1                        also _PORT, _USER and _PASSWORD
LINOD_MARIADB_HOST      127.0.0.1                        also _PORT, _USER and _PASSWORD
======================= ================================ =====================================
"""

import os
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

TEST_DB = os.environ.get("LINOD_TEST_DB", "sqlite")
# Runs side by side on one machine never share a database.
TEST_RUN = f"test_linod_{os.getpid()}"


def server(kind: str, engine: str, driver: str, port: str, user: str) -> dict[str, Any]:
    """The settings of a database server, or of none while its driver is missing.

    Django loads the backend when it loads the models; without the driver it could not even
    tell which tests need it.
    """
    if find_spec(driver) is None:
        return {"ENGINE": "django.db.backends.dummy"}
    env = os.environ
    return {
        "ENGINE": f"django.db.backends.{engine}",
        "HOST": env.get(f"LINOD_{kind}_HOST", "127.0.0.1"),
        "PORT": env.get(f"LINOD_{kind}_PORT", port),
        "USER": env.get(f"LINOD_{kind}_USER", user),
        "PASSWORD": env.get(f"LINOD_{kind}_PASSWORD", ""),
        "NAME": env.get("LINOD_TEST_DB_NAME", "linod"),
        "TEST": {"NAME": TEST_RUN},
    }


def sqlite() -> dict[str, Any]:
    """A file, because threads and other processes open it too; and no options, on purpose.

    linod must work with the settings that a new Django project has.
    """
    folder = Path(tempfile.gettempdir())
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("LINOD_TEST_DB_NAME", str(folder / "linod.sqlite3")),
        "TEST": {"NAME": str(folder / f"{TEST_RUN}.sqlite3")},
    }


def database(name: str) -> dict[str, Any]:
    match name:
        case "sqlite":
            return sqlite()
        case "postgresql":
            return server("POSTGRESQL", "postgresql", "psycopg", "5432", "postgres")
        case "mariadb":
            return server("MARIADB", "mysql", "MySQLdb", "3306", "root")
    raise ValueError(f"LINOD_TEST_DB is {name!r}: say sqlite, postgresql or mariadb")


DATABASES = {"default": database(TEST_DB)}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

SECRET_KEY = "only for tests"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "tests.urls"
STATIC_URL = "static/"
USE_TZ = True
TIME_ZONE = "Europe/Brussels"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
# Django's test runner puts its outbox in the place of each; before 6.1 it does so without this.
MAILERS = {"default": {"BACKEND": "django.core.mail.backends.smtp.EmailBackend"}}

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "linod",
    "tests.app",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]
