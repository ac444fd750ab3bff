"""The choicelists: their items, their order, and how code and rows refer to them."""

from __future__ import annotations

import pytest

from linod import LogLevels, Recurrences


def test_recurrences_in_their_order_with_their_values() -> None:
    assert [(each.value, each.name) for each in Recurrences] == [
        ("O", "once"),
        ("N", "never"),
        ("s", "secondly"),
        ("m", "minutely"),
        ("h", "hourly"),
        ("D", "daily"),
        ("W", "weekly"),
        ("M", "monthly"),
        ("Y", "yearly"),
        ("P", "per_weekday"),
        ("E", "easter"),
        ("C", "cron"),
    ]
    assert Recurrences.easter.text == "Relative to Easter"


def test_five_log_levels() -> None:
    assert [(each.value, each.text, each.num_value) for each in LogLevels] == [
        ("DEBUG", "DEBUG", 10),
        ("INFO", "INFO", 20),
        ("WARNING", "WARNING", 30),
        ("ERROR", "ERROR", 40),
        ("CRITICAL", "CRITICAL", 50),
    ]
    assert (LogLevels.verbose_name, LogLevels.verbose_name_plural) == (
        "Logging level",
        "Logging levels",
    )


def test_a_choice_compares_with_what_a_row_holds() -> None:
    assert Recurrences.daily == "daily"
    assert "daily" in Recurrences
    assert "dayly" not in Recurrences
    assert len(LogLevels) == 5
    assert Recurrences.get_by_value("D") is Recurrences.daily
    assert Recurrences.get_by_name("D") is None
    assert Recurrences.get_by_name("D", "default") == "default"
    assert ("daily", "daily") in Recurrences.as_choices()


def test_what_is_not_there_is_named() -> None:
    with pytest.raises(
        AttributeError, match=r"Recurrences has no choice 'dayly', did you mean 'daily'\?$"
    ):
        _ = Recurrences.dayly
    with pytest.raises(AttributeError, match=r"LogLevels has no choice 'LOUD'$"):
        _ = LogLevels.LOUD
    with pytest.raises(AttributeError, match="Choice 'daily' has no attribute 'num_value'"):
        _ = Recurrences.daily.num_value
