"""The checker itself: a true history passes, and each kind of fault in one is found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from tests.faults.__main__ import broken_lines
from tests.faults.history import DecisionRow, JobRow, Verdict, check
from tests.faults.journal import BEGIN, END, Line
from tests.faults.schedules import Schedule

TASK = Schedule(every=10, first=1000, last=1050, task=1)


def row(due: float, **values: object) -> JobRow:
    job = JobRow(f"j{due:.0f}", 1, due, "schedule", 1, "succeeded", 0, "me", 1)
    return replace(job, **values)  # type: ignore[arg-type]


def body(due: float, **values: object) -> list[Line]:
    begin = Line(BEGIN, f"j{due:.0f}", 1, 1, 1, 7, due, due)
    begin = replace(begin, **values)  # type: ignore[arg-type]
    return [begin, replace(begin, event=END, at=begin.at + 1)]


ROWS = [row(due) for due in TASK.instants]
LINES = [line for due in TASK.instants for line in body(due)]
OWNERS = {7: "me", 8: "other"}


def judge(
    rows: Sequence[JobRow] = ROWS,
    lines: Sequence[Line] = LINES,
    decisions: Sequence[DecisionRow] = (),
) -> Verdict:
    return check([TASK], rows, decisions, lines, OWNERS)


def kinds(verdict: Verdict) -> set[str]:
    return {kind for kind, _text in verdict.violations}


def test_a_true_history_passes() -> None:
    verdict = judge()
    assert verdict.violations == []
    assert (verdict.instants, verdict.rows, verdict.bodies) == (6, 6, 6)


def test_instants_may_be_counted_in_the_next_row() -> None:
    rows = [row(1000), row(1030, missed=2), row(1040), row(1050)]
    lines = [line for job in rows for line in body(job.due)]
    assert judge(rows, lines).violations == []
    rows[1] = row(1030, missed=1)
    assert judge(rows, lines).count("missing") == 1
    rows[1] = row(1030, missed=3)
    assert judge(rows, lines).count("doubled") == 1


def test_instants_may_be_skipped_in_the_ledger() -> None:
    rows, lines = ROWS[:4], LINES[:8]
    skipped = DecisionRow(1, 1040, "skipped", "2 skipped: missed instants are not made up")
    assert judge(rows, lines, [skipped]).violations == []
    assert judge(rows, lines).count("missing") == 2


@pytest.mark.parametrize(
    ("wrong", "rows", "lines"),
    [
        ("missing", ROWS[:2] + ROWS[3:], LINES[:4] + LINES[6:]),
        ("missing", ROWS[:-1], LINES[:-2]),
        ("doubled", [*ROWS, row(1020, id="again")], [*LINES, *body(1020, job="again")]),
        ("unexpected", [*ROWS, row(1025)], [*LINES, *body(1025)]),
        ("unfinished", [*ROWS[:-1], row(1050, state="running")], LINES),
        ("body twice", ROWS, [*LINES, *body(1020, at=1024, pid=8)]),
        ("body unknown", ROWS, [*LINES, *body(1060)]),
        ("outcome", ROWS, LINES[:-2]),
        ("outcome", ROWS, LINES[:-1]),
        ("outcome", [*ROWS[:-1], row(1050, owner="other")], LINES),
        ("overlap", ROWS, [*LINES[:-2], *body(1050, at=1040.5)]),
    ],
)
def test_each_kind_of_fault_is_found(
    wrong: str, rows: Sequence[JobRow], lines: Sequence[Line]
) -> None:
    assert wrong in kinds(judge(rows, lines))


def test_what_was_lost_may_have_begun_or_not() -> None:
    rows = [*ROWS[:-1], row(1050, state="lost")]
    begun, unbegun = judge(rows, LINES[:-1]), judge(rows, LINES[:-2])
    assert begun.violations == unbegun.violations == []
    assert (begun.lost_unbegun, unbegun.lost_unbegun) == ({}, {"me": 1})
    assert (begun.taken, unbegun.taken) == (1, 0)


def test_lost_jobs_that_had_not_begun_are_counted_for_each_owner() -> None:
    owners = ("me", "me", "me", "other", "other", "me")
    rows = [row(job.due, state="lost", owner=who) for job, who in zip(ROWS, owners, strict=True)]
    assert judge(rows, LINES[-2:]).lost_unbegun == {"me": 3, "other": 2}


def test_a_further_attempt_may_begin_beside_the_lost_one() -> None:
    rows = [*ROWS[:-1], row(1050, attempt=2)]
    lines = [*LINES, *body(1050, attempt=2, at=1050.5, pid=8)]
    assert kinds(judge(rows, lines)) == {"outcome"}  # ran in 8, and is recorded as 7's
    rows[-1] = row(1050, attempt=2, owner="other")
    assert judge(rows, lines).violations == []


def test_a_long_log_ends_with_what_did_not_hold() -> None:
    held = "P1 sqlite: A title (seed 1, size 0.02)\n    missing 0 (limit 0)\n    took 2 s\n"
    broken = "P2 sqlite: Another\n    ! task 3: nobody ran 1020\n    kills 6\n"
    broken += "    missing 1 (limit 0)  BROKEN\n    took 2 s\n"
    ended = "P3 sqlite: A third\nTraceback:\n  here\nOSError: no\n"
    assert broken_lines(held) == []
    assert broken_lines(broken + held + ended) == [
        "P2 sqlite: Another",
        "    ! task 3: nobody ran 1020",
        "    missing 1 (limit 0)  BROKEN",
        *ended.splitlines(),
    ]
    assert broken_lines("OSError: no\n") == ["OSError: no"]
