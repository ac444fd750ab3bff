"""A site, its daemon and a browser for all tests of this folder.

Without Chromium (Debian: ``apt-get install chromium-headless-shell``, or ``chromium``;
``LINOD_CHROMIUM`` names another one) these tests are skipped; with LINOD_REQUIRE_SERVICES=1 that is
a failure.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from tests.browser.pictures import IMAGES
from tests.browser.serving import CHROMIUM, Served, browsing, log_in, new_context, serving
from tests.conftest import REQUIRE_SERVICES

ABSENCE = "" if CHROMIUM else "there is no Chromium (apt-get install chromium-headless-shell)"


@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    if ABSENCE and REQUIRE_SERVICES:
        pytest.fail(f"LINOD_REQUIRE_SERVICES=1, but {ABSENCE}")
    if ABSENCE:
        pytest.skip(ABSENCE)
    # Playwright keeps a loop in this thread, beside which Django would refuse its databases.
    with pytest.MonkeyPatch.context() as patch, browsing() as browser:
        patch.setitem(os.environ, "DJANGO_ALLOW_ASYNC_UNSAFE", "true")
        yield browser


@pytest.fixture(scope="package")
def served(
    chromium: Browser, tmp_path_factory: pytest.TempPathFactory, django_db_blocker: Any
) -> Iterator[Served]:
    """The site with its web server and its daemon; tests leave its tasks as they found them.

    A module that is about another site has its own fixture of this name.
    """
    folder = tmp_path_factory.mktemp("served")
    with serving("tests.browser.place", folder, django_db_blocker) as site:
        site.start_daemon()
        yield site


@pytest.fixture(scope="module")
def cookies(chromium: Browser, served: Served) -> Any:
    """What a browser keeps in which the site's manager has logged in."""
    context = log_in(chromium, served.address)
    try:
        return context.storage_state()
    finally:
        context.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where pictures go: with ``LINOD_PICTURES=1`` into the documentation."""
    return IMAGES if os.environ.get("LINOD_PICTURES") == "1" else tmp_path


@pytest.fixture
def visit(chromium: Browser, served: Served, cookies: Any) -> Iterator[Callable[..., Page]]:
    """Opens pages as the site's manager; options are those of Playwright's ``new_context``.

    In the end no page may have said anything on its console, where scripts' errors and breaches
    of the Content Security Policy are told.
    """
    contexts: list[Any] = []
    said: list[str] = []

    def open_page(path: str, **options: Any) -> Page:
        context = new_context(chromium, served.address, storage_state=cookies, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(path)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert said == []
