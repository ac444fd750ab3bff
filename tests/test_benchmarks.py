"""The benchmarks work: a short run of each, and what their figures and their page are made of."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import notes, report
from benchmarks.figures import Figure, Spread, table
from tests import settings
from tests.house import ROOT

#: SQLite in its fast mode: how long a disk takes is not what is tested here.
DATABASE = {"sqlite": "sqlite-wal"}.get(settings.TEST_DB, settings.TEST_DB)
PATIENCE = 300

Rows = list[dict[str, str]]


def quick_run() -> dict[str, Rows]:
    """The tables that a quick run prints, by benchmark; each row by heading."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--quick", f"--db={DATABASE}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    speed = re.search(r"^- Python: (\S+) million steps/s of a loop, ", done.stdout, re.MULTILINE)
    assert speed is not None
    assert float(speed[1]) > 0
    return {
        benchmark: parsed(done.stdout.partition(f"\n{title}\n")[2])
        for benchmark, title in report.TITLES.items()
    }


def parsed(text: str) -> Rows:
    """The rows of the first table in a text; its rules say where columns begin and end."""
    lines = text.splitlines()
    first, second, last = [n for n, line in enumerate(lines) if line.startswith("==")][:3]
    edges, place = [], 0
    for rule in lines[first].split():
        edges.append(slice(place, place + len(rule)))
        place += len(rule) + 1
    headings = [lines[first + 1][edge].strip() for edge in edges]
    return [
        {name: line[edge].strip() for name, edge in zip(headings, edges, strict=True)}
        for line in lines[second + 1 : last]
    ]


def number(cell: str) -> float:
    return float(cell.strip("[]+").replace(",", ""))


@pytest.mark.database
def test_a_short_run_measures_a_daemon() -> None:
    found = quick_run()

    [late] = found["lateness"]
    assert late["missed"].endswith(" of 200")
    assert 0 <= number(late["late p50 ms"]) <= number(late["p99 ms"]) <= number(late["max ms"])
    assert number(late["timer p99 ms"]) > 0
    assert number(late["thread p99 ms"]) > 0

    assert [row["body"] for row in found["requested"]] == ["no_op", "one_line"]
    for row in found["requested"]:
        assert 0 < number(row["from request"]) <= number(row["jobs/s"])
        assert number(row["CPU ms a job"]) > 0
        assert number(row["commits/s"]) > 0

    [start] = found["start"]
    assert number(start["p50 ms"]) > number(start["commit ms"]) > 0

    [idle] = found["idle"]
    assert number(idle["CPU s/min"]) > 0
    assert number(idle["MB"]) > number(idle["with linod MB"]) > number(idle["Django MB"]) > 10


def test_a_server_that_does_not_answer_is_one_line() -> None:
    env = os.environ | {"LINOD_POSTGRESQL_PORT": "1"}
    command = [sys.executable, "-m", "benchmarks", "--db=postgresql"]
    done = subprocess.run(
        command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 1
    assert done.stdout == ""
    reason, _blank, conclusion = done.stderr.splitlines()
    assert reason.startswith("postgresql cannot be measured: ")
    assert conclusion == "postgresql: not measured to the end"


def test_percentiles_are_values_that_occurred() -> None:
    assert Spread.of([0.3, 0.1, 0.2]) == Spread(0.2, 0.3, 0.3)
    assert Spread.of([n / 1000 for n in range(101)]) == Spread(0.05, 0.099, 0.1)


def test_notes_come_in_order_and_once(tmp_path: Path) -> None:
    path = tmp_path / "notes"
    reader = notes.Reader(path)
    assert list(reader.fresh()) == []

    writer = "from benchmarks import notes as n; n.note(n.BEGAN, 7, 1.5); n.note(n.RECORDED, 2)"
    env = os.environ | {notes.VARIABLE: str(path)}
    subprocess.run([sys.executable, "-c", writer], cwd=ROOT, env=env, check=True, timeout=30)

    began, recorded = reader.fresh()
    assert (began.kind, began.number, began.due) == (notes.BEGAN, 7, 1.5)
    assert (recorded.kind, recorded.number) == (notes.RECORDED, 2)
    assert began.monotonic <= recorded.monotonic
    assert list(reader.fresh()) == []
    reader.close()


def figure(database: str, reached: bool) -> Figure:
    values, limits = {"jobs/s": "1,000"}, {"commits/s": "300"}
    return Figure("requested", database, values, limits, 0.5, f"{database} >= 900/s", reached)


def test_a_table_shows_values_limits_and_verdicts() -> None:
    text = table([figure("sqlite", True), figure("mariadb", False)])
    assert text.splitlines() == [
        "======== ====== ========= ==== =======",
        "database jobs/s commits/s load target",
        "======== ====== ========= ==== =======",
        "sqlite   1,000  [300]     0.5  reached",
        "mariadb  1,000  [300]     0.5  missed",
        "======== ====== ========= ==== =======",
    ]


def test_the_report_names_each_target_once() -> None:
    text = report.text([figure("sqlite", True)] * 2, ["sqlite: SQLite 3 (journal_mode=wal)"])
    assert "- sqlite: SQLite 3 (journal_mode=wal)" in text
    assert text.count("sqlite >= 900/s") == 1


def test_figures_replace_the_former_ones(tmp_path: Path) -> None:
    page = tmp_path / "page.rst"
    page.write_text(f"Before\n\n{report.BEGIN}\n\nold\n\n{report.END}\n\nAfter\n")
    report.write(page, "new")
    report.write(page, "newer")
    assert page.read_text() == f"Before\n\n{report.BEGIN}\n\nnewer\n\n{report.END}\n\nAfter\n"


def test_a_page_without_a_place_for_figures_is_refused(tmp_path: Path) -> None:
    page = tmp_path / "page.rst"
    page.write_text("Nothing here\n")
    with pytest.raises(ValueError, match="no lines"):
        report.write(page, "new")
    assert page.read_text() == "Nothing here\n"
