"""People at the pages: what they may do, and browsers in which they are logged in."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import Permission, User
from django.test import Client

from linod.models import BackgroundTask

#: Each action on a task, and the permission that it asks for.
ACTIONS = {
    "run_now": "run_backgroundtask",
    "cancel_request": "cancel_backgroundtask",
    "enable": "change_backgroundtask",
    "disable": "change_backgroundtask",
    "pause_until": "change_backgroundtask",
    "duplicate": "add_backgroundtask",
    "move_up": "change_backgroundtask",
    "move_down": "change_backgroundtask",
}


def person(*permissions: str, name: str = "robin", **values: Any) -> Client:
    """A browser in which a user with these permissions is logged in."""
    user = User.objects.create_user(name, **values)
    user.user_permissions.set(
        Permission.objects.filter(content_type__app_label="linod", codename__in=permissions)
    )
    client = Client()
    client.force_login(user)
    return client


def make(**values: Any) -> BackgroundTask:
    return BackgroundTask.objects.create(**{"procedure": "f", "every_unit": "daily", **values})
