"""``manage.py linod``: run the daemon, or answer a question about it."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from linod.daemon import Daemon


class Command(BaseCommand):
    """Runs the site's background tasks until it is stopped."""

    help = "Run a Lino daemon for this site."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--once", action="store_true", help="Run what is due now, then end.")

    def handle(self, *args: Any, **options: Any) -> None:
        daemon = Daemon(once=options["once"])
        code = asyncio.run(daemon.run())
        os._exit(code)
