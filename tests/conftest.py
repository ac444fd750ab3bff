"""What all tests share: the servers, present or absent, and how another process opens them.

A server that is absent skips the tests that need it and says why; with
``LINOD_REQUIRE_SERVICES=1`` it is a failure instead.

======================= ===================== =====================================================
variable                default               meaning
======================= ===================== =====================================================
LINOD_REQUIRE_SERVICES  (empty)               1: an absent server is a failure
LINOD_REDIS_HOST        127.0.0.1             also LINOD_REDIS_PORT; the databases have their own
                                              variables in tests/settings.py
LINOD_TEST_WHEEL        (empty)               1: the installed linod is tested, or nothing is
======================= ===================== =====================================================
"""

import os
import signal
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from django.db import OperationalError, connection
from xdist.scheduler import LoadScopeScheduling

import linod
from tests import settings

INSTALLED = Path(linod.__path__[0])
CHECKOUT = Path(__file__).parents[1]
REQUIRE_SERVICES = os.environ.get("LINOD_REQUIRE_SERVICES") == "1"
PATIENCE = 3  # seconds that a server gets to answer
DRIVERS = {"postgresql": "psycopg[binary]", "mariadb": "mysqlclient"}
#: Once is enough for these: what they look at does not depend on the kind of database.
ALIKE = (
    "browser/", "docs/", "faults/", "live/", "test_admin_rights.py", "test_demo.py",
    "test_logserver_command.py", "test_notify.py",
)  # fmt: skip
#: What shares a site, a browser or a server is done by one worker: making these takes long.
TOGETHER = ("tests/browser/", "tests/docs/", "tests/live/test_daphne.py")
#: What takes longest comes first, or one worker is still at it when the others are done.
LONGEST = (
    "tests/model/test_model.py", "tests/recurrence/test_zones.py", "tests/test_benchmarks.py",
    "tests/faults/", "tests/test_demo.py", "tests/test_team_daemon.py",
)  # fmt: skip
DATABASE_FIXTURES = frozenset({"db", "transactional_db", "django_db_setup", "process_env"})


def database_absence() -> str:
    """Why the database that LINOD_TEST_DB names cannot be used; nothing when it can."""
    if settings.TEST_DB not in DRIVERS:
        return ""
    if connection.vendor == "unknown":
        return (
            f"{settings.TEST_DB}: its driver is missing: pip install '{DRIVERS[settings.TEST_DB]}'"
        )
    probe = connection.copy()
    probe.settings_dict |= {"NAME": None, "OPTIONS": {"connect_timeout": PATIENCE}}
    try:
        with probe.wrap_database_errors:
            probe.get_new_connection(probe.get_connection_params()).close()
    except OperationalError as error:
        reason = " ".join(str(error).split())
        return f"{settings.TEST_DB} does not answer: {reason}"
    return ""


ABSENCE = database_absence()


def uses_database(item: pytest.Item) -> bool:
    return (
        item.get_closest_marker("django_db") is not None
        or item.get_closest_marker("database") is not None
        or not DATABASE_FIXTURES.isdisjoint(getattr(item, "fixturenames", ()))
        or bool(getattr(getattr(item, "cls", None), "databases", ()))
    )


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--only-database",
        action="store_true",
        help="run only the tests that depend on the kind of database (for the others)",
    )


def pytest_configure() -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # So it is in the background of a shell; what the tests start would inherit it.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if ABSENCE and REQUIRE_SERVICES:
        raise pytest.UsageError(f"LINOD_REQUIRE_SERVICES=1, but {ABSENCE}")
    if os.environ.get("LINOD_TEST_WHEEL") == "1" and INSTALLED.parent == CHECKOUT:
        raise pytest.UsageError(f"LINOD_TEST_WHEEL=1, but linod comes from {CHECKOUT}")


def pytest_report_header() -> list[str]:
    return [f"linod: {INSTALLED}", f"database: {ABSENCE or settings.TEST_DB}"]


class Workers(LoadScopeScheduling):
    """Gives tests to the workers: those of :data:`TOGETHER` to one, the others one by one.

    Not xdist's own ``loadgroup``: beside pytest 9.2 version 3.8 takes no notice of the groups.
    """

    def _split_scope(self, nodeid: str) -> str:
        return next((place for place in TOGETHER if nodeid.startswith(place)), nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Workers:
    return Workers(config, log)


@pytest.hookimpl(trylast=True)  # after their order has been shuffled
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not item.nodeid.startswith(LONGEST))
    if not config.getoption("--only-database"):
        return
    chosen = [item for item in items if uses_database(item) and not is_alike(item)]
    config.hook.pytest_deselected(items=[item for item in items if item not in set(chosen)])
    items[:] = chosen


def is_alike(item: pytest.Item) -> bool:
    """Whether it is about what a browser, a socket or a newcomer meets, on any database alike."""
    place = item.path.relative_to(Path(__file__).parent).as_posix()
    return place.startswith(ALIKE)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    if ABSENCE and uses_database(item):
        pytest.skip(ABSENCE)


@pytest.fixture
def process_env(transactional_db: None) -> dict[str, str]:
    """The environment in which another process opens this test's database."""
    return os.environ | {
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "LINOD_TEST_DB_NAME": str(connection.settings_dict["NAME"]),
    }


@pytest.fixture(scope="session")
def redis_url() -> str:
    """A Redis that answers; each worker of a parallel run has a database of its own there."""
    import redis

    host = os.environ.get("LINOD_REDIS_HOST", "127.0.0.1")
    port = os.environ.get("LINOD_REDIS_PORT", "6379")
    worker = os.environ.get("PYTEST_XDIST_WORKER", "").removeprefix("gw")
    url = f"redis://{host}:{port}/{int(worker) + 1 if worker else 0}"
    try:
        with redis.Redis.from_url(url, socket_timeout=PATIENCE) as client:
            client.ping()
    except redis.RedisError as error:
        absence = f"Redis does not answer at {host}:{port}: {error}"
        if REQUIRE_SERVICES:
            pytest.fail(f"LINOD_REQUIRE_SERVICES=1, but {absence}")
        pytest.skip(absence)
    return url


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let lone surrogates, which some tests log, pass through the pipe of parallel workers."""
    report = yield
    report.sections = [
        (name, text.encode("utf-8", "backslashreplace").decode("utf-8"))
        for name, text in report.sections
    ]
    return report
