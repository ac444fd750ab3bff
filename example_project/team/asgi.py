"""The site over ASGI: ``daphne team.asgi:application``, with the websocket of the live page."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "team.settings")

from django.conf import settings
from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler

from linod.routing import application

if settings.DEBUG:
    # In production the web server in front of Daphne serves them.
    application = ASGIStaticFilesHandler(application)
