"""The Django app: what is wired when a site starts."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

from django.apps import AppConfig, apps
from django.db.models.signals import post_migrate
from django.utils.translation import gettext_lazy as _


class LinodConfig(AppConfig):
    """``INSTALLED_APPS = [..., "linod"]``."""

    name = "linod"
    verbose_name = _("Lino daemon")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from linod import alerts, checks, claims, wakeup

        discover()
        checks.register()
        wakeup.connect()
        alerts.connect()
        claims.connect()
        post_migrate.connect(_sync_after_migrate, sender=self, dispatch_uid="linod.sync")

    @staticmethod
    def get_requirements(site: Any = None) -> list[str]:
        """The packages that this site's settings need beside linod's own."""
        from linod.conf import config

        return ["channels", "channels_redis", "daphne"] if config().USE_CHANNELS else []


def discover() -> None:
    """Import each app's ``procedures`` and ``tasks`` modules: declarations happen there.

    An error inside such a module is the site's to see; only its absence is fine.
    """
    for app in apps.get_app_configs():
        for name in ("procedures", "tasks"):
            module = f"{app.name}.{name}"
            if app.name != "linod" and importlib.util.find_spec(module) is not None:
                importlib.import_module(module)


def _sync_after_migrate(*, using: str, **kwargs: Any) -> None:
    from django.db import router

    from linod.conf import config
    from linod.models import BackgroundTask
    from linod.sync import sync

    # Other apps may be migrated before linod is, or linod back to nothing; who flushes names none.
    state = kwargs.get("apps")
    if state is not None and "backgroundtask" not in state.all_models["linod"]:
        return
    if using == config().DATABASE and router.allow_migrate_model(using, BackgroundTask):
        sync(using)
