"""What the database does not do for now: a message, on the page where somebody clicked."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any
from urllib.parse import urljoin

from django.contrib import messages
from django.db import Error
from django.http import HttpRequest, HttpResponseRedirect

from linod import health

View = Callable[..., Any]


def or_excuse(back: str = "", *, of_several: bool = False) -> Callable[[View], View]:
    """For a view of a ``ModelAdmin``, what :func:`linod.views.or_excuse` is for one of the site.

    :param back: where that page is, from the view's own address.
    :param of_several: see :func:`linod.health.excuse`.
    """

    def excused(view: View) -> View:
        @wraps(view)
        def guarded(self: Any, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            try:
                return view(self, request, *args, **kwargs)
            except Error as error:
                text = health.excuse(error, of_several=of_several)
                if not text:
                    raise
            self.message_user(request, text, messages.ERROR)
            return HttpResponseRedirect(urljoin(request.get_full_path(), back))

        return guarded

    return excused
