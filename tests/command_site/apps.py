"""How Django finds the application."""

from django.apps import AppConfig


class CommandSiteConfig(AppConfig):
    name = "tests.command_site"
