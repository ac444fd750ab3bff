"""The dict LINOD: defaults, late reading, and refusals that name the key and the near one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from linod.conf import KINDS, config, problems
from linod.loghandler import LinodHandler, logging_config


def test_the_defaults() -> None:
    found = config()
    assert found.SITE == "tests"
    assert found.USE_CHANNELS is False
    assert (found.BACKGROUND_SLEEP_TIME, found.MAX_CONCURRENCY) == (5, 10)
    assert (found.LEASE, found.GRACE) == (30, 25)
    assert (found.DAEMON_USER, found.LOG_DIR, found.LOG_FILE) == (None, None, "lino.log")


def test_settings_are_read_late() -> None:
    with override_settings(LINOD={"LEASE": 9, "SITE": "mysite"}):
        assert config().LEASE == 9
        assert config().SITE == "mysite"
    assert config().LEASE == 30
    with override_settings(LINOD={"LEASE": 9}):
        assert config().SITE == "tests"
    with override_settings(SETTINGS_MODULE="shop.settings.production"):
        assert config().SITE == "shop"


LOG_FILE = (
    "LINOD['LOG_FILE'] must be the name of a file: letters, digits and the signs _.- only, not "
)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (["LEASE"], "LINOD must be a dict, not list"),
        (None, "LINOD must be a dict, not NoneType"),
        ({"LEESE": 3}, "LINOD has no key 'LEESE', did you mean 'LEASE'?"),
        ({"use_channels": True}, "LINOD has no key 'use_channels', did you mean 'USE_CHANNELS'?"),
        ({"LEASE": "3"}, "LINOD['LEASE'] must be int or float, not '3'"),
        ({"LEASE": True}, "LINOD['LEASE'] must be int or float, not True"),
        ({"MAX_CONCURRENCY": 1.5}, "LINOD['MAX_CONCURRENCY'] must be int, not 1.5"),
        ({"USE_CHANNELS": 1}, "LINOD['USE_CHANNELS'] must be bool, not 1"),
        ({"LOG_DIR": 5}, "LINOD['LOG_DIR'] must be str or Path or None, not 5"),
        ({"DAEMON_USER": 5}, "LINOD['DAEMON_USER'] must be str or None, not 5"),
        ({"LEASE": 0.001}, "LINOD['LEASE'] must be from 0.5 to below 100,000, not 0.001"),
        (
            {"BACKGROUND_SLEEP_TIME": 0.00001},
            "LINOD['BACKGROUND_SLEEP_TIME'] must be from 0.05 to below 100,000, not 1e-05",
        ),
        (
            {"MAX_CONCURRENCY": 1_001},
            "LINOD['MAX_CONCURRENCY'] must be from 1 to 1,000, not 1001",
        ),
        ({"MAX_CONCURRENCY": 0}, "LINOD['MAX_CONCURRENCY'] must be from 1 to 1,000, not 0"),
        (
            {"KEEP_JOBS_DAYS": 0},
            "LINOD['KEEP_JOBS_DAYS'] must be above zero and below 100,000, not 0",
        ),
        ({"GRACE": -1}, "LINOD['GRACE'] must be from zero to below 100,000, not -1"),
        ({"LOG_FILE": "a/b.log"}, LOG_FILE + "'a/b.log'"),
        ({"LOG_FILE": "linod.sock"}, LOG_FILE + "'linod.sock'"),
        (
            {"LOG_ROTATE_MB": -1},
            "LINOD['LOG_ROTATE_MB'] must be from zero to below 100,000, not -1",
        ),
        (
            {"LOG_KEEP_FILES": 0},
            "LINOD['LOG_KEEP_FILES'] must be above zero and below 100,000, not 0",
        ),
        (
            {"LOG_ROTATE_EVERY": "week"},
            "LINOD['LOG_ROTATE_EVERY'] must be \"hour\", \"day\" or empty, not 'week'",
        ),
        ({"LOG_USERS": "www-data"}, "LINOD['LOG_USERS'] must be list or tuple, not 'www-data'"),
        ({"LOG_USERS": [33]}, "LINOD['LOG_USERS'] must be names of users, not [33]"),
        (
            {"LOG_FORMAT": "{time}"},
            "LINOD['LOG_FORMAT'] must be a line's format ({message} is missing), not '{time}'",
        ),
        (
            {"LOG_FORMAT": "{host} {message}"},
            "LINOD['LOG_FORMAT'] must be a line's format (there is no {host}, there is {time}"
            " {level} {logger} {pid} {uid} {message}), not '{host} {message}'",
        ),
        (
            {"SITE": "a/b"},
            "LINOD['SITE'] must be letters, digits and the signs _.- only, not 'a/b'",
        ),
    ],
)
def test_a_wrong_setting_is_named(given: Any, problem: str) -> None:
    assert problems(given) == [problem]
    with (
        override_settings(LINOD=given),
        pytest.raises(ImproperlyConfigured) as caught,
    ):
        config()
    assert str(caught.value) == problem


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1, 0, 10**9])
def test_a_number_must_make_sense(value: float) -> None:
    for key, least in (("LEASE", 0.5), ("BACKGROUND_SLEEP_TIME", 0.05)):
        (problem,) = problems({key: value})
        assert problem.startswith(f"LINOD[{key!r}] must be from {least} to below 100,000, not ")


def test_a_key_like_no_other_gets_all_that_are_known() -> None:
    (problem,) = problems({"zzz": 1})
    assert problem == f"LINOD has no key 'zzz'; known are {', '.join(KINDS)}"


def test_every_problem_is_told() -> None:
    assert len(problems({"LEESE": 1, "LEASE": 0, "SITE": 5})) == 3


@pytest.mark.parametrize(
    "given",
    [{}, {"GRACE": 0}, {"LEASE": 0.5}, {"BACKGROUND_SLEEP_TIME": 0.05}, {"MAX_CONCURRENCY": 1},
     {"MAX_CONCURRENCY": 1_000}, {"KEEP_JOBS_DAYS": 1},
     {"LOG_DIR": Path("/var/log")}, {"LOG_DIR": "/var/log"},
     {"LOG_USERS": ["deploy"], "LOG_ROTATE_EVERY": "day", "LOG_ROTATE_MB": 0.5},
     {"LOG_FORMAT": "{pid:>6} {message}", "LOG_FILE": "site_1.log"},
     {"RUN_DIR": None}, {"DAEMON_USER": "robin"}, {"SITE": "my-site.2"}],
)  # fmt: skip
def test_a_right_setting_is_taken(given: dict[str, Any]) -> None:
    assert problems(given) == []
    with override_settings(LINOD=given):
        for key, value in given.items():
            assert getattr(config(), key) == value


@override_settings(LOGGING_CONFIG=None)  # or Django 6.1 sets up what is only looked at
def test_the_log_s_folder_is_where_logging_sends() -> None:
    with override_settings(LOGGING=logging_config("/srv/site/log")):
        assert config().LOG_DIR == "/srv/site/log"
        with override_settings(LINOD={"LOG_DIR": None}):
            assert config().LOG_DIR is None
    factory = {"handlers": {"one": {"()": LinodHandler, "log_dir": Path("log")}, "two": {}}}
    with override_settings(LOGGING=factory):
        assert str(config().LOG_DIR) == "log"
    with override_settings(LOGGING=None):
        assert config().LOG_DIR is None
