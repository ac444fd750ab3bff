"""The people of the demo; each has an address, one of them a password."""

from django.contrib.auth import get_user_model

#: The demo login. It is public: a site that others can reach must not have it.
USERNAME = "robin"
PASSWORD = "demo"


def load() -> None:
    """Make the users; those that exist stay as they are."""
    users = get_user_model().objects
    if not users.filter(username=USERNAME).exists():
        users.create_superuser(USERNAME, "robin@example.com", PASSWORD, first_name="Robin")
    for name in ("luc", "mathieu", "monique"):
        if not users.filter(username=name).exists():
            users.create_user(name, f"{name}@example.com", first_name=name.title())
