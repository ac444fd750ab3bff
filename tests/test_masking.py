"""What is masked before a record leaves its process, and what is left alone."""

from __future__ import annotations

from typing import Any

import pytest
from django.conf import settings
from django.core import mail
from django.test import override_settings

from linod.masking import known_secrets, mask


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("redis://:hunter2@localhost:6379/0", "redis://***@localhost:6379/0"),
        ("at https://robin:pw%40x@example.com/a@b", "at https://***@example.com/a@b"),
        ("https://ghp_0123456789@github.com/x", "https://***@github.com/x"),
        ("Authorization: Basic cm9iaW46aHVudGVyMg==", "Authorization: ***"),
        ("proxy-authorization=Bearer abc def\nnext", "proxy-authorization=***\nnext"),
        ("{'Authorization': 'Bearer abc', 'X': 1}", "{'Authorization': '***', 'X': 1}"),
        ('{"authorization": "Token abc", "x": 1}', '{"authorization": "***", "x": 1}'),
        ("[(b'cookie', b'a=b; c=d'), (b'x', b'y')]", "[(b'cookie', b'***'), (b'x', b'y')]"),
        ("Set-Cookie: sessionid=abc; HttpOnly", "Set-Cookie: ***"),
        ("{'HTTP_COOKIE': 'sessionid=abc', 'X': 1}", "{'HTTP_COOKIE': '***', 'X': 1}"),
        (r"'{\'Cookie\': \'a=b\', \'X\': 1}'", r"'{\'Cookie\': \'***\', \'X\': 1}'"),
        ("sent Bearer eyJhbGciOi.abc-def", "sent Bearer ***"),
        ("host=db password=hunter2 user=x", "host=db password=*** user=x"),
        ("?api_key=abc&x=1", "?api_key=***&x=1"),
        ("{'password': 'hun ter', 'x': 1}", "{'password': '***', 'x': 1}"),
        ("Cookie: 'unfinished", "Cookie: '***'"),
    ],
)  # fmt: skip
def test_by_place(text: str, masked: str) -> None:
    assert mask(text) == masked


@pytest.mark.parametrize(
    "text",
    [
        "GET https://example.com/robin@example.com",
        "mail to robin@example.com",
        "No cookie was set",
        "The password is too short",
        "basic training",
        "Token expired",
        "12:30: started",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert mask(text) == text


def test_by_value() -> None:
    assert mask("a hunter2 b hunter2", ("hunter2",)) == "a *** b ***"


def test_the_secrets_of_a_site(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(settings.DATABASES["default"], "PASSWORD", "db-pass")
    # Since Django 6.1 a mail server's password stands in MAILERS, and nowhere beside it.
    server = {"BACKEND": "x", "OPTIONS": {"password": "mail-pass"}}
    mailing: dict[str, Any] = (
        {"MAILERS": {"default": server}}
        if hasattr(mail, "mailers")
        else {"EMAIL_HOST_PASSWORD": "mail-pass"}
    )
    with override_settings(
        **mailing,
        SECRET_KEY="the-secret-key",
        SECRET_KEY_FALLBACKS=["the-former-key"],
        CELERY_BROKER_URL="amqp://user:broker%40pass@host//",
        CACHES={"default": {"BACKEND": "x", "LOCATION": ["redis://:cache-pass@host/1"]}},
        STRIPE_API_KEY="sk_live_1",
        MY_CLIENT={"client_secret": "deep-secret"},
        SHORT_PASSWORD="abc",
    ):
        found = known_secrets()
    assert found is not None
    assert set(found) >= {
        "the-secret-key",
        "the-former-key",
        "mail-pass",
        "broker%40pass",
        "broker@pass",
        "cache-pass",
        "sk_live_1",
        "deep-secret",
        "db-pass",
    }
    assert "abc" not in found
    assert list(found) == sorted(found, key=len, reverse=True)  # a longer one is masked first


def test_django_s_defaults_are_no_secrets() -> None:
    assert settings.DATABASES["default"].get("PASSWORD", "") in ("", *(known_secrets() or ()))
    assert set(known_secrets() or ()) <= {
        settings.SECRET_KEY,
        settings.DATABASES["default"].get("PASSWORD"),
    }
