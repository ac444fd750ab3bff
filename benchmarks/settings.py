"""The site that is measured: linod with its default settings, on the database of one run.

======================= ===================== =====================================================
variable                default               meaning
======================= ===================== =====================================================
LINOD_BENCH_DB          sqlite                a name of :data:`DATABASE_KINDS`
LINOD_BENCH_DB_NAME     (made for the run)    the database that the daemon opens
LINOD_BENCH_FOLDER      the temporary folder  for SQLite's file, sockets and notes
LINOD_BENCH_BARE        (empty)               1: Django alone, to compare the memory with
LINOD_BENCH_PAGES       (empty)               1: a site with the admin, whose pages are measured
LINOD_POSTGRESQL_HOST   127.0.0.1             also _PORT, _USER and _PASSWORD
LINOD_MARIADB_HOST      127.0.0.1             also _PORT, _USER and _PASSWORD
======================= ===================== =====================================================
"""

import os
import tempfile
from pathlib import Path
from typing import Any

FOLDER = Path(os.environ.get("LINOD_BENCH_FOLDER", tempfile.gettempdir()))
NEW_NAME = f"linod_bench_{os.getpid()}"


def sqlite(**options: str) -> dict[str, Any]:
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("LINOD_BENCH_DB_NAME", str(FOLDER / "site.sqlite3")),
        "TEST": {"NAME": str(FOLDER / f"{NEW_NAME}.sqlite3")},
        "OPTIONS": options,
    }


def server(kind: str, engine: str, port: str, user: str) -> dict[str, Any]:
    env = os.environ
    return {
        "ENGINE": f"django.db.backends.{engine}",
        "HOST": env.get(f"LINOD_{kind}_HOST", "127.0.0.1"),
        "PORT": env.get(f"LINOD_{kind}_PORT", port),
        "USER": env.get(f"LINOD_{kind}_USER", user),
        "PASSWORD": env.get(f"LINOD_{kind}_PASSWORD", ""),
        "NAME": env.get("LINOD_BENCH_DB_NAME", "linod"),
        "TEST": {"NAME": NEW_NAME},
    }


DATABASE_KINDS = {
    "sqlite": sqlite(),
    "sqlite-wal": sqlite(
        init_command="PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
        transaction_mode="IMMEDIATE",
    ),
    "postgresql": server("POSTGRESQL", "postgresql", "5432", "postgres"),
    "mariadb": server("MARIADB", "mysql", "3306", "root"),
}
DATABASES = {"default": DATABASE_KINDS[os.environ.get("LINOD_BENCH_DB", "sqlite")]}

SECRET_KEY = "only for benchmarks"
USE_TZ = True
TIME_ZONE = "UTC"
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth"]
if os.environ.get("LINOD_BENCH_BARE") != "1":
    INSTALLED_APPS += ["linod", "benchmarks"]
if os.environ.get("LINOD_BENCH_PAGES") == "1":
    INSTALLED_APPS += [
        "django.contrib.admin",
        "django.contrib.messages",
        "django.contrib.sessions",
        "django.contrib.staticfiles",
    ]
    ROOT_URLCONF = "benchmarks.urls"
    ALLOWED_HOSTS = ["*"]
    STATIC_URL = "static/"
    # Who is logged in is told by a cookie: the database of the run has no table of sessions.
    SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"
    MIDDLEWARE = [
        "django.contrib.sessions.middleware.SessionMiddleware",
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
# The folder keeps runs side by side from waking each other; all else is as linod has it.
LINOD = {"RUN_DIR": FOLDER}
