"""Notifications for the people of the demo."""

from django.contrib.auth import get_user_model

from notify.models import MailMode, MailPreference, Message

MODES = {"luc": MailMode.OFTEN, "mathieu": MailMode.DAILY, "monique": MailMode.NEVER}
SUBJECTS = ("Your ticket was closed", "A comment on your ticket", "You were assigned a ticket")


def load() -> None:
    """Queue three notifications for each user, unless there are some."""
    if Message.objects.exists():
        return
    for user in get_user_model().objects.order_by("pk"):
        mode = MODES.get(user.get_username(), MailMode.OFTEN)
        MailPreference.objects.get_or_create(user=user, defaults={"mail_mode": mode})
        for number, subject in enumerate(SUBJECTS, start=1):
            Message.objects.notify(user, f"{subject} (#{number})", "Have a look when you can.")
