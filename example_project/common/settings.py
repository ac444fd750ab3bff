"""Settings that both sites share; the environment may change them.

=========================  ========================  ==============================================
variable                   default                   meaning
=========================  ========================  ==============================================
LINOD_EXAMPLE_VAR          var, beside this package  the folder of all that the sites write
LINOD_EXAMPLE_DB           sqlite                    sqlite, postgresql or mariadb
LINOD_EXAMPLE_DB_NAME      the site's name           a database; for SQLite a file
LINOD_POSTGRESQL_HOST      127.0.0.1                 also _PORT, _USER and _PASSWORD
LINOD_MARIADB_HOST         127.0.0.1                 also _PORT, _USER and _PASSWORD
LINOD_EXAMPLE_REDIS        none: no channels         such as redis://127.0.0.1:6379/0: the live page
                                                     hears what happens, served by Daphne
EMAIL_HOST                 none: files in var/mail   also EMAIL_PORT: where mail goes
MAILDIR                    var/maildir               the Maildir that ``get_new_mail`` reads
SECRET_KEY                 a key for the demo only   must be set on a site that others can reach
DEBUG                      1                         0: off
=========================  ========================  ==============================================
"""

import os
from pathlib import Path
from typing import Any

import django

BASE_DIR = Path(__file__).resolve().parent.parent
VAR_DIR = Path(os.environ.get("LINOD_EXAMPLE_VAR") or BASE_DIR / "var").resolve()


def databases(site: str) -> dict[str, dict[str, Any]]:
    """The site's database, in the form of Django's DATABASES."""
    kind = os.environ.get("LINOD_EXAMPLE_DB", "sqlite")
    name = os.environ.get("LINOD_EXAMPLE_DB_NAME")
    match kind:
        case "sqlite":
            return {"default": _sqlite(site, name)}
        case "postgresql":
            return {"default": _server(kind, "postgresql", "5432", "postgres", name or site)}
        case "mariadb":
            server = _server(kind, "mysql", "3306", "root", name or site)
            return {"default": server | {"OPTIONS": {"charset": "utf8mb4"}}}
    raise ValueError(f"LINOD_EXAMPLE_DB is {kind!r}: say sqlite, postgresql or mariadb")


def _sqlite(site: str, name: str | None) -> dict[str, Any]:
    VAR_DIR.mkdir(parents=True, exist_ok=True)
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": name or VAR_DIR / f"{site}.sqlite3",
        # The web server and the daemon write at the same time: readers must not wait for them
        # (WAL), and a transaction must wait for its turn at its beginning, where it still can.
        "OPTIONS": {
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL",
            "timeout": 20,
            "transaction_mode": "IMMEDIATE",
        },
        # A file, because tests open it from several threads.
        "TEST": {"NAME": VAR_DIR / f"test_{site}.sqlite3"},
    }


def _server(kind: str, engine: str, port: str, user: str, name: str) -> dict[str, Any]:
    prefix = f"LINOD_{kind.upper()}_"
    return {
        "ENGINE": f"django.db.backends.{engine}",
        "HOST": os.environ.get(prefix + "HOST", "127.0.0.1"),
        "PORT": os.environ.get(prefix + "PORT", port),
        "USER": os.environ.get(prefix + "USER", user),
        "PASSWORD": os.environ.get(prefix + "PASSWORD", ""),
        "NAME": name,
    }


SECRET_KEY = os.environ.get("SECRET_KEY", "for the demo only: anybody can read this key")
DEBUG = os.environ.get("DEBUG", "1") == "1"
ALLOWED_HOSTS = ["localhost", "127.0.0.1", "[::1]"]

COMMON_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "linod",
    "common",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
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
ROOT_URLCONF = "common.urls"
STATIC_URL = "static/"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
TIME_ZONE = "Europe/Brussels"

# Channels: what the daemon does goes over Redis to the web server, and on to the live page.
redis = os.environ.get("LINOD_EXAMPLE_REDIS")
LINOD = {"USE_CHANNELS": bool(redis)}
if redis:
    CHANNEL_LAYERS = {
        "default": {
            "BACKEND": "channels_redis.core.RedisChannelLayer",
            "CONFIG": {"hosts": [redis]},
        }
    }

# Mail goes to a server or, by default, into files. Django 6.1 has one setting for that, and refuses
# the former ones beside it.
mail_host, mail_port = os.environ.get("EMAIL_HOST"), int(os.environ.get("EMAIL_PORT", "25"))
smtp = "django.core.mail.backends.smtp.EmailBackend"
files = "django.core.mail.backends.filebased.EmailBackend"
if django.VERSION >= (6, 1):
    server = {"host": mail_host, "port": mail_port, "timeout": 10}
    MAILERS = {
        "default": {"BACKEND": smtp, "OPTIONS": server}
        if mail_host
        else {"BACKEND": files, "OPTIONS": {"file_path": VAR_DIR / "mail"}}
    }
elif mail_host:
    EMAIL_HOST, EMAIL_PORT, EMAIL_TIMEOUT = mail_host, mail_port, 10
else:
    EMAIL_BACKEND, EMAIL_FILE_PATH = files, VAR_DIR / "mail"
DEFAULT_FROM_EMAIL = "noreply@example.com"

# The Maildir that ``inbox`` reads, and the folder into which ``publisher`` writes.
MAILDIR = Path(os.environ.get("MAILDIR") or VAR_DIR / "maildir")
PUBLISHER_ROOT = VAR_DIR / "pages"
