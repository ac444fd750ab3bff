"""The admin as a site's manager uses it: the rule that is typed, a job at work, a task left out."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.serving import Served, log_in, new_context
from tests.daemons import wait_until

Visit = Callable[..., Page]

TASKS = "/admin/linod/backgroundtask/"
JOBS = "/admin/linod/job/"


@pytest.fixture
def slow_task(served: Served) -> Iterator[int]:
    """A task that counts for minutes, unless it is cancelled; at rest before and after."""
    key = served.task("count_slowly")
    task = f"BackgroundTask.objects.filter(pk={key})"
    # Nobody has asked for it lately.
    forget = "from linod.history import Decision; Decision.objects.all().delete();"
    served.site.python(f"{forget} {task}.update(arguments=dict(steps=1000, pause=0.3), every=1)")
    yield key
    running = f"SELECT COUNT(*) FROM linod_job WHERE active_task = {key}"
    jobs = f"Job.objects.filter(active_task={key})"
    served.site.python(
        f"from linod import claims; [claims.cancel('default', j.pk) for j in {jobs}]"
    )
    wait_until(lambda: not served.site.number(running), "the job stops")
    served.site.python(f"[task.enable() for task in {task}]")


def run_now(page: Page, key: int) -> None:
    """Run a task from its own page."""
    page.goto(f"{TASKS}{key}/change/")
    page.click("text=Run now")
    expect(page.locator(".messagelist")).to_contain_text("1 task is requested to run.")


def open_job(page: Page, key: int) -> None:
    """Open the newest job of a task, from the list of its jobs."""
    page.goto(f"{JOBS}?task={key}")
    first = page.locator("#result_list tbody tr").first
    expect(first).to_contain_text("count_slowly")
    first.locator("a").first.click()
    expect(page.locator("h1").last).to_contain_text("Job of count_slowly")


def test_a_log_arrives_while_the_job_runs_and_cancel_ends_it(
    visit: Visit, served: Served, slow_task: int
) -> None:
    page = visit(TASKS)
    run_now(page, slow_task)
    active = f"SELECT COUNT(*) FROM linod_job WHERE state = 'running' AND active_task = {slow_task}"
    wait_until(lambda: served.site.number(active), "the job runs")
    open_job(page, slow_task)
    log, state = page.locator("#linod-log"), page.locator("#linod-state")
    expect(log).to_contain_text("Sheep number 1 jumped")
    expect(state).to_have_text("running")
    expect(page.locator("#linod-progress progress")).to_have_attribute("max", "1000")
    # Nobody loads the page again: what comes now comes by itself.
    before = log.locator("span").count()
    expect(log.locator("span").nth(before + 5)).to_be_attached()
    assert log.evaluate("e => e.scrollHeight - e.scrollTop - e.clientHeight") < 40
    page.click("text=Cancel")
    expect(page.locator(".messagelist")).to_contain_text("The job is asked to stop.")
    expect(state).to_have_text("cancelled")
    expect(page.locator("#linod-cancel")).to_have_count(0)
    lines = [text.strip() for text in log.locator("span").all_inner_texts()]
    numbers = [int(n) for line in lines for n in re.findall(r"Sheep number (\d+)", line)]
    assert numbers == list(range(1, len(numbers) + 1))


def test_whoever_scrolls_back_is_left_to_read(visit: Visit, served: Served, slow_task: int) -> None:
    served.site.python(
        f"BackgroundTask.objects.filter(pk={slow_task}).update(arguments=dict(steps=9000,"
        " pause=0.01))"
    )
    page = visit(TASKS)
    run_now(page, slow_task)
    open_job(page, slow_task)
    log, follow = page.locator("#linod-log"), page.locator("#linod-follow")
    expect(log.locator("span").nth(150)).to_be_attached()
    log.evaluate("e => { e.scrollTop = 0; }")
    expect(follow).not_to_be_checked()
    before = log.locator("span").count()
    expect(log.locator("span").nth(before + 20)).to_be_attached()
    assert log.evaluate("e => e.scrollTop") == 0
    follow.check()
    assert log.evaluate("e => e.scrollHeight - e.scrollTop - e.clientHeight") < 40


def test_a_task_is_disabled_with_a_reason_and_enabled(
    visit: Visit, served: Served, slow_task: int
) -> None:
    page = visit(f"{TASKS}?q=count_slowly")
    page.check(".action-select")
    page.select_option("[name=action]", "disable")
    page.click("button[name=index]")  # "Go", since Django 6.1 "Run"
    expect(page.locator(".linod-confirm")).to_contain_text("count_slowly")
    page.fill("[name=reason]", "The sheep are asleep")
    page.click(".submit-row [type=submit]")
    expect(page.locator(".messagelist")).to_contain_text("1 task was disabled.")
    expect(page.locator(".field-status")).to_have_text("Disabled")
    page.goto(f"{TASKS}{slow_task}/why/")
    expect(page.locator("main")).to_contain_text("The sheep are asleep")
    page.goto(f"{TASKS}{slow_task}/change/")
    page.click("text=Enable")
    expect(page.locator(".messagelist")).to_contain_text("1 task was enabled.")


def test_a_task_is_paused(visit: Visit, slow_task: int) -> None:
    page = visit(f"{TASKS}{slow_task}/change/")
    page.click("text=Pause until")
    page.click(".submit-row [type=submit]")
    expect(page.locator(".errorlist")).to_contain_text("This field is required.")
    page.fill("[name=until_0]", "2020-01-01")
    page.fill("[name=until_1]", "08:00:00")
    page.click(".submit-row [type=submit]")
    expect(page.locator(".errorlist")).to_contain_text("This moment is over.")
    page.fill("[name=until_0]", "2099-01-01")
    page.click(".submit-row [type=submit]")
    expect(page.locator(".messagelist")).to_contain_text("1 task is paused.")
    expect(page.locator(".field-status .linod-state")).to_have_text(
        "Disabled until 2099-01-01 08:00:00"
    )


def test_a_rule_is_explained_while_it_is_typed(visit: Visit, slow_task: int) -> None:
    page = visit(f"{TASKS}{slow_task}/change/")
    words, runs = page.locator("#linod-preview .linod-words"), page.locator("#linod-preview li")
    expect(words).to_have_text("Never")
    page.select_option("#id_every_unit", "daily")
    page.fill("#id_start_date", "2027-03-24")
    page.fill("#id_start_time", "02:30")
    expect(words).to_have_text("Every day at 02:30")
    expect(runs).to_have_count(10)
    expect(runs.nth(4)).to_contain_text("Sun 2027-03-28 03:30 +02:00")
    expect(runs.nth(4)).to_contain_text("shifted: the clocks leave out 02:30")
    page.fill("#id_time_zone", "Europe/Brusels")
    error = page.locator(".field-time_zone .linod-typed-error")
    expect(error).to_contain_text("did you mean")
    expect(page.locator("#id_time_zone")).to_have_attribute("aria-invalid", "true")
    page.fill("#id_time_zone", "UTC")
    expect(error).to_have_count(0)
    expect(runs.nth(4)).to_contain_text("Sun 2027-03-28 02:30 +00:00")
    # The admin's own shortcut fills the field in without an event.
    page.fill("#id_start_date", "")
    page.locator(".field-start_date a", has_text="Today").first.click()
    expect(runs.first).not_to_contain_text("2027")


def test_the_pages_work_without_scripts(
    chromium: Browser, served: Served, cookies: object, slow_task: int
) -> None:
    context = new_context(
        chromium, served.address, storage_state=cookies, java_script_enabled=False
    )
    page = context.new_page()
    page.goto(f"{TASKS}{slow_task}/change/")
    page.click("text=Run now")
    expect(page.locator(".messagelist")).to_contain_text("1 task is requested to run.")
    active = f"FROM linod_job WHERE state = 'running' AND active_task = {slow_task}"
    said = f"SELECT COUNT(*) FROM linod_joblog WHERE job_id IN (SELECT id {active})"
    wait_until(lambda: served.site.number(said), "the job's first lines are stored")
    open_job(page, slow_task)
    expect(page.locator("#linod-log")).to_contain_text("Start")
    page.click("text=Cancel")
    expect(page.locator(".messagelist")).to_contain_text("The job is asked to stop.")
    page.goto(f"{TASKS}{slow_task}/change/")
    page.select_option("#id_every_unit", "hourly")
    page.fill("#id_every", "0")
    page.click("[name=_continue]")
    expect(page.locator(".field-every .errorlist")).to_contain_text("give a whole number")
    page.fill("#id_every", "6")
    page.click("[name=_continue]")
    expect(page.locator("#linod-preview .linod-words")).to_have_text("Every 6 hours")
    expect(page.locator("#linod-preview li")).to_have_count(10)
    page.select_option("#id_every_unit", "never")
    page.click("[name=_continue]")
    context.close()


def test_a_filter_is_a_menu_for_the_keyboard(visit: Visit) -> None:
    page = visit(TASKS)
    menu = page.locator(".linod-menu", has_text="Condition")
    menu.locator("summary").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(menu.locator("a").first).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("condition=running"))


def test_a_viewer_sees_no_buttons(chromium: Browser, served: Served, slow_task: int) -> None:
    served.site.python(
        "from django.contrib.auth.models import Permission, User;"
        "user = User.objects.create_user('viewer', password='demo', is_staff=True);"
        "user.user_permissions.set(Permission.objects.filter(codename='view_backgroundtask'))"
    )
    context = log_in(chromium, served.address, "viewer")
    page = context.new_page()
    page.goto(f"{TASKS}{slow_task}/change/")
    expect(page.locator("main")).to_contain_text("count_slowly")
    expect(page.locator(".object-tools button")).to_have_count(0)
    context.close()
