"""The example's two sites: their tests, their tables, and the last session of the 2024 document."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import settings
from tests.example import Site, new_site

APPS = {
    "tour": ("workshop",),
    "team": ("common", "notify", "inbox"),
    "noi": ("common", "notify", "calendars", "summaries", "checkdata", "publisher"),
}
LOG_LEVELS = """\
========== ========== ===============
 value      text       Numeric value
---------- ---------- ---------------
 DEBUG      DEBUG      10
 INFO       INFO       20
 WARNING    WARNING    30
 ERROR      ERROR      40
 CRITICAL   CRITICAL   50
========== ========== ===============
"""
NOI_PROCEDURES = """\
============================== ============================== ============================== ================================
 value                          name                           text                           Suggested recurrency
------------------------------ ------------------------------ ------------------------------ --------------------------------
 event_notification_scheduler   event_notification_scheduler   event_notification_scheduler   every=300, every_unit=secondly
 generate_calendar_entries      generate_calendar_entries      generate_calendar_entries      every=1, every_unit=daily
 checksummaries                 checksummaries                 checksummaries                 every=1, every_unit=daily
 checkdata                      checkdata                      checkdata                      every=1, every_unit=daily
 send_pending_emails_often      send_pending_emails_often      send_pending_emails_often      every=10, every_unit=secondly
 send_pending_emails_daily      send_pending_emails_daily      send_pending_emails_daily      every=1, every_unit=daily
 clear_seen_messages            clear_seen_messages            clear_seen_messages            every=1, every_unit=daily
 update_publisher_pages         update_publisher_pages         update_publisher_pages         every=1, every_unit=daily
============================== ============================== ============================== ================================
"""  # noqa: E501 - the document's own width
NOI_TASKS = """\
===== ============================== =============== ========== =============
 No.   Background procedure           Logging level   Disabled   Status
----- ------------------------------ --------------- ---------- -------------
 1     event_notification_scheduler   WARNING         No         Not started
 2     generate_calendar_entries      INFO            No         Not started
 3     checksummaries                 INFO            No         Not started
 4     checkdata                      INFO            No         Not started
 5     send_pending_emails_often      WARNING         No         Not started
 6     send_pending_emails_daily      INFO            No         Not started
 7     clear_seen_messages            INFO            No         Not started
 8     update_publisher_pages         INFO            No         Not started
===== ============================== =============== ========== =============
"""
TEAM_LIST = """\
4 scheduled jobs:
[1] Every 10 seconds do send_pending_emails_often() (last run: [never], next run: MOMENT)
[2] Every 1 day at 20:00:00 do send_pending_emails_daily() (last run: [never], next run: EVENING)
[3] Every 1 day at 20:00:00 do clear_seen_messages() (last run: [never], next run: EVENING)
[4] Every 10 seconds do get_new_mail() (last run: [never], next run: MOMENT)
"""
LAST_SESSION = """
from asgiref.sync import async_to_sync
bt = BackgroundTask.objects.get(procedure=Procedures.update_publisher_pages)
print(repr(bt.status))
ar = login("robin")
async_to_sync(bt.start_task)(ar)
print(repr(bt.status))
bt.last_start_time = None
bt.save()
show(BackgroundTasks)
"""


@pytest.fixture(scope="module")
def noi(tmp_path_factory: pytest.TempPathFactory, django_db_blocker: Any) -> Iterator[Site]:
    """The site noi with its demo data; nothing has run yet."""
    with new_site("noi", tmp_path_factory.mktemp("noi"), django_db_blocker) as site:
        site.manage("migrate", "--verbosity=0")
        site.manage("load_demo")
        yield site


@pytest.mark.database
@pytest.mark.parametrize("name", APPS)
def test_the_applications_own_tests(name: str, tmp_path: Path, django_db_blocker: Any) -> None:
    with new_site(name, tmp_path, django_db_blocker, settings.TEST_DB) as site:
        site.manage("test", "--noinput", *APPS[name], "--shuffle", seconds=300)


@pytest.mark.parametrize("name", APPS)
def test_migrations_say_what_the_models_say(
    name: str, tmp_path: Path, django_db_blocker: Any
) -> None:
    with new_site(name, tmp_path, django_db_blocker) as site:
        changes = site.manage("makemigrations", "--check", "--dry-run")
    assert changes == "No changes detected\n"


@pytest.mark.parametrize("name", APPS)
def test_nothing_is_wrong_with_the_settings(
    name: str, tmp_path: Path, django_db_blocker: Any
) -> None:
    with new_site(name, tmp_path, django_db_blocker) as site:
        site.manage("check", "--fail-level=WARNING")


def test_noi_shows_the_tables_of_the_document(noi: Site) -> None:
    shown = noi.python("show(LogLevels); show(Procedures); show(BackgroundTasks)")
    assert shown == LOG_LEVELS + NOI_PROCEDURES + NOI_TASKS


def test_the_last_session_of_the_document(noi: Site) -> None:
    before, start, first, second, after, *table = noi.python(LAST_SESSION).splitlines()
    assert before == "'Not started'"
    assert start == "Start Background task #8 update_publisher_pages..."
    assert first == "Update published pages..."
    assert second == "72 pages have been updated."
    assert re.fullmatch(r"'Scheduled to run at \S+ \S+ \(\d+ \w+ from now\)'", after)
    assert len(list((noi.folder / "pages").glob("*.html"))) == 72
    assert table == NOI_TASKS.splitlines()


def test_team_lists_the_jobs_of_the_document(tmp_path: Path, django_db_blocker: Any) -> None:
    pattern = re.escape(TEAM_LIST).replace("MOMENT", r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d")
    pattern = pattern.replace("EVENING", r"\d{4}-\d\d-\d\d 20:00:00")
    with new_site("team", tmp_path, django_db_blocker) as site:
        site.manage("migrate", "--verbosity=0")
        assert re.fullmatch(pattern, site.manage("linod", "--list"))
        assert re.fullmatch(pattern, site.manage("linod", "-l"))


@pytest.mark.parametrize(
    ("variables", "complaint"),
    [
        ({"LINOD_EXAMPLE_DB": "oracle"}, "say sqlite, postgresql or mariadb"),
        ({"EMAIL_HOST": "localhost", "EMAIL_PORT": "x"}, "invalid literal for int"),
    ],
)
def test_a_mistyped_variable_is_refused(
    variables: dict[str, str], complaint: str, tmp_path: Path, django_db_blocker: Any
) -> None:
    with new_site("team", tmp_path, django_db_blocker, **variables) as site:
        process = site.start("manage.py", "check")
        assert process.wait(60) == 1
        assert complaint in process.output
