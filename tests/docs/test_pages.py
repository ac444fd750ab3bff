"""Every ``>>>`` of the documentation and the README does what the page says.

A page runs on the site ``noi`` of the example, or on the one that its comment ``.. site: team``
names, with a database of its own and the demo data in it. The tutorial makes a site of its own: see
``test_tutorial.py``.
"""

import doctest
import re
from pathlib import Path

import pytest

from tests.docs.conftest import ROOT, Run

PARSER = doctest.DocTestParser()
SITE = re.compile(r"^\.\. site: (\w+)$", re.MULTILINE)

#: How the documentation of Lino ends its page about linod (2024); only the imports are linod's own.
SESSION_OF_2024 = """\
>>> from linod import BackgroundTask, Procedures, login
>>> bt = BackgroundTask.objects.get(procedure=Procedures.update_publisher_pages)
>>> bt.status
'Not started'
>>> ar = login("robin")
>>> from asgiref.sync import async_to_sync
>>> async_to_sync(bt.start_task)(ar)
Start Background task #8 update_publisher_pages...
Update published pages...
72 pages have been updated.
>>> bt.status
'Scheduled to run at ... (... from now)'
>>> bt.last_start_time = None
>>> bt.save()
"""


def pages() -> list[Path]:
    built = ROOT / "docs" / "_build"
    found = [ROOT / "README.rst", *sorted((ROOT / "docs").rglob("*.rst"))]
    return [page for page in found if built not in page.parents]


def with_examples() -> list[Path]:
    tutorial = ROOT / "docs" / "tutorial.rst"
    return [
        page
        for page in pages()
        if page != tutorial and PARSER.get_examples(page.read_text(encoding="utf-8"))
    ]


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", with_examples(), ids=name)
def test_examples_hold(page: Path, run_page: Run) -> None:
    site = SITE.search(page.read_text(encoding="utf-8"))
    ran = run_page(page, site[1] if site else "noi")
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_both_sites_and_the_readme_have_examples() -> None:
    texts = {name(page): page.read_text(encoding="utf-8") for page in with_examples()}
    assert "README.rst" in texts
    assert {match[1] for text in texts.values() for match in SITE.finditer(text)} == {"team"}


@pytest.mark.parametrize("page", pages(), ids=name)
def test_examples_take_no_options(page: Path) -> None:
    """No example is skipped or compared more loosely than the others."""
    examples = PARSER.get_examples(page.read_text(encoding="utf-8"))
    assert [example.source for example in examples if example.options] == []


def test_example_that_does_not_hold_is_found(run_page: Run, tmp_path: Path) -> None:
    page = tmp_path / "page.rst"
    page.write_text(">>> from linod import Procedures\n>>> len(Procedures)\n9\n", encoding="utf-8")
    ran = run_page(page)
    assert ran.returncode == 1
    assert "Expected:\n    9\nGot:\n    8\n" in ran.stdout


def test_session_of_2024(run_page: Run, tmp_path: Path) -> None:
    """It holds word for word."""
    page = tmp_path / "page.rst"
    page.write_text(SESSION_OF_2024, encoding="utf-8")
    ran = run_page(page)
    assert ran.returncode == 0, ran.stdout + ran.stderr
