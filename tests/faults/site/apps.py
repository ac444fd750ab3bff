"""What listens inside a daemon that is tested: the traps, when the harness wants any."""

from __future__ import annotations

import faulthandler
import os
import signal

from django.apps import AppConfig


class FaultSiteConfig(AppConfig):
    name = "tests.faults.site"
    label = "faultsite"

    def ready(self) -> None:
        from tests.faults.site import traps

        if traps.VARIABLE in os.environ:
            faulthandler.register(signal.SIGUSR1, all_threads=True)
            traps.install()
