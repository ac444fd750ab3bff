"""What tests that take pictures share."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Page

IMAGES = Path(__file__).parents[2] / "docs" / "images"
#: A file in the documentation is smaller, in bytes.
LIMIT = 150 * 1024


def check_fits(page: Page) -> None:
    """Nothing makes the page wider than its window."""
    assert page.viewport_size is not None
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]
