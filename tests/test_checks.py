"""System checks: each error by its number, before any daemon starts."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import Any

import pytest
from django.core import checks as django_checks
from django.test import modify_settings, override_settings

from linod import checks
from linod.loghandler import logging_config
from linod.procedures import declare
from tests.daemons import only_these_procedures


@pytest.fixture(autouse=True)
def _registry() -> Iterator[None]:
    with only_these_procedures():
        yield


def ids() -> list[str | None]:
    return [message.id for message in checks.check_settings()]


def test_a_right_site_passes() -> None:
    assert ids() == []


def test_django_runs_the_checks() -> None:
    with override_settings(USE_TZ=False):
        found = django_checks.run_checks(tags=["linod"])
    assert [message.id for message in found] == ["linod.E001"]
    assert "USE_TZ = True" in str(found[0].hint)


def test_every_wrong_setting_is_an_error() -> None:
    with override_settings(LINOD={"LEESE": 1, "LEASE": "x"}):
        found = checks.check_settings()
    assert [message.id for message in found] == ["linod.E002", "linod.E002"]
    assert found[0].msg == "LINOD has no key 'LEESE', did you mean 'LEASE'?"


def test_an_unknown_database() -> None:
    with override_settings(LINOD={"DATABASE": "other"}):
        (found,) = checks.check_settings()
    assert found.id == "linod.E003"
    assert "'other'" in found.msg


def test_channels_that_are_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec

    def absent(name: str, *args: Any) -> Any:
        return None if name in ("channels_redis", "daphne") else (name != "channels") or real("re")

    monkeypatch.setattr(importlib.util, "find_spec", absent)
    with override_settings(LINOD={"USE_CHANNELS": True}):
        (found,) = checks.check_settings()
    assert found.id == "linod.E004"
    assert found.msg == "LINOD['USE_CHANNELS'] needs channels_redis, daphne"
    assert found.hint == "pip install 'linod[channels]'"
    assert ids() == []  # an extra that nobody uses may be absent


def test_a_circle_of_procedures() -> None:
    declare(lambda: None, "a", run_after="b")
    declare(lambda: None, "b", run_after="a")
    (found,) = checks.check_settings()
    assert found.id == "linod.E005"
    assert "a -> b -> a" in found.msg


def test_users_that_are_nowhere() -> None:
    with modify_settings(INSTALLED_APPS={"remove": ["django.contrib.auth"]}):
        (found,) = checks.check_settings()
    assert found.id == "linod.E006"
    assert "'auth'" in found.msg


def test_a_predecessor_that_is_not_declared() -> None:
    declare(lambda: None, "checkdata", aliases=("former",))
    declare(lambda: None, "right", run_after=("checkdata", "former"))
    assert ids() == []
    declare(lambda: None, "near", run_after="chekdata")
    declare(lambda: None, "far", run_after="elsewhere")
    near, far = checks.check_settings()
    assert (near.id, near.is_serious()) == ("linod.W001", False)
    assert near.msg == "Procedure near: run_after names 'chekdata', which is not declared here"
    assert (near.hint, far.hint) == ("Did you mean 'checkdata'?", None)


@override_settings(LOGGING_CONFIG=None)  # or Django 6.1 sets up what is only looked at
def test_processes_must_send_where_the_server_is() -> None:
    with override_settings(LINOD={"LOG_DIR": "/srv/log"}, LOGGING=logging_config("/srv/logs")):
        (found,) = checks.check_settings()
    assert found.id == "linod.E009"
    assert found.msg == "LINOD['LOG_DIR'] is /srv/log, but LOGGING sends to /srv/logs"
    with override_settings(LINOD={"LOG_DIR": "/srv/log/"}, LOGGING=logging_config("/srv/log")):
        assert ids() == []


@override_settings(LOGGING_CONFIG=None)  # or Django 6.1 sets up what is only looked at
def test_a_folder_must_have_room_for_a_socket_s_name() -> None:
    with override_settings(LOGGING=logging_config("/" + 96 * "x")):
        assert ids() == ["linod.E009"]
    with override_settings(LOGGING=logging_config("/" + 95 * "x")):
        assert ids() == []
