"""The live page over a websocket: changes arrive by themselves; without Redis it goes on asking."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, WebSocketRoute, expect

from tests.browser.pictures import LIMIT, check_fits
from tests.browser.serving import START_LIMIT, Served, new_context, serving
from tests.browser.test_live import LIVE, QUIET, card, row
from tests.live.redis_server import RedisServer


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    """A Redis of these tests' own, which they may break."""
    server = RedisServer()
    server.start()
    yield server
    server.thaw_and_kill()


@pytest.fixture(scope="module")
def served(
    chromium: Browser,
    redis: RedisServer,
    tmp_path_factory: pytest.TempPathFactory,
    django_db_blocker: Any,
) -> Iterator[Served]:
    """The site with channels, served by Daphne, and its daemon."""
    folder = tmp_path_factory.mktemp("stage")
    with serving(
        "tests.browser.stage", folder, django_db_blocker, first=QUIET,
        LINOD_BROWSER_CHANNELS=redis.url,
    ) as site:  # fmt: skip
        site.start_daemon()
        yield site


@pytest.fixture
def page(chromium: Browser, served: Served, cookies: Any) -> Iterator[Page]:
    """The live page, opened by the site's manager; on its console breaks may be told."""
    context = new_context(chromium, served.address, storage_state=cookies)
    page = context.new_page()
    page.goto(LIVE)
    expect(page.locator("#linod-link")).to_have_text("live")
    yield page
    context.close()


def test_progress_arrives_without_being_asked_for(page: Page) -> None:
    expect(page.locator("#linod-channels")).to_have_text("Channel layer answers")
    expect(page.locator("#linod-lag")).to_have_text(re.compile(r"Loop -?\d+ ms late"))
    row(page, "resize_pictures").get_by_role("button", name="Run now").click()
    done = card(page, "running").locator(".done")
    expect(done).to_contain_text("/ 60")
    # From now on nothing is fetched: what moves has come over the websocket.
    page.context.route("**/linod/state/**", lambda route: route.fulfill(json=NOTHING_NEW))
    shown = done.text_content()
    expect(done).not_to_have_text(shown or "")
    page.context.unroute_all()
    card(page, "running").get_by_role("button", name="Cancel").click()
    expect(card(page, "running")).to_contain_text("Nothing runs at the moment")


def test_pictures(page: Page, folder: Path) -> None:
    """As the documentation shows it; see ``test_live_pictures``."""
    page.set_viewport_size({"width": 1280, "height": 480})
    row(page, "back_up").get_by_role("button", name="Run now").click()
    expect(card(page, "running").locator(".done")).to_contain_text("volumes")
    expect(page.locator("#linod-lag")).to_be_visible()
    page.evaluate("document.getElementById('linod-said').replaceChildren(); scrollTo(0, 0)")
    page.evaluate("document.activeElement.blur()")
    check_fits(page)
    for suffix in ("", "-dark"):
        page.emulate_media(color_scheme="dark" if suffix else "light")
        file = folder / f"live-channels{suffix}.png"
        page.screenshot(path=file)
        assert file.stat().st_size < LIMIT
    card(page, "running").get_by_role("button", name="Cancel").click()
    expect(card(page, "running")).to_contain_text("Nothing runs at the moment")


NOTHING_NEW = {"title": "Live page", "failing": 0, "icon": "/linod/icon/0.svg", "marks": {},
               "parts": {}}  # fmt: skip


# The page of a job


def open_job(page: Page, procedure: str) -> Any:
    """Let a task run and open the page of its job; returns where that says how far it is."""
    row(page, procedure).get_by_role("button", name="Run now").click()
    card(page, "running").get_by_role("link", name=procedure).click()
    expect(page.locator("#linod-log")).to_contain_text("Start ")
    expect(page.locator("#linod-link")).to_have_text("live")
    return page.locator("#linod-progress .linod-quiet")


def cancel_job(page: Page) -> None:
    page.locator("#linod-cancel button").click()
    expect(page.locator("#linod-state")).to_have_text("cancelled")


def test_a_job_s_log_arrives_without_being_asked_for(page: Page) -> None:
    said = open_job(page, "import_orders")
    # From now on nothing can be fetched: what moves has come over the websocket.
    page.context.route("**/live/?after=*", lambda route: route.abort())
    before, lines = said.text_content(), page.locator("#linod-log span").count()
    expect(said).not_to_have_text(before or "")
    expect(page.locator("#linod-log span").nth(lines)).to_have_text(re.compile("INFO|WARNING"))
    expect(page.locator("#linod-log")).to_contain_text("50 orders are in the books")
    expect(page.locator("#linod-log span.linod-info").last).to_be_visible()
    page.context.unroute_all()
    cancel_job(page)


def test_a_job_s_page_asks_while_its_websocket_is_cut(page: Page) -> None:
    sockets: list[WebSocketRoute] = []
    is_cut = False

    def connect(socket: WebSocketRoute) -> None:
        if is_cut:
            socket.close(code=3000)
        else:
            socket.connect_to_server()
            sockets.append(socket)

    page.route_web_socket("**/WS/", connect)
    said, link = open_job(page, "check_links"), page.locator("#linod-link")
    is_cut = True
    sockets[-1].close(code=3000)
    expect(link).to_have_text("polling")
    before = said.text_content()
    expect(said).not_to_have_text(before or "")
    expect(said).to_have_text(re.compile(r"^\d+ pages, \d+ dead links$"))
    is_cut = False
    expect(link).to_have_text("live")
    cancel_job(page)


def test_without_redis_the_page_asks_and_later_listens_again(
    page: Page, redis: RedisServer
) -> None:
    link = page.locator("#linod-link")
    redis.freeze()
    try:
        expect(link).to_have_text("polling")
        row(page, "close_month").get_by_role("button", name="Disable").click()
        expect(row(page, "close_month")).to_contain_text("Disabled")
        row(page, "close_month").get_by_role("button", name="Enable").click()
        expect(row(page, "close_month")).not_to_contain_text("Disabled")
    finally:
        redis.thaw()
    expect(link).to_have_text("live")


def test_a_websocket_that_breaks_is_opened_again(page: Page, served: Served) -> None:
    link = page.locator("#linod-link")
    assert served.web is not None
    served.web.popen.kill()
    served.web.wait(START_LIMIT)
    expect(link).to_have_text("offline")
    served.start_web()
    expect(link).to_have_text("live")
