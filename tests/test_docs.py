"""What the documentation states about names, defaults and texts is what the code has."""

import re
from dataclasses import fields
from pathlib import Path

import pytest
from django.contrib import admin
from django.core.management import load_command_class
from django.db import models
from django.dispatch import Signal

import linod
from linod import checks, conf, exceptions, rules, signals, status
from linod.history import Daemon, Decision, Job, JobLog
from linod.models import BackgroundTask
from linod.procedures import DECLARATION_ONLY
from tests.test_layout import FLOORS

DOCS = Path(__file__).parents[1] / "docs"
MODELS = (BackgroundTask, Job, JobLog, Decision, Daemon)
#: A simple table: between lines of "=" its heading, then its rows.
TABLE = re.compile(r"^=[= ]+=\n(.+)\n=[= ]+=\n((?:.+\n|\n(?= ))+?)=[= ]+=$", re.MULTILINE)
LITERAL = re.compile(r"^``([^`]+)``", re.MULTILINE)


def text(page: str) -> str:
    return (DOCS / f"{page}.rst").read_text(encoding="utf-8")


def part(page: str, title: str) -> str:
    """What stands below that title, up to the next title of the same rank."""
    _before, found, rest = text(page).partition(f"\n\n{title}\n{'=' * len(title)}\n")
    assert found, f"{page} has no part {title}"
    return re.split(r"\n\n.+\n={3,}\n\n", rest)[0]


def column(source: str, heading: str) -> list[str]:
    """The literals that begin the rows of all tables whose first heading is this one."""
    tables = [rows for head, rows in TABLE.findall(source) if head.split("  ")[0] == heading]
    assert tables, f"no table begins with {heading}"
    return [cell for rows in tables for cell in LITERAL.findall(rows)]


# Settings


def test_every_setting_is_described_with_its_default() -> None:
    described = re.findall(
        r"\.\. confval:: (\w+)\n +:type: .+\n +:default: ``(.+?)``", text("reference/settings")
    )
    defaults = {f.name: f.default for f in fields(conf.Config)}
    assert {name: default.replace('"', "'") for name, default in described} == {
        name: repr(default) for name, default in defaults.items()
    }


def test_every_check_is_described() -> None:
    source = Path(checks.__file__).read_text(encoding="utf-8")
    issued = set(re.findall(r'id="(linod\.[EW]\d+)"', source))
    assert issued
    assert column(text("reference/settings"), "check") == sorted(issued)


# Models


@pytest.mark.parametrize("model", MODELS)
def test_every_field_is_described(model: type[models.Model]) -> None:
    made_by_django = set() if model is Job else {"id"}
    names = {field.name for field in model._meta.concrete_fields} - made_by_django
    described = column(part("reference/models", model.__name__), "field")
    assert sorted(described) == sorted(names)


def test_every_state_is_described() -> None:
    page = text("reference/models")
    assert column(page, "state") == Job.State.values
    kinds = dict(re.findall(r"^``(\w+)`` +(will run|active|final) ", page, re.MULTILINE))
    assert {state for state, kind in kinds.items() if kind == "active"} == set(Job.ACTIVE)
    assert {state for state, kind in kinds.items() if kind == "final"} == set(Job.FINAL)


def test_every_kind_of_decision_is_described() -> None:
    assert column(part("reference/models", "Decision"), "kind") == Decision.Kind.values


def test_every_permission_is_described() -> None:
    declared = [f"linod.{name}" for model in MODELS for name, _text in model._meta.permissions]
    named = LITERAL.findall(part("reference/models", "Permissions"))
    assert sorted(named) == sorted(declared)


# Texts


def test_every_status_is_described_in_its_order() -> None:
    source = Path(status.__file__).read_text(encoding="utf-8")
    _before, _def, body = source.partition("def status_text")
    texts = re.findall(r'_\("([^"]+)"\)', body)
    assert len(texts) == 8
    described = [
        re.sub(r"\(D (ago|from now)\)", "(D)", each)
        for each in column(text("reference/status"), "status")
    ]
    filled = [
        each.replace("%s", "T") % {"moment": "T", "distance": "D"} if "%" in each else each
        for each in texts
    ]
    assert described == filled


def test_every_unit_is_described() -> None:
    assert column(text("reference/recurrence"), "unit") == list(rules.UNITS)


def test_every_exported_name_is_described() -> None:
    assert sorted(column(text("reference/python"), "name")) == sorted(linod.__all__)


def test_every_signal_is_described() -> None:
    described = re.findall(r"^\.\. py:data:: (\w+)$", text("reference/signals"), re.MULTILINE)
    assert described == [name for name, value in vars(signals).items() if isinstance(value, Signal)]


def test_the_errors_drawn_as_a_tree_are_those_that_exist() -> None:
    tree = r"^ {4}(?:\|   )?(?:[|`]-- )?(\w+)"
    drawn = re.findall(tree, exceptions.__doc__ or "", re.MULTILINE)
    declared = [
        name
        for name, value in vars(exceptions).items()
        if isinstance(value, type) and value.__module__ == exceptions.__name__
    ]
    assert drawn == declared


def test_every_keyword_of_a_declaration_is_described() -> None:
    page = text("plugin/linod")
    assert [name for name in sorted(DECLARATION_ONLY) if f"``{name}``" not in page] == []


def test_the_page_for_developers_has_the_subjects_of_2024() -> None:
    """What Lino's documentation tells about its plugin: links say where the rest stands."""
    page = text("plugin/linod")
    for subject in (
        "show(Procedures)", "show(BackgroundTasks)", "show(LogLevels)", "start_task",
        "manage.py linod", ":doc:`../logserver`", ":doc:`../channels`", "get_requirements()",
    ):  # fmt: skip
        assert subject in page, subject


# The command


def options(app: str, name: str) -> set[str]:
    parser = load_command_class(app, name).create_parser("manage.py", name)
    return {option for action in parser._actions for option in action.option_strings}


def test_every_option_of_the_command_is_described() -> None:
    lines = re.findall(r"^\.\. option:: (.+)$", text("reference/command"), re.MULTILINE)
    described = {words.split()[0] for line in lines for words in line.split(", ")}
    assert described == options("linod", "linod") - options("django.core", "shell")


# The admin


def test_every_action_of_the_admin_is_described_with_its_permission() -> None:
    task_admin = admin.site.get_model_admin(BackgroundTask)
    actions = {
        str(action.short_description): f"linod.{action.allowed_permissions[0]}_backgroundtask"
        for action in (getattr(task_admin, name) for name in task_admin.actions)
    }
    rows = re.findall(r"^``(.+?)`` +``(linod\.\w+)``", text("reference/admin"), re.MULTILINE)
    assert dict(rows) == actions


# Contributors


def test_the_architecture_names_every_floor() -> None:
    named = re.findall(r"^(\d) \w", part("architecture", "Floors"), re.MULTILINE)
    assert sorted(map(int, named)) == sorted(set(FLOORS.values()))


def test_every_page_is_part_of_the_whole() -> None:
    listed = set(re.findall(r"^    ([\w/-]+)$", text("index"), re.MULTILINE))
    pages = {
        str(page.relative_to(DOCS).with_suffix(""))
        for page in DOCS.rglob("*.rst")
        if "_build" not in page.parts
    }
    assert listed == pages - {"index"}
