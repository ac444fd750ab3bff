"""The pictures of the documentation: ``python -m tests.browser.screenshots [NAME ...]``.

Each page is taken in light and dark colours and, where people carry it about, as wide as a phone.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import django
from playwright.sync_api import Browser, Page

from tests.browser.serving import Served, browsing, log_in, new_context, serving

IMAGES = Path(__file__).parents[2] / "docs" / "images"
WIDE, PHONE = {"width": 1280, "height": 760}, {"width": 390, "height": 844}
#: A file in the documentation is no larger.
LIMIT = 150 * 1024

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


@contextmanager
def site() -> Iterator[Served]:
    """A site with a past."""
    blocker: Any = SimpleNamespace(unblock=nullcontext)
    with (
        tempfile.TemporaryDirectory() as folder,
        serving("tests.browser.place", Path(folder), blocker) as served,
    ):
        served.start_daemon()
        served.site.python(HISTORY)
        yield served


class Camera:
    """Takes a page in all its looks."""

    def __init__(self, browser: Browser, served: Served, wanted: list[str]) -> None:
        self.browser, self.served, self.wanted = browser, served, wanted
        context = log_in(browser, served.address)
        self.cookies = context.storage_state()
        context.close()

    def take(
        self, name: str, path: str, prepare: Callable[[Page], Any] | None, *, phone: bool = True
    ) -> None:
        """Take a page; ``prepare`` does what people would do there first."""
        if self.wanted and name not in self.wanted:
            return
        looks = [("", WIDE, "light"), ("-dark", WIDE, "dark")]
        looks += [("-phone", PHONE, "light")] if phone else []
        for suffix, size, colours in looks:
            context = new_context(
                self.browser,
                self.served.address,
                storage_state=self.cookies,
                viewport=size,
                color_scheme=colours,
                reduced_motion="reduce",
            )
            page = context.new_page()
            page.goto(path)
            if prepare:
                prepare(page)
            file = IMAGES / f"{name}{suffix}.png"
            page.screenshot(path=file)
            context.close()
            size_now = file.stat().st_size
            sys.stdout.write(f"{file.name}: {size_now // 1024} KiB\n")
            if size_now > LIMIT:
                sys.exit(f"{file.name} is larger than {LIMIT // 1024} KiB")


def main(wanted: list[str]) -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
    # Playwright keeps a loop in this thread, beside which Django would refuse its databases.
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"
    django.setup()
    IMAGES.mkdir(exist_ok=True)
    with site() as served, browsing() as browser:
        camera = Camera(browser, served, wanted)
        for name, path, prepare, options in pages(served):
            camera.take(name, path, prepare, **options)


def pages(served: Served) -> Iterator[tuple[str, str, Any, dict[str, Any]]]:
    """What is taken: a name, an address, what is done there, and how."""
    tasks = "/admin/linod/backgroundtask/"
    daily = served.task("send_pending_emails_daily")
    yield "admin-tasks", tasks, None, {}
    yield "admin-task", f"{tasks}{daily}/change/", None, {}
    yield "admin-rule", f"{tasks}{daily}/change/", type_a_rule, {}
    yield "admin-why", f"{tasks}{daily}/why/", None, {}
    yield "admin-pause", tasks, choose_pause, {}
    yield "admin-jobs", "/admin/linod/job/", None, {}
    failed = served.site.rows("SELECT id FROM linod_job WHERE state = 'failed' LIMIT 1")[0][0]
    yield "admin-job-failed", f"/admin/linod/job/{failed}/change/", None, {"phone": False}
    yield "admin-job", tasks, run_slowly(served), {}
    yield "admin-daemons", "/admin/linod/daemon/", None, {"phone": False}


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


if __name__ == "__main__":
    main(sys.argv[1:])
