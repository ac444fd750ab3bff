"""The live page as the documentation shows it, and that it fits into every window.

With ``LINOD_PICTURES=1`` the pictures are written to ``docs/images``; else they are thrown away.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.pictures import check_fits
from tests.browser.serving import Served, new_context, serving
from tests.browser.test_live import LIVE, card
from tests.example import EXAMPLE

WIDE = {"width": 1280, "height": 900}
SIZES: dict[str, dict[str, Any]] = {
    "light": {"viewport": WIDE},
    "dark": {"viewport": WIDE, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2},
}
#: A supplier who stays silent for certain, so that there is something to see.
SILENT = """
task = BackgroundTask.objects.get(procedure='ask_suppliers')
task.arguments = {'silent': 1, 'pause': 1}
task.save()
"""

#: Tracebacks of the documentation come from no particular machine.
ELSEWHERE = """
folder => document.querySelectorAll("pre.log .line").forEach(
    line => { line.textContent = line.textContent.replaceAll(folder, "/srv/shop"); })
"""


@pytest.fixture(scope="module")
def served(
    chromium: Browser, tmp_path_factory: pytest.TempPathFactory, django_db_blocker: Any
) -> Iterator[Served]:
    """The site as ``make demo`` starts it, a moment later."""
    folder = tmp_path_factory.mktemp("stage")
    with serving(
        "tests.browser.stage", folder, django_db_blocker, "--lively=3", first=SILENT
    ) as site:
        yield site


def opened(chromium: Browser, served: Served, cookies: Any, **options: Any) -> Page:
    page: Page = new_context(chromium, served.address, storage_state=cookies, **options).new_page()
    page.goto(LIVE)
    return page


def test_where_no_daemon_is_alive(
    chromium: Browser, served: Served, cookies: Any, folder: Path
) -> None:
    page = opened(chromium, served, cookies, viewport={"width": 1280, "height": 440})
    expect(page.locator(".strip")).to_have_class(re.compile("is-down"))
    check_fits(page)
    page.screenshot(path=folder / "live-no-daemon.png")
    page.context.close()


def test_at_work(chromium: Browser, served: Served, cookies: Any, folder: Path) -> None:
    """One daemon works while the page is looked at in each size."""
    served.start_daemon()
    for name, options in SIZES.items():
        page = opened(chromium, served, cookies, **options)
        expect(card(page, "failing")).to_contain_text("ask_suppliers")
        moving = card(page, "running").locator(".done").filter(has_text="/")
        expect(moving.nth(1)).to_be_visible()
        expect(page.locator(".strip")).to_contain_text("Starts on time")
        expect(page.locator("tr[data-key] .lane .planned").first).to_be_attached()
        page.evaluate(ELSEWHERE, str(EXAMPLE))
        check_fits(page)
        page.screenshot(path=folder / f"live-{name}.png", full_page=name != "phone")
        page.context.close()
    served.stop_daemon()


@pytest.mark.parametrize("width", [320, 600, 768, 1024, 1920])
def test_it_fits_into_every_window(
    width: int, chromium: Browser, served: Served, cookies: Any
) -> None:
    page = opened(chromium, served, cookies, viewport={"width": width, "height": 800})
    check_fits(page)
    page.context.close()
