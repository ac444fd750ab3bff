"""A site that is served, its daemon, and the browser that visits it."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, expect, sync_playwright

from tests.example import Process, Site, new_site
from tests.ports import free_port, is_open

#: The one without windows needs a quarter less of the processors.
NAMES = ("chromium-headless-shell", "chromium")
NAMED = os.environ.get("LINOD_CHROMIUM")
CHROMIUM = next(filter(None, map(shutil.which, [NAMED] if NAMED else NAMES)), None)
#: A browser that asks for nothing but what it is told.
OPTIONS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    " --disable-component-update --disable-sync --disable-dev-shm-usage --hide-scrollbars"
).split()
START_LIMIT = 90  # seconds; on a busy machine all of it may be needed
#: Milliseconds that a page gets to show what it must show.
PATIENCE = 60_000
USERNAME, PASSWORD = "robin", "demo"


class Served:
    """A site with its web server and its daemon."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.port = free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self.web: Process | None = None
        self.daemon: Process | None = None

    def start_web(self) -> None:
        """Serve the site; with channels Daphne does, as it is among the applications then."""
        command = ("runserver", "--noreload", "--skip-checks", f"127.0.0.1:{self.port}")
        self.web = self.site.start("manage.py", *command)
        self.web.wait_until(lambda: is_open(self.port), START_LIMIT, "the web server answers")

    def start_daemon(self) -> None:
        """Start the daemon and wait until it is there."""
        self.daemon = self.site.start("manage.py", "linod")
        there = f"SELECT COUNT(*) FROM linod_daemon WHERE pid = {self.daemon.popen.pid}"
        self.daemon.wait_until(lambda: self.site.number(there), START_LIMIT, "the daemon is there")

    def stop_daemon(self) -> None:
        """End the daemon, if it lives."""
        if self.daemon is not None and self.daemon.popen.poll() is None:
            self.daemon.end(signal.SIGTERM)

    def task(self, procedure: str) -> int:
        """The key of that procedure's task."""
        return self.site.number(
            f"SELECT id FROM linod_backgroundtask WHERE procedure = '{procedure}'"
        )


@contextmanager
def serving(
    name: str, folder: Path, blocker: Any, *loading: str, first: str = "", **variables: str
) -> Iterator[Served]:
    """A site with its demo data and its web server; whoever wants a daemon starts it.

    :param name: the package of its settings.
    :param blocker: as for :func:`tests.example.new_site`, which also takes the variables.
    :param loading: options of ``load_demo``.
    :param first: code that runs on the site before it is served.
    """
    with new_site(name, folder, blocker, **variables) as site:
        site.manage("migrate", "--verbosity=0")
        site.manage("load_demo", *loading)
        if first:
            site.python(first)
        served = Served(site)
        served.start_web()
        yield served


@contextmanager
def browsing() -> Iterator[Browser]:
    """A browser without a window, whose pages get :data:`PATIENCE`."""
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        try:
            yield browser
        finally:
            browser.close()


def new_context(browser: Browser, address: str, **options: Any) -> Any:
    """A browser's profile on that site; options are those of Playwright's ``new_context``."""
    context = browser.new_context(base_url=address, locale="en", **options)
    context.set_default_timeout(PATIENCE)
    return context


def log_in(browser: Browser, address: str, username: str = USERNAME, **options: Any) -> Any:
    """A browser's profile in which that user has logged in by the admin's form; see its cookies."""
    context = new_context(browser, address, **options)
    page = context.new_page()
    page.goto("/admin/login/")
    page.fill("#id_username", username)
    page.fill("#id_password", PASSWORD)
    page.click("[type=submit]")
    page.wait_for_selector("#user-tools")
    page.close()
    return context
