"""The live page in a real browser: it moves, it acts, it says when nothing runs any more.

The site is the example's ``tour``, served under a strict Content Security Policy.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.serving import START_LIMIT, Served, log_in, new_context, serving
from tests.daemons import wait_until

LIVE = "/linod/"
SCRIPT = "<script>window.hacked=1</script><img src=x onerror=window.hacked=1>"
#: Nothing runs by itself, so that each test sees what it does.
QUIET = "BackgroundTask.objects.update(next_run_at=None, every_unit='never')"
ASKED = (
    "SELECT COUNT(*) FROM linod_decision WHERE kind = 'requested' AND task_id IN"
    " (SELECT id FROM linod_backgroundtask WHERE procedure = '{}')"
)


@pytest.fixture(scope="module")
def served(
    chromium: Browser, tmp_path_factory: pytest.TempPathFactory, django_db_blocker: Any
) -> Iterator[Served]:
    """The site with its web server; tests start their daemon."""
    folder = tmp_path_factory.mktemp("stage")
    with serving("tests.browser.stage", folder, django_db_blocker, first=QUIET) as site:
        yield site


@pytest.fixture
def daemon(served: Served) -> Iterator[Served]:
    """The site with a daemon at work."""
    served.start_daemon()
    yield served
    served.stop_daemon()


def row(page: Page, procedure: str) -> Any:
    """The row of that task in the table of tasks."""
    return page.locator("table.tasks tbody tr").filter(
        has=page.get_by_role("link", name=procedure, exact=True)
    )


def card(page: Page, name: str) -> Any:
    return page.locator(f".card[data-key={name}]")


def test_run_now_from_the_page_and_watch_the_progress(
    daemon: Served, visit: Callable[..., Page]
) -> None:
    page = visit(LIVE)
    expect(page.locator("#linod-link")).to_have_text("polling")
    expect(page.locator(".strip")).to_contain_text("1 daemon is alive")
    button = row(page, "resize_pictures").get_by_role("button", name="Run now")
    button.click()
    expect(page.locator("#linod-said")).to_contain_text("resize_pictures is requested to run")
    bar = card(page, "running").locator("progress")
    expect(bar).to_have_attribute("max", "60")
    first = float(bar.get_attribute("value") or "nothing")
    page.wait_for_function(
        "first => Number(document.querySelector('progress').getAttribute('value')) > first",
        arg=first,
    )
    expect(row(page, "resize_pictures")).to_contain_text("Running since")
    expect(page.locator("tr[data-key] .lane .running")).to_have_count(1)
    card(page, "running").get_by_role("button", name="Cancel").click()
    expect(card(page, "running")).to_contain_text("Nothing runs at the moment")
    states = daemon.site.rows(
        "SELECT state FROM linod_job WHERE host != 'workshop' AND procedure = 'resize_pictures'"
    )
    assert states == [("cancelled",)]
    who = daemon.site.rows("SELECT DISTINCT who FROM linod_decision WHERE kind = 'cancelled'")
    assert who == [("robin",)]


def test_without_javascript_the_page_is_whole_and_its_buttons_work(
    daemon: Served, visit: Callable[..., Page]
) -> None:
    page = visit(LIVE, java_script_enabled=False)
    expect(page.locator("#linod-link")).to_be_hidden()
    expect(page.locator(".strip")).to_contain_text("1 daemon is alive")
    row(page, "clear_seen_messages").get_by_role("button", name="Run now").click()
    expect(page.locator(".messagelist li.success")).to_contain_text("is requested to run")
    done = "SELECT COUNT(*) FROM linod_job WHERE procedure = 'clear_seen_messages'"
    assert daemon.daemon is not None
    daemon.daemon.wait_until(lambda: daemon.site.number(done) > 0, START_LIMIT, "it ran")
    page.goto(f"{LIVE}?show=paused")
    expect(page.locator("table.tasks tbody tr")).to_have_count(1)
    row(page, "print_catalogue").get_by_role("button", name="Enable").click()
    assert page.url.endswith("?show=paused")
    expect(page.locator(".messagelist li.success")).to_contain_text("was enabled")


def set_row(site: Served, procedure: str, **values: Any) -> None:
    """Write what only the engine writes, or a form that is tested elsewhere."""
    site.site.python(f"BackgroundTask.objects.filter(procedure={procedure!r}).update(**{values!r})")


def test_a_failure_raises_the_number_in_the_title(
    daemon: Served, visit: Callable[..., Page]
) -> None:
    page = visit(LIVE)
    icon = page.locator("link[rel=icon]")
    expect(page).to_have_title(re.compile("^Live page"))
    set_row(daemon, "ask_suppliers", arguments={"silent": 1, "pause": 0})
    row(page, "ask_suppliers").get_by_role("button", name="Run now").click()
    expect(page).to_have_title(re.compile(r"^\(1\) Live page"))
    expect(icon).to_have_attribute("href", "/linod/icon/1.svg")
    expect(card(page, "failing")).to_contain_text("ask_suppliers")
    failures = page.locator("table.failures tbody tr").first
    expect(failures).to_contain_text("Copper Lane does not answer")
    expect(page.locator("pre.log")).to_contain_text("Copper Lane does not answer")
    expect(page.locator("pre.log .is-warning").first).to_be_visible()
    set_row(daemon, "ask_suppliers", arguments={"silent": 0, "pause": 0})
    button = row(page, "ask_suppliers").get_by_role("button", name="Run now")

    def asked_again() -> bool:
        """Refused until the pause between two requests is over."""
        button.click()
        expect(button).to_be_enabled()
        return daemon.site.number(ASKED.format("ask_suppliers")) > 1

    wait_until(asked_again, "it may be asked for again")
    expect(page).to_have_title(re.compile("^Live page"))
    expect(icon).to_have_attribute("href", "/linod/icon/0.svg")


def test_a_daemon_that_is_killed_is_missed(served: Served, visit: Callable[..., Page]) -> None:
    served.start_daemon()
    assert served.daemon is not None
    page = visit(LIVE)
    strip = page.locator(".strip")
    expect(strip).not_to_have_class(re.compile("is-down"))
    served.daemon.popen.kill()
    served.daemon.wait(START_LIMIT)
    expect(strip).to_have_class(re.compile("is-down"))
    expect(page.get_by_role("status").filter(has_text="No daemon is alive")).to_contain_text(
        "python manage.py linod"
    )
    served.start_daemon()
    expect(strip).not_to_have_class(re.compile("is-down"))
    served.stop_daemon()


def test_a_web_server_that_is_gone_is_told_and_comes_back(
    served: Served, chromium: Browser, cookies: Any
) -> None:
    context = new_context(chromium, served.address, storage_state=cookies)
    page = context.new_page()
    page.goto(LIVE)
    link = page.locator("#linod-link")
    expect(link).to_have_text("polling")
    context.route("**/linod/state/**", lambda route: route.fulfill(status=502))
    expect(link).to_have_text("offline")
    context.unroute_all()
    expect(link).to_have_text("polling")
    context.close()


def test_whoever_logs_out_elsewhere_is_told(served: Served, chromium: Browser) -> None:
    context = log_in(chromium, served.address)
    page = context.new_page()
    page.goto(LIVE)
    context.clear_cookies()
    expect(page.locator("#linod-said")).to_contain_text("You are logged out")
    expect(page.locator("#linod-link")).to_have_text("offline")
    context.close()


def test_the_keyboard_is_enough_and_keeps_its_place(
    daemon: Served, visit: Callable[..., Page]
) -> None:
    page = visit(LIVE)
    set_row(daemon, "close_month", failures=0)
    page.locator("#linod-q").focus()
    page.keyboard.type("close")
    with page.expect_navigation():
        page.keyboard.press("Enter")
    expect(page.locator("table.tasks tbody tr")).to_have_count(1)
    button = row(page, "close_month").get_by_role("button", name="Disable: close_month")
    button.focus()
    page.keyboard.press("Enter")
    again = row(page, "close_month").get_by_role("button", name="Enable: close_month")
    expect(again).to_be_visible()
    # The button is gone, its row is not: one goes on where one was.
    inside = "document.activeElement.closest('table.tasks tbody tr') !== null"
    assert page.evaluate(inside)
    again.focus()
    page.keyboard.press("Enter")
    expect(button).to_be_visible()
    # What is typed while parts are replaced stays, and so does the focus.
    page.locator("#linod-q").fill("half a wo")
    set_row(daemon, "close_month", failures=1)
    expect(row(page, "close_month")).to_contain_text("failed")
    assert page.locator("#linod-q").input_value() == "half a wo"
    expect(page.locator("#linod-q")).to_be_focused()
    set_row(daemon, "close_month", failures=0)


def test_foreign_texts_make_no_nodes(daemon: Served, visit: Callable[..., Page]) -> None:
    set_row(daemon, "close_month", name=SCRIPT, disabled=True, disabled_reason=SCRIPT)
    # The daemon is the log server: its file is there as soon as somebody's record is.
    daemon.site.python(f"import logging; logging.getLogger('shop').error({SCRIPT!r})")
    page = visit(LIVE)
    expect(row(page, "close_month")).to_contain_text(SCRIPT)
    expect(page.locator("pre.log")).to_contain_text(SCRIPT)
    # Once more by the script, which puts the parts in place.
    set_row(daemon, "close_month", name=SCRIPT + "2")
    expect(row(page, "close_month")).to_contain_text(SCRIPT + "2")
    assert page.evaluate("window.hacked") is None
    assert page.locator("main img").count() == 0
    assert page.locator("main script:not([type='application/json'])").count() == 0
    set_row(daemon, "close_month", name="close_month", disabled=False, disabled_reason="")
