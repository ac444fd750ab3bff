"""The example's sites, each with its demo data, copied afresh for whoever asks."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "example_project"
SESSION = Path(__file__).with_name("session.py")
PATIENCE = 120  # seconds that one page may take

Run = Callable[..., subprocess.CompletedProcess[str]]


def environment(site: str, folder: Path) -> dict[str, str]:
    """What a process of that site finds; all that it writes goes into the folder."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("LINOD_")}
    return env | {
        "DJANGO_SETTINGS_MODULE": f"{site}.settings",
        "LINOD_EXAMPLE_VAR": str(folder),
        "PYTHONPATH": str(EXAMPLE),
        "PYTHONWARNINGS": "error",
        "COLUMNS": "80",
        "TMPDIR": str(folder),
        "XDG_RUNTIME_DIR": "",
    }


def python(
    env: dict[str, str], *arguments: str, folder: Path = EXAMPLE
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


@pytest.fixture(scope="session")
def demo_sites(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each site, as it is after ``migrate`` and ``load_demo``."""
    folder = tmp_path_factory.mktemp("sites")
    for site in ("noi", "team"):
        for command in ("migrate", "load_demo"):
            made = python(environment(site, folder / site), "manage.py", command, "--verbosity=0")
            assert made.returncode == 0, made.stderr
    return folder


@pytest.fixture
def run_page(demo_sites: Path, tmp_path: Path) -> Run:
    """Runs the examples of a page on a site of its own."""

    def run(page: Path, site: str = "noi") -> subprocess.CompletedProcess[str]:
        folder = tmp_path / site
        shutil.copytree(demo_sites / site, folder)
        return python(environment(site, folder), str(SESSION), str(page))

    return run
