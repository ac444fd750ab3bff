"""The site's ASGI application with all that linod serves: ``daphne linod.routing:application``.

A site that has an application of its own takes :data:`websocket_urlpatterns` and wraps them as it
is done here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

from channels.auth import AuthMiddlewareStack
from channels.routing import ChannelNameRouter, ProtocolTypeRouter, URLRouter
from channels.security.websocket import WebsocketDenier
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http.request import split_domain_port, validate_host
from django.urls import path, re_path
from django.utils.http import is_same_domain

# Sets Django up: what comes after it may import models.
http = get_asgi_application()

from linod.conf import config  # noqa: E402
from linod.consumers import LinodConsumer, LiveConsumer, Refusal  # noqa: E402
from linod.layers import WEBSOCKET, command_channel  # noqa: E402

Application = Callable[[dict[str, Any], Any, Any], Awaitable[None]]


class SameOrigin:
    """Lets websockets through that a page of this very site opens; refuses the handshake of others.

    The rule is that of Django's CSRF protection: the ``Origin`` must name the host that was asked,
    which must be in ``ALLOWED_HOSTS``, or be one of ``CSRF_TRUSTED_ORIGINS``. The scheme is not
    compared: behind a proxy that ends TLS, the application does not see it.
    """

    def __init__(self, application: Application) -> None:
        self.application = application

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Hand the connection on, or refuse it before anybody looks at who it is."""
        allowed = is_of_this_site(scope.get("headers", []))
        await (self.application if allowed else WebsocketDenier())(scope, receive, send)


def is_of_this_site(headers: list[tuple[bytes, bytes]]) -> bool:
    """Whether a handshake with these headers comes from a page of this site."""
    said = {name.lower(): value.decode("latin-1") for name, value in headers}
    origins = [value for name, value in headers if name.lower() == b"origin"]
    host = said.get(b"host", "")
    if settings.USE_X_FORWARDED_HOST and b"x-forwarded-host" in said:
        host = said[b"x-forwarded-host"]
    hosts = settings.ALLOWED_HOSTS
    if settings.DEBUG and not hosts:
        hosts = [".localhost", "127.0.0.1", "[::1]"]
    domain, _port = split_domain_port(host)
    if len(origins) != 1 or not domain or not validate_host(domain, hosts):
        return False
    try:
        origin = urlsplit(said[b"origin"])
    except ValueError:
        return False
    if origin.scheme not in ("http", "https") or not origin.netloc:
        return False
    return origin.netloc.lower() == host.lower() or is_trusted(origin.scheme, origin.netloc)


def is_trusted(scheme: str, netloc: str) -> bool:
    """Whether ``CSRF_TRUSTED_ORIGINS`` names this origin, itself or by ``https://*.domain``."""
    for trusted in map(urlsplit, settings.CSRF_TRUSTED_ORIGINS):
        pattern = trusted.netloc.removeprefix("*") if "*" in trusted.netloc else trusted.netloc
        if trusted.scheme == scheme and is_same_domain(netloc, pattern):
            return True
    return False


#: The websocket of the live page and of a job's page.
websocket_urlpatterns = [path(WEBSOCKET, LiveConsumer.as_asgi())]

application = ProtocolTypeRouter(
    {
        "http": http,
        "websocket": SameOrigin(
            AuthMiddlewareStack(URLRouter([*websocket_urlpatterns, re_path("", Refusal.as_asgi())]))
        ),
        "channel": ChannelNameRouter({command_channel(config().SITE): LinodConsumer.as_asgi()}),
    }
)
