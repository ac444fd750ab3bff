"""How Django finds this app, and this app the checkers."""

from django.apps import AppConfig
from django.utils.module_loading import autodiscover_modules


class CheckdataConfig(AppConfig):
    """Imports each app's ``checkers`` module."""

    name = "checkdata"

    def ready(self) -> None:
        autodiscover_modules("checkers")
