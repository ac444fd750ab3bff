"""What people and programs write is shown as text: in a real browser, nothing of it comes alive."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.serving import Served, new_context

PARTS = (
    "<script>window.hacked=1</script>",
    "<ScRiPt >window.hacked=1</sCrIpT>",
    "<img src=x onerror=window.hacked=1>",
    "<svg/onload=window.hacked=1>",
    "<iframe srcdoc='<script>parent.hacked=1</script>'></iframe>",
    "<a href='javascript:window.hacked=1'>here</a>",
    "<details open ontoggle=window.hacked=1>x</details>",
    "<style onload=window.hacked=1></style>",
    "{{ constructor.constructor('window.hacked=1')() }}",
    "&lt;script&gt;window.hacked=1&lt;/script&gt;",
)
BEFORE = (
    "", '">', "'>", "</pre>", "</textarea>", "</title>", "</script>", "-->", "</option></select>",
    "%(x)s", "\\u003c", "]]>", "\t\n", "</time>", "</span>", "</style>", "</li></ol>", "`>",
    "\u2028", "</dl></section>",
)  # fmt: skip
STRINGS = ["".join(pair) for pair in itertools.product(BEFORE, PARTS)]

#: What came alive: scripts in the page, handlers, foreign elements, addresses that are programs.
ALIVE = """() => {
  const bad = [];
  for (const e of document.querySelectorAll("*")) {
    if (e.tagName === "SCRIPT" && !e.src && e.type !== "application/json") bad.push(e.outerHTML);
    if (["IFRAME", "SVG", "STYLE"].includes(e.tagName.toUpperCase())
        && e.outerHTML.includes("hacked")) bad.push(e.outerHTML);
    for (const a of e.attributes) {
      if (a.name.startsWith("on")) bad.push(a.name + "=" + a.value);
      if (["href", "src", "action"].includes(a.name) && /^\\s*javascript:/i.test(a.value)) {
        bad.push(a.value);
      }
    }
  }
  if (window.hacked) bad.push("window.hacked");
  return bad;
}"""

#: Type into two fields at once, so that one answer tells about both; marks what was told before.
TYPE = """([cron, zone]) => {
  document.querySelectorAll(".linod-typed-error").forEach(e => e.classList.add("former"));
  document.getElementById("id_cron").value = cron;
  const field = document.getElementById("id_time_zone");
  field.value = zone;
  field.dispatchEvent(new Event("input", {bubbles: true}));
}"""

MAKE = """
import json, sys, uuid
from datetime import timedelta
from linod import clock
from linod.history import Daemon, Decision, Job, JobLog
from linod.models import BackgroundTask
strings = json.load(open({file!r}))
now = clock.db_now()
for n, text in enumerate(strings):
    task = BackgroundTask.objects.create(
        procedure=text[:100], name=text[:200], arguments={{text: text}}, disabled=True,
        disabled_reason=text, seqno=1000 + n)
    Decision.objects.record("edited", task, who=text, reason=text)
    Job.objects.create(
        task=task, procedure=text[:100], due_at=now, start_time=now, end_time=now, state="failed",
        trigger="schedule", host=text, error=text, arguments={{text: text}}, result=[text])
    Daemon.objects.create(owner=uuid.uuid4(), host=text, pid=1, version=text[:50], started_at=now,
        last_seen_at=now - timedelta(days=1), state="stopped")
everything = "\\n".join(strings)
BackgroundTask.objects.filter(pk=task.pk).update(
    message=everything, arguments={{"all": strings}}, disabled_reason=everything)
Decision.objects.record("edited", task, who="x", reason=everything)
for state in ("failed", "waiting"):
    job = Job.objects.create(
        task=task, procedure="unheard of", due_at=now + timedelta(seconds=1), attempt=2 + (
        state == "failed"), trigger="schedule", host="x", error=everything, state=state,
        arguments={{"all": strings}}, result=strings,
        progress={{"done": 1, "total": 2, "text": everything}})
    JobLog.objects.create(job=job, n=1, text=everything + "\\n")
    sys.stdout.write(f"{{job.pk}}\\n")
sys.stdout.write(f"{{task.pk}}\\n")
"""


@pytest.fixture(scope="module")
def hostile(served: Served) -> Iterator[tuple[str, str, int]]:
    """Rows full of such strings: a job that ended, one that waits, and a task."""
    file = served.site.folder / "strings.json"
    file.write_text(json.dumps(STRINGS))
    ended, waiting, task = served.site.python(MAKE.format(file=str(file))).split()
    yield ended, waiting, int(task)
    served.site.python(
        "from linod.history import Daemon, Decision;"
        "Decision.objects.all().delete(); Daemon.objects.filter(state='stopped').delete();"
        "Job.objects.filter(state__in=['failed', 'waiting']).delete();"
        "BackgroundTask.objects.filter(seqno__gte=1000).delete()"
    )


@pytest.fixture
def page(chromium: Browser, served: Served, cookies: Any) -> Iterator[Page]:
    """A page on which the Content Security Policy does not help."""
    context = new_context(chromium, served.address, storage_state=cookies, bypass_csp=True)
    yield context.new_page()
    context.close()


def test_nothing_comes_alive(page: Page, hostile: tuple[str, str, int]) -> None:
    assert len(STRINGS) == 200
    ended, waiting, task = hostile
    lists = [
        f"/admin/linod/{name}/?all=" for name in ("backgroundtask", "job", "decision", "daemon")
    ]
    paged = [f"{url}&p={number}" for url in lists for number in (1, 2, 3)]
    pages = [
        f"/admin/linod/backgroundtask/{task}/change/",
        f"/admin/linod/backgroundtask/{task}/why/",
        f"/admin/linod/job/{ended}/change/",
        f"/admin/linod/job/{waiting}/change/",
        f"/admin/linod/job/?task={task}",
        *(f"/linod/?p={number}" for number in range(1, 6)),
        "/linod/?q=%3Cscript%3E",
        "/linod/?show=paused",
        "/admin/linod/backgroundtask/live/?show=failing",
    ]
    seen = 0
    for url in [*lists, *paged, *pages]:
        response = page.goto(url)
        assert response is not None
        assert response.status == 200, url
        seen += page.inner_text("body").count("hacked")
        assert page.evaluate(ALIVE) == [], url
    assert seen > 2000  # the strings were there to be seen


def test_nothing_comes_alive_that_scripts_show(
    page: Page, served: Served, hostile: tuple[str, str, int]
) -> None:
    _ended, waiting, task = hostile
    page.goto(f"/admin/linod/job/{waiting}/change/")
    served.site.python(
        "from linod.history import JobLog; import json;"
        f"text = chr(10).join(json.load(open({str(served.site.folder / 'strings.json')!r})));"
        f"JobLog.objects.create(job_id='{waiting}', n=2, text=text + chr(10) + 'the last one')"
    )
    expect(page.locator("#linod-log")).to_contain_text("the last one")
    assert page.inner_text("#linod-log").count("hacked") > 350
    assert page.evaluate(ALIVE) == []
    page.goto(f"/admin/linod/backgroundtask/{task}/change/")
    page.select_option("#id_every_unit", "cron")
    for text in STRINGS[::10]:
        page.evaluate(TYPE, [text.strip()[:100], text.strip()[:64]])
        expect(page.locator(".linod-typed-error:not(.former)").first).to_be_visible()
        assert page.evaluate(ALIVE) == []


def test_a_confirmation_names_tasks_as_text(page: Page, hostile: tuple[str, str, int]) -> None:
    page.goto("/admin/linod/backgroundtask/?all=")
    page.locator("#action-toggle").check()
    page.select_option("[name=action]", "disable")
    page.click("button[name=index]")  # "Go", since Django 6.1 "Run"
    expect(page.locator("h1").last).to_have_text("Disable")
    assert page.evaluate(ALIVE) == []
