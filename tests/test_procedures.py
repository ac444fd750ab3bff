"""Declaring: what a decorator accepts, what it makes of it, and what it refuses in plain words."""

from __future__ import annotations

import functools
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from linod import (
    Procedure,
    Procedures,
    Recurrences,
    background_task,
    schedule_daily,
    schedule_often,
)
from linod.exceptions import CircularOrder, DuplicateProcedure, UnknownProcedure
from linod.procedures import declare
from linod.requests import BaseRequest
from tests.daemons import only_these_procedures


@pytest.fixture(autouse=True)
def _registry() -> Iterator[None]:
    with only_these_procedures():
        yield


def suggested() -> dict[str, str]:
    return {each.name: each.suggested_recurrency for each in Procedures}


def test_schedule_often_in_all_its_forms() -> None:
    @schedule_often
    def bare(ar: Any) -> None: ...

    @schedule_often()
    def empty(ar: Any) -> None: ...

    @schedule_often(300)
    def positional(ar: Any) -> None: ...

    @schedule_often(every=7)
    def named(ar: Any) -> None: ...

    @schedule_often(every=2, every_unit="minutely")
    def another_unit(ar: Any) -> None: ...

    assert suggested() == {
        "bare": "every=10, every_unit=secondly",
        "empty": "every=10, every_unit=secondly",
        "positional": "every=300, every_unit=secondly",
        "named": "every=7, every_unit=secondly",
        "another_unit": "every=2, every_unit=minutely",
    }


def test_schedule_daily_and_background_task_in_all_their_forms() -> None:
    @schedule_daily
    def bare() -> None: ...

    @schedule_daily()
    def empty() -> None: ...

    @schedule_daily(at="03:30", every=2)
    def early() -> None: ...

    @background_task
    def on_request() -> None: ...

    @background_task(every_unit=Recurrences.monthly, every=1)
    def monthly() -> None: ...

    assert suggested() == {
        "bare": "every=1, every_unit=daily",
        "empty": "every=1, every_unit=daily",
        "early": "every=2, every_unit=daily",
        "on_request": "every=1, every_unit=never",
        "monthly": "every=1, every_unit=monthly",
    }
    assert Procedures.early.kwargs["start_time"] == time(3, 30)
    assert "start_time" not in Procedures.bare.kwargs  # the row's default decides


def test_a_decorator_returns_the_function_itself() -> None:
    def plain(ar: Any) -> str:
        return "called"

    assert schedule_daily(plain) is plain
    assert plain(None) == "called"


def test_a_procedure_is_what_its_function_is_called() -> None:
    @schedule_daily(start_date="2026-12-01", start_time="06:15")
    def checkdata(ar: Any) -> None:
        """Run all data checkers.

        One after another.
        """

    found = Procedures.checkdata
    assert isinstance(found, Procedure)
    assert found.name == found.value == found.text == str(found) == "checkdata"
    assert repr(found) == "Procedures.checkdata"
    assert found.func is checkdata
    assert (found.every_unit, found.every_value) == ("daily", 1)
    assert found.start_datetime == datetime.combine(date(2026, 12, 1), time(6, 15))
    assert found.help_text == "Run all data checkers."
    assert Procedures.get_by_value("checkdata") is found
    assert Procedures.get_by_name("nothing") is None
    assert Procedures.get_by_value("nothing", "default") == "default"
    assert found == "checkdata"
    assert found in Procedures
    assert len(Procedures) == 1
    assert Procedures.verbose_name == "Background procedure"


def test_a_procedure_without_a_start_date_or_a_docstring() -> None:
    found = declare(lambda: None, "silent", at=time(6))
    assert found.start_datetime is None
    assert found.help_text == ""
    dated = declare(lambda: None, "dated", start_date=date(2026, 1, 2))
    assert dated.start_datetime == datetime.combine(date(2026, 1, 2), time())


def test_the_keyword_name_is_the_row_s_not_the_procedure_s() -> None:
    @background_task(name="Close the month")
    def close_month() -> None: ...

    assert Procedures.close_month.kwargs == {"name": "Close the month"}


def test_what_is_passed_to_the_function() -> None:
    ar = BaseRequest()
    assert declare(lambda ar: ar, "one").run(ar) is ar
    assert declare(lambda: "nothing", "none").run(ar) == "nothing"
    assert declare(lambda ar=None: ar, "optional").run(ar) is ar
    assert declare(lambda *args: args, "variadic").run(ar) == (ar,)
    assert declare(lambda **options: options, "options").run(ar) == {}


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"evry": 5}, "no field 'evry', did you mean 'every'?"),
        ({"tiemout": 5}, "no field 'tiemout', did you mean 'timeout'?"),
        ({"seqno": 5}, "no field 'seqno'"),
        ({"at": 20}, "at: 20 is no time of day such as '20:00'"),
        ({"start_date": datetime(2026, 1, 1, tzinfo=UTC)}, "start_date: .* is no date such as"),
        ({"at": time.fromisoformat("20:00+02:00")}, "at: .* is no time of day"),
    ],
)
def test_a_wrong_keyword_is_named(keywords: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        declare(lambda: None, "wrong", **keywords)
    assert len(Procedures) == 0


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"every_unit": "dayly"}, "Procedure wrong: every_unit: .*'dayly', did you mean 'daily'?"),
        ({"every_unit": 7}, "every_unit: there is no unit 7"),
        ({"every_unit": ["daily"]}, r"every_unit: there is no unit \['daily'\]"),
        ({"every": 1.5}, "Procedure wrong: every: give a whole number, not 1.5"),
        ({"every": float("inf")}, "every: give a whole number, not inf"),
        ({"every": Decimal("0.5")}, r"every: give a whole number, not Decimal\('0.5'\)"),
        ({"max_events": 2.5}, "max_events: give a whole number, not 2.5"),
        ({"missed_within": 0.5}, "missed_within: give a whole number, not 0.5"),
        ({"max_attempts": 1.5}, "max_attempts: give a whole number, not 1.5"),
        ({"disable_after": 0.1}, "disable_after: give a whole number, not 0.1"),
        ({"aliases": "a\0b"}, r"Procedure a\\x00b: databases refuse the name 'a\\x00b'"),
        ({"at": "25:00"}, "at: '25:00' is no time"),
        ({"at": "noon"}, "at: 'noon' is no time"),
        ({"end_time": "6 pm"}, "end_time: '6 pm' is no time"),
        ({"start_date": "1.2.2026"}, "start_date: '1.2.2026' is no date"),
    ],
)
def test_a_wrong_value_is_named(keywords: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        declare(lambda: None, "wrong", **keywords)
    assert len(Procedures) == 0


def test_a_decorator_refuses_a_fraction() -> None:
    with pytest.raises(ValueError, match=r"Procedure wrong: every: give a whole number, not 1\.5"):

        @schedule_often(1.5)  # type: ignore[call-overload]
        def wrong(ar: Any) -> None: ...

    assert declare(lambda: None, "whole", every=60 / 5).every_value == 12


def test_no_unit_is_never() -> None:
    assert declare(lambda: None, "nameless", every_unit=None).kwargs == {"every_unit": "never"}


def generator(ar: Any) -> Iterator[None]:
    yield


async def async_generator(ar: Any) -> Any:
    yield


@pytest.mark.parametrize(
    ("func", "message"),
    [
        (lambda ar, days: None, r"must take one argument \(ar\) or none, not ar, days"),
        (lambda *, days: None, r"must take one argument \(ar\) or none, not days"),
        (generator, "is a generator: calling it would do nothing"),
        (async_generator, "is a generator: calling it would do nothing"),
        ("20:00", "'20:00' is no function"),
    ],
)
def test_a_function_that_cannot_run_is_refused(func: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        declare(func, "wrong")


def test_a_decorator_with_a_positional_time_says_what_to_write() -> None:
    with pytest.raises(TypeError, match="'20:00' is no function; say what it is: at='20:00'"):
        schedule_daily("20:00")  # type: ignore[call-overload]


def test_a_name_is_needed_and_has_its_length() -> None:
    with pytest.raises(TypeError, match="has no name that rows could refer to"):
        declare(functools.partial(print, "x"))
    with pytest.raises(ValueError, match="at most 100 characters"):
        declare(lambda: None, "x" * 101)
    with pytest.raises(ValueError, match=r"Procedure \\ud800: databases refuse the name"):
        declare(lambda: None, "\ud800")
    assert len(Procedures) == 0
    assert declare(functools.partial(lambda ar: ar), "named").name == "named"


def test_two_functions_of_one_name_are_both_named() -> None:
    declare(lambda: None, "checkdata")
    first = Procedures.checkdata.where
    with pytest.raises(DuplicateProcedure) as caught:
        declare(lambda: 1 + 1, "checkdata")
    text = str(caught.value)
    assert "'checkdata'" in text
    assert first in text
    assert re.search(rf"{re.escape(__file__)}:\d+\) and .*{re.escape(__file__)}:\d+\)$", text)
    assert Procedures.checkdata.where == first


def test_two_functions_of_one_name_in_one_module() -> None:
    def module(line: int) -> dict[str, Any]:
        source = "\n" * line + "def checkdata(): pass\n"
        names: dict[str, Any] = {"__name__": "shop.tasks"}
        exec(compile(source, "shop/tasks.py", "exec"), names)  # noqa: S102 - a module for this test
        return names

    declare(module(4)["checkdata"])
    with pytest.raises(DuplicateProcedure, match=r"shop/tasks.py:5\) and .*shop/tasks.py:31\)"):
        declare(module(30)["checkdata"])
    again = module(4)["checkdata"]
    assert declare(again, every=3).func is again  # the module was read a second time
    assert Procedures.checkdata.every_value == 3


def test_a_former_name_still_finds_the_procedure() -> None:
    new = declare(lambda: None, "new_name", aliases="old_name")
    assert Procedures.get_by_name("old_name") is new
    assert Procedures.find("old_name") is new
    assert Procedures.known_names() == ["new_name", "old_name"]
    with pytest.raises(DuplicateProcedure, match="'old_name'"):
        declare(lambda: 1, "old_name")
    with pytest.raises(DuplicateProcedure, match="'new_name'"):
        declare(lambda: 2, "other", aliases=["older", "new_name"])


def test_an_unknown_name_gets_the_near_ones() -> None:
    declare(lambda: None, "checkdata")
    with pytest.raises(
        UnknownProcedure, match=r"no procedure 'chekdata', did you mean checkdata\?"
    ):
        Procedures.find("chekdata")
    with pytest.raises(UnknownProcedure, match=r"no procedure 'zzz'$"):
        Procedures.find("zzz")
    with pytest.raises(
        AttributeError, match=r"Procedures has no choice 'chekdata', did you mean 'checkdata'\?$"
    ):
        _ = Procedures.chekdata
    with pytest.raises(UnknownProcedure, match="knows no procedure 'gone'"):
        Procedure(None, "gone").run(BaseRequest())


def test_running_order_follows_run_after_and_else_the_declaration() -> None:
    declare(lambda: None, "c")
    declare(lambda: None, "b", run_after="a")
    declare(lambda: None, "a", run_after=["c", "missing"])
    declare(lambda: None, "d")
    declare(lambda: None, "e", run_after="former_d")
    declare(lambda: None, "f", aliases=("former_d",))
    names = [each.name for each in Procedures.in_running_order()]
    assert names == ["c", "a", "b", "d", "f", "e"]
    assert [each.name for each in Procedures] == ["c", "b", "a", "d", "e", "f"]


def test_a_circle_is_named() -> None:
    declare(lambda: None, "a", run_after="c")
    declare(lambda: None, "b", run_after="a")
    declare(lambda: None, "c", run_after="b")
    with pytest.raises(CircularOrder, match="a -> c -> b -> a"):
        Procedures.in_running_order()


def test_a_procedure_after_itself_is_a_circle() -> None:
    declare(lambda: None, "a", run_after="a")
    with pytest.raises(CircularOrder, match="a -> a"):
        Procedures.in_running_order()


def test_procedures_are_found_in_three_modules_of_each_app(tmp_path: Path) -> None:
    app = tmp_path / "shop"
    app.mkdir()
    (app / "__init__.py").touch()
    for module in ("models", "procedures", "tasks", "views"):
        source = f"from linod import schedule_daily\n@schedule_daily\ndef of_{module}(ar): ...\n"
        (app / f"{module}.py").write_text(source)
    script = """
        import django
        from django.conf import settings
        settings.configure(
            USE_TZ=True, INSTALLED_APPS=[
                "django.contrib.auth", "django.contrib.contenttypes", "linod", "shop"
            ]
        )
        django.setup()
        from linod import Procedures
        print(*Procedures)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=tmp_path,
        env={"PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[1]}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == ["of_models", "of_procedures", "of_tasks"], done.stderr


def test_a_settings_file_may_import_linod() -> None:
    script = "import linod, sys; linod.__version__; sys.exit('django' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=Path(__file__).parents[1], check=False
    )
    assert done.returncode == 0


def test_the_public_names_are_there() -> None:
    import linod

    for name in linod.__all__:
        assert getattr(linod, name).__name__ == name
    assert set(linod.__all__) <= set(dir(linod))
    with pytest.raises(AttributeError, match="module 'linod' has no attribute 'Jobs'"):
        _ = linod.Jobs
