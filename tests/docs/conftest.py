"""The example's sites, each with its demo data, copied afresh for whoever asks."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, time
from pathlib import Path
from zoneinfo import ZoneInfo

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


class DemoSites:
    """The sites as they are after ``migrate`` and ``load_demo``, at most since the last evening.

    What is due at 20:00 would be overdue after it: the pages say when it runs "from now".
    """

    ZONE, EVENING = ZoneInfo("Europe/Brussels"), time(20)

    def __init__(self, new_folder: Callable[[], Path]) -> None:
        self.new_folder = new_folder
        self.made_at: datetime | None = None

    def copy(self, site: str, folder: Path) -> None:
        now = datetime.now(self.ZONE)
        evening = datetime.combine(now, self.EVENING, self.ZONE)
        if self.made_at is None or self.made_at <= evening < now:
            self.make(now)
        shutil.copytree(self.folder / site, folder)

    def make(self, now: datetime) -> None:
        self.folder, self.made_at = self.new_folder(), now
        for site in ("noi", "team"):
            env = environment(site, self.folder / site)
            for command in ("migrate", "load_demo"):
                made = python(env, "manage.py", command, "--verbosity=0")
                assert made.returncode == 0, made.stderr


@pytest.fixture(scope="session")
def demo_sites(tmp_path_factory: pytest.TempPathFactory) -> DemoSites:
    return DemoSites(lambda: tmp_path_factory.mktemp("sites"))


@pytest.fixture
def run_page(demo_sites: DemoSites, tmp_path: Path) -> Run:
    """Runs the examples of a page on a site of its own."""

    def run(page: Path, site: str = "noi") -> subprocess.CompletedProcess[str]:
        folder = tmp_path / site
        demo_sites.copy(site, folder)
        return python(environment(site, folder), str(SESSION), str(page))

    return run
