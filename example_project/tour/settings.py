"""The site ``tour``: what ``team`` does, and work that one can watch; with a log server."""

from common.settings import *  # noqa: F403 - all that the sites share
from common.settings import COMMON_APPS, LINOD, VAR_DIR, databases

from linod.loghandler import logging_config

DATABASES = databases("tour")
INSTALLED_APPS = [*COMMON_APPS, "notify", "inbox", "workshop"]
LOGGING = logging_config(VAR_DIR / "log")
# The live page asks every few seconds: nobody wants to read that.
LOGGING["loggers"] = {"django.server": {"level": "WARNING"}}
# Ctrl-C ends the demo soon, although its work takes longer.
LINOD = LINOD | {"GRACE": 3}
