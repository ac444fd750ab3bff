"""The admin's pages as the documentation shows them, and that they fit into every window.

Each is taken in light and dark colours and as wide as a phone. With ``LINOD_PICTURES=1`` the
pictures are written to ``docs/images``; else they are thrown away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from tests.browser.pictures import LIMIT, check_fits
from tests.browser.serving import Served, new_context, serving

WIDE, PHONE = {"width": 1280, "height": 760}, {"width": 390, "height": 844}
LOOKS = (("", WIDE, "light"), ("-dark", WIDE, "dark"), ("-phone", PHONE, "light"))

#: A past to look at: what a site would have after some days.
HISTORY = """
import random
from datetime import timedelta
from linod import clock
from linod.history import Job, JobLog, Decision
from linod.models import BackgroundTask
from linod.recent import first_id
random.seed(7)
now = clock.db_now()
begin = (now - timedelta(days=60)).date()
BackgroundTask.objects.exclude(every_unit="never").update(start_date=begin)
BackgroundTask.objects.filter(every_unit="secondly").update(every=300, next_run_at=now)
words = dict(error="Traceback (most recent call last):\\n  ...\\nTimeoutError: mail.example.com")
number = 0
for task in BackgroundTask.objects.order_by("seqno"):
    step = timedelta(minutes=5) if task.every_unit == "secondly" else timedelta(days=1)
    dues = [now - n * step for n in range(1, 25)]
    if task.every_unit != "never":
        due, dues = now - timedelta(minutes=1), []  # the daemon has begun since
        while len(dues) < 24 and (due := task.recurrence.latest_before(due)):
            dues.append(due)
    for due in reversed(dues):
        state = random.choices(["succeeded", "failed", "lost", "timed_out"], [40, 2, 1, 1])[0]
        number += 1
        key = type(first_id(due))(int=first_id(due).int + number)
        late = timedelta(milliseconds=random.randint(4, 90))
        took = timedelta(milliseconds=random.randint(40, 2400))
        Job.objects.create(
            id=key, task=task, procedure=task.procedure, due_at=due, state=state,
            trigger="schedule", start_time=due + late, end_time=due + late + took,
            host="web1", **(words if state != "succeeded" else {}))
    BackgroundTask.objects.filter(pk=task.pk).update(last_start_time=due, last_end_time=due + took)
daily = BackgroundTask.objects.get(procedure="send_pending_emails_daily")
for kind, days, who, reason in (
    ("edited", 30, "robin", "every, start_time"),
    ("requested", 6, "luc", ""),
    ("request_cancelled", 6, "luc", ""),
):
    at = now - timedelta(days=days, minutes=17 * days)
    due = at if kind == "requested" else None
    Decision.objects.record(kind, daily, who=who, reason=reason, at=at, due_at=due)
BackgroundTask.objects.filter(procedure="count_slowly").update(
    arguments={"steps": 60, "pause": 0.5})
"""


@pytest.fixture(scope="module")
def served(
    chromium: Browser, tmp_path_factory: pytest.TempPathFactory, django_db_blocker: Any
) -> Iterator[Served]:
    """A site with a past, and its daemon."""
    folder = tmp_path_factory.mktemp("past")
    with serving("tests.browser.place", folder, django_db_blocker) as site:
        site.start_daemon()
        site.site.python(HISTORY)
        yield site
        site.stop_daemon()


TASKS = "/admin/linod/backgroundtask/"


def type_a_rule(page: Page) -> None:
    """Half past two at night, before the clocks change."""
    page.select_option("#id_every_unit", "daily")
    page.fill("#id_start_date", "2027-03-24")
    page.fill("#id_start_time", "02:30:00")
    page.wait_for_selector("#linod-preview .linod-mark")
    is_narrow = page.viewport_size is not None and page.viewport_size["width"] < WIDE["width"]
    where = "#linod-preview" if is_narrow else "fieldset.linod-rule"
    page.locator(where).evaluate("element => element.scrollIntoView()")


def choose_pause(page: Page) -> None:
    """Choose two tasks and pause them."""
    for box in page.locator(".action-select").all()[:2]:
        box.check()
    page.select_option("[name=action]", "pause_until")
    page.click("#changelist-form button[type=submit], #changelist-form [name=index]")
    page.wait_for_selector(".linod-confirm")


def run_slowly(served: Served) -> Callable[[Page], None]:
    """Look at a job at its work."""
    key = served.task("count_slowly")

    def prepare(page: Page) -> None:
        active = "SELECT id FROM linod_job WHERE procedure = 'count_slowly' AND state = 'running'"
        if not served.site.rows(active):
            served.site.python(f"BackgroundTask.objects.get(pk={key}).request_run()")
        while not (found := served.site.rows(active)):
            page.wait_for_timeout(100)
        page.goto(f"/admin/linod/job/{found[0][0]}/change/")
        page.locator("#linod-log span").nth(8).wait_for()

    return prepare


def of_daily(path: str, prepare: Callable[[Page], Any] | None = None) -> Any:
    """A page of the task that sends mails each day."""
    daily = "send_pending_emails_daily"
    return lambda served: (f"{TASKS}{served.task(daily)}/{path}/", prepare)


def failed_job(served: Served) -> tuple[str, None]:
    """The page of a job that failed."""
    key = served.site.rows("SELECT id FROM linod_job WHERE state = 'failed' LIMIT 1")[0][0]
    return f"/admin/linod/job/{key}/change/", None


#: A picture's name, where it is taken, and what people would do there first.
PAGES: dict[str, Callable[[Served], tuple[str, Callable[[Page], Any] | None]]] = {
    "admin-tasks": lambda served: (TASKS, None),
    "admin-task": of_daily("change"),
    "admin-rule": of_daily("change", type_a_rule),
    "admin-why": of_daily("why"),
    "admin-pause": lambda served: (TASKS, choose_pause),
    "admin-jobs": lambda served: ("/admin/linod/job/", None),
    "admin-job-failed": failed_job,
    "admin-job": lambda served: (TASKS, run_slowly(served)),
    "admin-ledger": lambda served: ("/admin/linod/decision/", None),
    "admin-daemons": lambda served: ("/admin/linod/daemon/", None),
}


@pytest.mark.parametrize("name", PAGES)
def test_a_picture(
    name: str, chromium: Browser, served: Served, cookies: Any, folder: Path
) -> None:
    path, prepare = PAGES[name](served)
    for suffix, size, colours in LOOKS:
        context = new_context(
            chromium,
            served.address,
            storage_state=cookies,
            viewport=size,
            color_scheme=colours,
            reduced_motion="reduce",
        )
        page = context.new_page()
        page.goto(path)
        if prepare is not None:
            prepare(page)
        check_fits(page)
        file = folder / f"{name}{suffix}.png"
        page.screenshot(path=file)
        context.close()
        assert file.stat().st_size < LIMIT
