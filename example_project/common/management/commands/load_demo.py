"""``manage.py load_demo``: the demo data of every installed app that has some."""

from __future__ import annotations

from argparse import ArgumentParser
from importlib import import_module
from typing import Any

from django.apps import apps
from django.core.management.base import BaseCommand
from django.db import transaction
from django.utils.module_loading import module_has_submodule

from linod import BackgroundTask


class Command(BaseCommand):
    """Calls ``load()`` of each app's ``demo_data`` module, in the order of INSTALLED_APPS."""

    help = "Load the demo data; what exists already stays as it is."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--lively",
            type=int,
            metavar="SECONDS",
            help="let tasks that recur in seconds do so this often, the others run once at first,"
            " and all say what they do",
        )

    def handle(self, *, lively: int | None, verbosity: int, **options: Any) -> None:
        for app in apps.get_app_configs():
            if app.module is not None and module_has_submodule(app.module, "demo_data"):
                with transaction.atomic():
                    import_module(f"{app.name}.demo_data").load()
                if verbosity > 1:
                    self.stdout.write(f"Loaded the demo data of {app.label}")
        if lively is not None:
            enliven(lively)


def enliven(seconds: int) -> None:
    """Give somebody who watches something to see."""
    for task in BackgroundTask.objects.enabled():
        task.log_level = "INFO"
        if task.every_unit == "secondly":
            task.every = seconds
        else:
            task.request_run()
        task.save()
