"""The application: who may open a websocket from where, and what becomes of other addresses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from channels.testing import HttpCommunicator, WebsocketCommunicator
from django.contrib.auth.models import AnonymousUser
from django.test import override_settings

from linod import checks, routing
from linod.apps import LinodConfig
from linod.routing import SameOrigin, is_of_this_site

IN_MEMORY = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}


@pytest.fixture(autouse=True)
def _site() -> Iterator[None]:
    with override_settings(
        LINOD={"SITE": "here", "USE_CHANNELS": True},
        CHANNEL_LAYERS=IN_MEMORY,
        ALLOWED_HOSTS=["example.com", ".example.org"],
    ):
        yield


def headers(origin: str | None, host: str = "example.com", **more: str) -> Any:
    found = [(b"host", host.encode())]
    if origin is not None:
        found.append((b"origin", origin.encode("latin-1")))
    return found + [(name.replace("_", "-").encode(), text.encode()) for name, text in more.items()]


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://example.com", "example.com"),
        ("https://example.com", "example.com"),
        ("https://EXAMPLE.com", "example.com"),
        ("http://example.com:8000", "example.com:8000"),
        ("https://www.example.org", "www.example.org"),
    ],
)
def test_pages_of_this_site(origin: str, host: str) -> None:
    assert is_of_this_site(headers(origin, host))


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        (None, "example.com"), ("", "example.com"), ("null", "example.com"),
        ("http://evil.com", "example.com"), ("http://example.com.evil.com", "example.com"),
        ("http://evil.com/example.com", "example.com"), ("http://evil.com#@example.com",
        "example.com"), ("http://example.com@evil.com", "example.com"),
        ("http://example.com:81", "example.com"), ("http://www.example.org", "example.com"),
        ("file://example.com", "example.com"), ("javascript:example.com", "example.com"),
        ("http://evil.com", "evil.com"), ("http://[", "example.com"), ("http://x", ""),
        ("http://\xe9xample.com", "example.com"), ("example.com", "example.com"),
        ("http://", "example.com"), ("http://example.com ", "example.com"),
    ],
)  # fmt: skip
def test_pages_of_others(origin: str | None, host: str) -> None:
    assert not is_of_this_site(headers(origin, host))


def test_two_origins_are_none() -> None:
    assert not is_of_this_site([*headers("http://example.com"), (b"origin", b"http://evil.com")])


def test_origins_that_are_trusted() -> None:
    trusted = ["https://front.net", "https://*.front.net"]
    with override_settings(CSRF_TRUSTED_ORIGINS=trusted):
        assert is_of_this_site(headers("https://front.net"))
        assert is_of_this_site(headers("https://a.front.net"))
        assert not is_of_this_site(headers("http://front.net"))
        assert not is_of_this_site(headers("https://front.net.evil.com"))
        assert not is_of_this_site(headers("https://evilfront.net"))


def test_behind_a_proxy() -> None:
    forwarded = headers("https://example.com", "10.0.0.1:8000", x_forwarded_host="example.com")
    assert not is_of_this_site(forwarded)
    with override_settings(USE_X_FORWARDED_HOST=True):
        assert is_of_this_site(forwarded)


def test_any_host_is_still_this_host() -> None:
    with override_settings(ALLOWED_HOSTS=["*"]):
        assert is_of_this_site(headers("http://any.net", "any.net"))
        assert not is_of_this_site(headers("http://evil.com", "any.net"))


def test_a_developer_needs_no_allowed_hosts() -> None:
    with override_settings(ALLOWED_HOSTS=[], DEBUG=True):
        assert is_of_this_site(headers("http://localhost:8000", "localhost:8000"))
        assert not is_of_this_site(headers("http://example.com"))


async def test_a_foreign_origin_is_refused_before_anybody_asks_who_it_is() -> None:
    async def never(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("it was let through")

    for origin in (None, "http://evil.com"):
        socket = WebsocketCommunicator(SameOrigin(never), "/WS/", headers=headers(origin))
        connected, _code = await socket.connect()
        assert not connected


@pytest.mark.parametrize("path", ["/", "/WS", "/WS/x", "/ws/", "/linod/"])
async def test_other_addresses_are_refused_in_order(path: str) -> None:
    application = routing.application.application_mapping["websocket"].application
    socket = WebsocketCommunicator(application, path, headers=headers("http://example.com"))
    socket.scope["user"] = AnonymousUser()
    connected, _code = await socket.connect()
    assert not connected


async def test_http_goes_to_django() -> None:
    asked = HttpCommunicator(routing.application, "GET", "/nowhere/", headers=headers(None))
    assert (await asked.get_response())["status"] == 404
    await asked.wait()


def test_three_protocols() -> None:
    assert set(routing.application.application_mapping) == {"http", "websocket", "channel"}


def test_requirements() -> None:
    assert LinodConfig.get_requirements(None) == ["channels", "channels_redis", "daphne"]
    with override_settings(LINOD={}):
        assert LinodConfig.get_requirements() == []


def test_checks() -> None:
    (found,) = checks.check_settings()
    assert found.id == "linod.W002"
    for layers in ({}, {"other": {}}, {"default": {}}):
        with override_settings(CHANNEL_LAYERS=layers):
            (found,) = checks.check_settings()
            assert found.id == "linod.E008"
            assert found.is_serious()
    redis = {"default": {"BACKEND": "channels_redis.core.RedisChannelLayer"}}
    with override_settings(CHANNEL_LAYERS=redis):
        assert checks.check_settings() == []
