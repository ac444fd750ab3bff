"""Every text for people can be translated, and is in German."""

from __future__ import annotations

import io
import json
import re
from argparse import ArgumentTypeError
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path
from typing import Any

import django
import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.core.management.base import BaseCommand
from django.db import connection
from django.test import Client, modify_settings, override_settings
from django.urls import reverse
from django.utils import translation

from linod import checks, clock, forecast, foreground, recent, telling, views
from linod.admin.cells import span_text
from linod.exceptions import InvalidRecurrence, JobCancelled
from linod.history import Daemon, Decision, Job, JobLog
from linod.loghandler import logging_config
from linod.management.commands.linod import Command
from linod.models import BackgroundTask
from linod.procedures import declare
from linod.recurrence import Recurrence
from linod.templatetags import linod_live
from tests.catalogs import (
    CONTEXT,
    PACKAGE,
    Entry,
    marked_texts,
    read_compiled,
    read_text,
    write_compiled,
)
from tests.daemons import only_these_procedures

TEXT = PACKAGE / "locale" / "de" / "LC_MESSAGES" / "django.po"
START = datetime(2026, 11, 24, 9, tzinfo=UTC)  # a Tuesday
MONDAY, THURSDAY = 0, 3
PLACES = re.compile(r"%(?:\(\w+\))?[+.\d]*[dfrs]")


# The German catalogue


def test_each_marked_text_is_in_the_catalogue() -> None:
    marked = marked_texts()
    known = {entry.key for entry in read_text(TEXT)}
    missing = {key: where for key, where in marked.items() if key not in known}
    assert missing == {}, "run makemessages (docs/guide/translating.rst)"
    assert known - marked.keys() == set(), "nothing says this any more"


def test_each_text_has_its_translation_and_its_places() -> None:
    wrong = []
    for entry in read_text(TEXT):
        forms = 2 if entry.plural else 1
        if entry.is_fuzzy or len(entry.texts) != forms or not all(entry.texts):
            wrong.append(entry.key)
        # A form for one may leave the number out.
        for original, text in zip((entry.key, entry.plural), entry.texts, strict=False):
            allowed = set(PLACES.findall(entry.key + entry.plural))
            found = set(PLACES.findall(text))
            if not (found == set(PLACES.findall(original)) or (entry.plural and found <= allowed)):
                wrong.append(entry.key)
    assert wrong == []


def test_the_compiled_catalogue_says_the_same() -> None:
    compiled = read_compiled(TEXT.with_suffix(".mo"))
    assert compiled == {entry.key: entry.texts for entry in read_text(TEXT)}


def test_the_catalogue_is_a_part_of_the_package() -> None:
    folder = resources.files("linod") / "locale" / "de" / "LC_MESSAGES"
    assert (folder / "django.mo").is_file()


def test_a_text_that_is_not_marked_is_no_text_of_a_catalogue(tmp_path: Path) -> None:
    """The catalogues of these tests are read as those of ``msgfmt``."""
    path = tmp_path / "x.mo"
    entries = [Entry("a", "", ["ä"]), Entry("%d b", "%d c", ["%d d", "%d e"]), Entry("x\x04f")]
    entries[2].texts = ["ü"]
    write_compiled(path, entries)
    assert read_compiled(path) == {"a": ["ä"], "%d b": ["%d d", "%d e"], "x\x04f": ["ü"]}


@pytest.mark.parametrize(
    ("every_unit", "options", "text"),
    [
        ("never", {}, "nie"),
        ("once", {}, "einmal am 2026-11-24 um 09:00"),
        ("secondly", {"every": 10, "max_events": 3}, "alle 10 Sekunden, 3-mal"),
        ("minutely", {"weekdays": {6}}, "jede Minute am Sonntag"),
        ("hourly", {"weekdays": range(5)}, "jede Stunde an Arbeitstagen"),
        ("daily", {"max_events": 1}, "jeden Tag um 09:00, nur einmal"),
        ("daily", {"weekdays": {MONDAY, THURSDAY}}, "jeden Montag und Donnerstag um 09:00"),
        ("weekly", {"every": 2}, "alle 2 Wochen am Dienstag um 09:00"),
        ("monthly", {"start": START.replace(month=12, day=31)},
         "jeden Monat am 31. oder letzten Tag um 09:00"),
        ("monthly", {"weekdays": {0, 3}, "positions": (1, -2)},
         "jeden ersten und vorletzten Montag oder Donnerstag des Monats um 09:00"),
        ("monthly", {"every": 2, "weekdays": range(5), "positions": (-1,)},
         "alle 2 Monate am letzten Arbeitstag um 09:00"),
        ("yearly", {"weekdays": {0}, "positions": (21,)}, "jeden 21. Montag des Jahres um 09:00"),
        ("yearly", {}, "jedes Jahr am 24. November um 09:00"),
        ("easter", {"start": datetime(2026, 5, 14, 9, tzinfo=UTC)},
         "39 Tage nach Ostern jedes Jahr um 09:00"),
    ],
)  # fmt: skip
def test_a_rule_in_german(every_unit: str, options: dict[str, Any], text: str) -> None:
    with translation.override("de"):
        rule = Recurrence(every_unit, **{"start": START, **options})
        assert rule.describe(translation) == text
    assert rule.describe() != text


def test_lengths_of_time_in_german() -> None:
    second, hours = timedelta(seconds=2.25), timedelta(hours=30)
    with translation.override("de"):
        assert [span_text(second), span_text(hours)] == ["2,250 s", "1 Tag, 6:00:00"]
        assert [telling.span(hours), linod_live.span(second)] == ["1 T 6 h", "2,2 s"]


def test_an_error_in_german() -> None:
    with pytest.raises(InvalidRecurrence) as caught, translation.override("de"):
        Recurrence("dayly", start=START)
    with translation.override("de"):
        assert caught.value.remedy(translation) == "'dayly' ist unbekannt; war 'daily' gemeint?"
    assert str(caught.value) == "every_unit: 'dayly' is unknown; did you mean 'daily'?"


# Every page, in a language that wraps each text it translates


OPEN, CLOSE = "«", "»"
WRAPPED = re.compile(f"{OPEN}[^{OPEN}{CLOSE}]*{CLOSE}")
UUID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
#: What is no text: names of levels and of zones, an empty value of JSON.
NAMES = {
    "CET",
    "CRITICAL",
    "DEBUG",
    "ERROR",
    "Europe",
    "Brussels",
    "INFO",
    "null",
    "UTC",
    "WARNING",
}


@pytest.fixture(scope="session")
def wrapping(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with a catalogue in which the texts of linod and of Django are wrapped."""
    folder = tmp_path_factory.mktemp("locale")
    keys = {entry.key: entry.plural for entry in read_text(TEXT)}
    for path in ("conf", "contrib/admin", "contrib/auth"):
        # Django's English catalogue has all its texts, whatever was translated so far.
        place = Path(django.__file__).parent / path / "locale" / "en" / "LC_MESSAGES"
        for entry in read_text(place / "django.po"):
            keys.setdefault(entry.key, entry.plural)
    entries = [
        Entry(key, plural, [wrap(key), wrap(plural)] if plural else [wrap(key)])
        for key, plural in keys.items()
    ]
    write_compiled(folder / "de" / "LC_MESSAGES" / "django.mo", entries)
    return str(folder)


def wrap(key: str) -> str:
    return f"{OPEN}{key.rpartition(CONTEXT)[2]}{CLOSE}"


class Seen(HTMLParser):
    """The texts of a page that people see or hear, in their order."""

    UNSEEN = ("code", "script", "style")  # code stands there as a program has it
    SPOKEN = {"alt", "aria-label", "data-label", "data-live", "data-polling", "data-silent",
              "placeholder", "title"}  # fmt: skip

    def __init__(self, html: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self._unseen = 0
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._unseen += tag in self.UNSEEN
        given = dict(attrs)
        self.texts += [text or "" for name, text in attrs if name in self.SPOKEN]
        if tag == "input" and given.get("type") in ("submit", "button"):
            self.texts.append(given.get("value") or "")

    def handle_endtag(self, tag: str) -> None:
        self._unseen -= tag in self.UNSEEN

    def handle_data(self, data: str) -> None:
        if not self._unseen:
            self.texts.append(data)


def bare(texts: list[str]) -> list[str]:
    """The words that stand in no wrapped text. Data is made of one letter: it is no text."""
    left = "\n".join(texts)
    while WRAPPED.search(left):
        left = WRAPPED.sub("", left)
    words = re.findall(r"[^\W\d_]{2,}", UUID.sub("", left))
    return [word for word in words if word not in NAMES and len(set(word.lower())) > 1]


@pytest.fixture
def site(db: None) -> Iterator[BackgroundTask]:
    """A site of which there is something to show."""
    with only_these_procedures(), override_settings(LINOD={"SITE": "tests", "RUN_DIR": "/nowhere"}):
        BackgroundTask.objects.all().delete()
        for name in ("ppp", "qqq"):
            declare(lambda: None, name)
        yield make_site()


def make_site() -> BackgroundTask:
    now = clock.db_now()
    rules: list[dict[str, Any]] = [
        {"every_unit": "daily", "every": 3, "max_events": 5, "weekdays": "friday"},
        {"every_unit": "weekly", "weekdays": "monday"},
        {"every_unit": "monthly", "weekdays": "tuesday", "positions": "1 -1 7"},
        {"every_unit": "yearly"}, {"every_unit": "easter"}, {"every_unit": "secondly", "every": 9},
        {"every_unit": "never"}, {"every_unit": "hourly", "procedure": "zzz"},
    ]  # fmt: skip
    tasks = []
    for rule in rules:
        day = rule.pop("weekdays", None)
        values = {"procedure": "ppp", **rule} | ({day: True} if day else {})
        tasks.append(BackgroundTask.objects.create(**values))
    task, other = tasks[:2]
    for number, state in enumerate(Job.State.values):
        key = recent.first_id(now - timedelta(minutes=number))
        begun = state not in ("waiting", "claimed", "dispatched")
        job = Job.objects.create(
            id=type(key)(int=key.int + number), task=task, procedure="ppp", state=state,
            due_at=now - timedelta(hours=30 + number), trigger=Job.Trigger.values[number % 4],
            attempt=number % 3 + 1,
            start_time=now - timedelta(hours=20 + number) if begun else None,
            end_time=now - timedelta(hours=20) if begun and state != "running" else None,
            lease_until=now if state == "running" else None, host="hhh", error="eee",
            active_task=task.pk if state == "running" else None,
            progress={"done": 1, "total": 3, "text": "ttt"},
        )  # fmt: skip
        JobLog.objects.create(job=job, n=1, text="2026-11-22 05:00:00 INFO lll\n")
    BackgroundTask.objects.filter(pk=task.pk).update(
        failures=3, last_start_time=now - timedelta(days=3), last_end_time=now, message="lll"
    )
    other.disable("rrr", until=now + timedelta(days=1))
    tasks[2].disable("rrr")
    tasks[3].request_run()
    BackgroundTask.objects.filter(pk=tasks[4].pk).update(next_run_at=now - timedelta(hours=3))
    for kind in Decision.Kind.values:
        reason = "every, start_time" if kind == "edited" else "rrr"
        Decision.objects.record(kind, task, who="uuu", reason=reason, due_at=now)
    for number, state in enumerate(Daemon.State.values):
        Daemon.objects.create(
            owner=Job.objects.values_list("pk", flat=True)[number], host="hhh", pid=number,
            version="0", started_at=now, last_seen_at=now, state=state,
        )  # fmt: skip
    return task


def changelist(model: str, query: str = "") -> str:
    return reverse(f"admin:linod_{model}_changelist") + query


Visit = Callable[[Client, BackgroundTask], Any]


def get(address: str) -> Visit:
    return lambda client, task: client.get(address.replace("TASK", str(task.pk)))


def job_page(state: str, name: str = "change") -> Visit:
    def visit(client: Client, task: BackgroundTask) -> Any:
        job = Job.objects.get(state=state)
        names = {"change": "linod_job_change"}
        return client.get(reverse(f"admin:{names.get(name, f'linod_job_{name}')}", args=[job.pk]))

    return visit


def post(action: str, **entered: str) -> Visit:
    """An action on all tasks, from their list."""

    def visit(client: Client, task: BackgroundTask) -> Any:
        keys = list(BackgroundTask.objects.values_list("pk", flat=True))
        chosen = {"action": action, "_selected_action": keys, **entered}
        return client.post(changelist("backgroundtask"), chosen, follow=True)

    return visit


def save(**entered: str) -> Visit:
    """The form of a task, sent with something wrong."""

    def visit(client: Client, task: BackgroundTask) -> Any:
        address = reverse("admin:linod_backgroundtask_change", args=[task.pk])
        return client.post(address, {"procedure": "ppp", "every_unit": "daily", **entered})

    return visit


def tell(name: str, action: str) -> Visit:
    """A button of the live page, pressed twice."""

    def visit(client: Client, task: BackgroundTask) -> Any:
        address = reverse("linod:act", args=[task.pk, action])
        client.post(address)
        return client.post(address, follow=True)

    return visit


PREVIEW = "preview/?every_unit=daily&every=1&start_time=02:30&start_date=2027-03-24&missed=once"
TASK = "backgroundtask"
DONE = {"confirmed": "1", "until_0": "2099-01-01", "until_1": "12:00:00"}
PAGES: dict[str, Visit] = {
    "index": get(reverse("admin:app_list", args=["linod"])),
    "tasks": get(changelist(TASK)),
    "no task": get(changelist(TASK, "?q=nnn")),
    "task": get(changelist(TASK, "TASK/change/")),
    "new task": get(changelist(TASK, "add/")),
    "wrong task": save(every="0", timeout="-1", max_attempts="0", arguments="[]"),
    "wrong rule": save(every="1", end_time="20:00", positions="xxx"),
    "wrong zone": save(every="1", time_zone="Europe/Brusels"),
    "stale task": save(every="1", max_attempts="1", seen_version="77"),
    "preview": get(changelist(TASK, PREVIEW)),
    "preview of nonsense": get(changelist(TASK, "preview/?every_unit=cron&every=1&cron=1")),
    "procedures": get(changelist(TASK, "procedures/")),
    "why": get(changelist(TASK, "TASK/why/")),
    "why at a moment": get(changelist(TASK, "TASK/why/?at_0=2020-01-01&at_1=12:00")),
    "why at a time left out": get(changelist(TASK, "TASK/why/?at_0=2026-03-29&at_1=02:30")),
    "why at a time shown twice": get(changelist(TASK, "TASK/why/?at_0=2026-10-25&at_1=02:30")),
    "history of a task": get(changelist(TASK, "TASK/history/")),
    "jobs": get(changelist("job")),
    "jobs of a day": get(changelist("job", "?task=TASK")),
    "new jobs": job_page("running", "live"),
    "decisions": get(changelist("decision")),
    "daemons": get(changelist("daemon")),
    "live page": get(reverse("linod:live")),
    "live page, chosen": get(reverse("linod:live") + "?show=late&q=nnn"),
    "confirm disable": post("disable"),
    "confirm pause": post("pause_until"),
    "past pause": post("pause_until", confirmed="1", until_0="2020-01-01", until_1="12:00:00"),
    **{f"job {state}": job_page(state) for state in Job.State.values},
    **{f"done {name}": post(name, **DONE) for name in ("run_now", "cancel_request", "enable",
       "disable", "pause_until", "duplicate", "move_up", "move_down")},
    **{f"live {name}": tell(name, name) for name in views.ACTIONS},
}  # fmt: skip


@pytest.mark.parametrize("name", PAGES)
def test_a_page_says_nothing_that_is_not_translated(
    site: BackgroundTask, wrapping: str, name: str
) -> None:
    client = Client()
    client.force_login(User.objects.create_superuser("uuu"))
    with override_settings(LANGUAGE_CODE="de", LOCALE_PATHS=[wrapping]):
        answer = PAGES[name](client, site)
    assert answer.status_code == 200
    html = answer.content.decode().replace('alt="Search"', "")  # Django's own has no mark
    if answer["Content-Type"] == "application/json":
        seen = list(said(answer.json()))
    else:
        seen = Seen(html).texts
        if data := re.search(r'<script id="linod-data"[^>]*>(.*?)</script>', html):
            seen += json.loads(data[1])["texts"].values()
    assert OPEN in "".join(seen)
    assert bare(seen) == []


def said(value: Any) -> Iterator[str]:
    """The texts of a JSON answer, without words for programs and the lines of logs."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key not in ("state", "at", "lines"):
                yield from said(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from said(inner)
    elif isinstance(value, str):
        yield value


# The command and the system checks, in the same language


@pytest.fixture
def wrapped(wrapping: str) -> Iterator[None]:
    with override_settings(LOCALE_PATHS=[wrapping]), translation.override("de"):
        yield


def answer(*arguments: str) -> str:
    """What the command says, on both its streams, until its end."""
    said = io.StringIO()
    try:
        call_command("linod", *arguments, stdout=said, stderr=said)
    except (CommandError, SystemExit) as ended:
        said.write(str(ended))
    return said.getvalue()


QUESTIONS = ("--list", "--health", "--forecast", "--why ppp", "--why ppp --at 20:00")
REFUSED = (
    "--list --at 20:00",
    "--health --json",
    "--list --no-log-server",
    "--why nnn",
    "--why pppp",
    "--why ppp --at xxx",
    "--why ppp --at 2026-11-22",
    "--log-server-only",
)


@pytest.mark.parametrize("question", [*QUESTIONS, *REFUSED])
def test_the_command_says_nothing_that_is_not_translated(
    site: BackgroundTask, wrapped: None, question: str
) -> None:
    said = answer(*question.split())
    assert OPEN in said
    assert bare([re.sub(r"^(--\w+|1$)", "", said)]) == []


@pytest.mark.parametrize("question", ["--list", "--health", "--forecast"])
def test_it_says_so_where_there_is_nothing_to_say(
    site: BackgroundTask, wrapped: None, question: str
) -> None:
    BackgroundTask.objects.all().delete()
    Daemon.objects.all().delete()
    said = answer(question)
    assert OPEN in said
    assert bare([said]) == []


def test_what_a_run_in_the_foreground_says_is_translated(
    site: BackgroundTask, wrapped: None
) -> None:
    said = io.StringIO()
    screen = foreground.Screen(said, said)
    site.disabled, site.disabled_reason = True, "rrr"
    foreground._say_outcome(screen, site, Job.objects.get(state="failed"))
    interrupts = foreground.Interrupts(screen)
    interrupts(2, None)
    with pytest.raises(JobCancelled):
        interrupts(2, None)
    assert len(said.getvalue().splitlines()) == 5
    assert bare([said.getvalue()]) == []


def test_the_command_explains_itself_in_the_language(wrapped: None) -> None:
    parser = Command().create_parser("manage.py", "linod")
    of_django = {each.dest for each in BaseCommand().create_parser("", "")._actions}
    own = [each for each in parser._actions if each.dest not in of_django]
    texts = [str(each.help) for each in own] + [str(each.metavar or "") for each in own]
    assert len(own) > 10
    assert bare([str(parser.description), *texts]) == []
    for wrong in ("x", "0s"):
        with pytest.raises(ArgumentTypeError) as caught:
            forecast.duration(wrong)
        assert bare([str(caught.value)]) == []


def linod_settings(**given: Any) -> dict[str, Any]:
    return {"LINOD": given}


WRONG: dict[str, dict[str, Any]] = {
    "no zones": {"USE_TZ": False},
    "no dict": {"LINOD": 1},
    "a key": linod_settings(LEESE=1),
    "a strange key": linod_settings(x=1),
    "a kind": linod_settings(LOG_DIR=1),
    "a number": linod_settings(KEEP_JOBS_DAYS=0),
    "a short lease": linod_settings(LEASE=0),
    "a short sleep": linod_settings(BACKGROUND_SLEEP_TIME=0),
    "many jobs at a time": linod_settings(MAX_CONCURRENCY=0),
    "a negative number": linod_settings(GRACE=-1),
    "a name of a site": linod_settings(SITE="//"),
    "a name of a file": linod_settings(LOG_FILE="//"),
    "a period": linod_settings(LOG_ROTATE_EVERY="xxx"),
    "users": linod_settings(LOG_USERS=[1]),
    "a database": linod_settings(DATABASE="xxx"),
    "another folder": {"LOGGING": logging_config("/x"), **linod_settings(LOG_DIR="/xx")},
    "a long folder": {"LOGGING": logging_config("/" + 99 * "x")},
    "no layer": {"CHANNEL_LAYERS": {}, **linod_settings(USE_CHANNELS=True)},
    "a layer in memory": {
        "CHANNEL_LAYERS": {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}},
        **linod_settings(USE_CHANNELS=True),
    },
}


def said_by_checks() -> list[str]:
    found = checks.check_settings()
    assert found
    return [text for each in found for text in (each.msg, each.hint or "")]


@pytest.mark.parametrize("name", WRONG)
def test_a_check_says_nothing_that_is_not_translated(wrapped: None, name: str) -> None:
    with only_these_procedures(), override_settings(**WRONG[name]):
        assert bare(said_by_checks()) == []


def test_checks_of_procedures_and_applications_are_translated(wrapped: None) -> None:
    with only_these_procedures():
        declare(lambda: None, "ppp", run_after="qqq")
        assert bare(said_by_checks()) == []
        declare(lambda: None, "qqq", run_after="ppp")
        assert bare(said_by_checks()) == []
        with modify_settings(INSTALLED_APPS={"remove": ["django.contrib.auth"]}):
            assert bare(said_by_checks()) == []


def test_a_list_in_german(site: BackgroundTask) -> None:
    BackgroundTask.objects.exclude(pk=site.pk).delete()
    BackgroundTask.objects.update(every_unit="secondly", every=9, friday=False, max_events=None)
    BackgroundTask.objects.update(last_start_time=None, next_run_at=None, requested_at=None)
    with translation.override("de"):
        assert answer("--list").splitlines()[:2] == [
            "1 geplanter Job:",
            "[1] Alle 9 Sekunden: ppp() (letzter Lauf: [nie], nächster Lauf: [nie])",
        ]
    english = "[1] Every 9 seconds do ppp() (last run: [never], next run: [never])"
    assert answer("--list").splitlines()[1] == english
    with translation.override(None, deactivate=True):
        translation.deactivate_all()
        assert answer("--list").splitlines()[1] == english


def test_health_in_german(site: BackgroundTask) -> None:
    BackgroundTask.objects.all().delete()
    Daemon.objects.all().delete()
    with override_settings(LANGUAGE_CODE="de"), translation.override("de"):
        assert answer("--health").splitlines()[:2] == [
            "PROBLEM: kein Dämon läuft; so wird einer gestartet: manage.py linod",
            "ok: nichts ist überfällig",
        ]


def test_the_test_itself_finds_what_is_not_marked() -> None:
    html = f'<p title="Not marked">{OPEN}All {OPEN}is{CLOSE} well{CLOSE} ppp, but this</p>'
    assert bare(Seen(html).texts) == ["Not", "marked", "but", "this"]


@pytest.mark.skipif(connection.vendor != "sqlite", reason="once is enough")
def test_no_script_says_anything_by_itself() -> None:
    """The texts of scripts come with the page: none of their own strings is a sentence."""
    found = []
    for path in sorted((PACKAGE / "static").rglob("*.js")):
        source = re.sub(r"/\*.*?\*/|//[^\n]*", "", path.read_text(), flags=re.DOTALL)
        texts = re.findall(r'"([^"\n]*)"', source)
        found += [(path.name, text) for text in texts if re.search("[A-Z][a-z]+ [a-z]", text)]
    assert found == []
