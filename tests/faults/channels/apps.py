"""The application whose procedures run while the channel layer fails."""

from django.apps import AppConfig


class P10Config(AppConfig):
    """Called p10: ``channels`` is somebody else's name."""

    name = "tests.faults.channels"
    label = "p10"
