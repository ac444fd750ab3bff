"""The tutorial is followed step by step: its files are written, its commands typed."""

import doctest
import os
import re
import select
import shlex
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from tests.docs.conftest import PATIENCE, ROOT, SESSION, python
from tests.docs.session import FLAGS

PAGE = ROOT / "docs" / "tutorial.rst"
#: The environment in which the tests run has what these would bring.
INSTALLING = ("python3 -m venv", ". env/bin/activate", "pip install")
BLOCK = re.compile(
    r"^\.\. code-block:: (?P<language>\w+)\n(?:    :caption: (?P<caption>.+)\n)?\n"
    r"(?P<body>(?:    .*\n|\n)+)"
    r"|^(?P<examples>>>> (?:.+\n)+)",
    re.MULTILINE,
)
CHECKER = doctest.OutputChecker()


def is_so(expected: str, said: bytes) -> bool:
    return CHECKER.check_output(expected, said.decode(), FLAGS)


class Reader:
    """Somebody who does what the tutorial says, in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = os.environ | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "DJANGO_SETTINGS_MODULE": "mysite.settings",
            "PYTHONUNBUFFERED": "1",
            "PYTHONWARNINGS": "error",
            "TMPDIR": str(folder),
            "XDG_RUNTIME_DIR": "",
        }

    def write(self, caption: str, text: str) -> None:
        name, _comma, where = caption.partition(", ")
        mode = "a" if where == "at the end" else "w"
        with (self.folder / name).open(mode, encoding="utf-8") as file:
            file.write(text)

    def type(self, command: str, expected: str) -> None:
        if command.startswith(INSTALLING):
            return
        words = shlex.split(command)
        if words[0] == "cd":
            self.folder /= words[1]
            return
        process = subprocess.Popen(
            words, cwd=self.folder, env=self.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        before, interrupt, after = expected.partition("^C\n")
        said = b""
        if interrupt:
            said = self.watch(process, before)
            process.send_signal(signal.SIGINT)
        said += process.communicate(timeout=PATIENCE)[0]
        assert process.returncode == 0, said.decode()
        assert is_so(before + after, said), f"{command}:\n{said.decode()}"

    def watch(self, process: subprocess.Popen[bytes], expected: str) -> bytes:
        """Read what it says until that is what is expected."""
        assert process.stdout is not None
        said, deadline = b"", time.monotonic() + PATIENCE
        while not is_so(expected, said):
            ready, _, _ = select.select(
                [process.stdout], [], [], max(0, deadline - time.monotonic())
            )
            piece = os.read(process.stdout.fileno(), 65536) if ready else b""
            if not piece:
                process.kill()
                process.communicate()
                pytest.fail(f"Expected:\n{expected}\nGot:\n{said.decode()}")
            said += piece
        return said

    def converse(self, examples: str) -> None:
        """A session in ``manage.py shell``."""
        session = self.folder / "session.txt"
        session.write_text(examples, encoding="utf-8")
        env = self.env | {"PYTHONPATH": str(self.folder)}
        ran = python(env, str(SESSION), str(session), folder=self.folder)
        assert ran.returncode == 0, ran.stdout + ran.stderr


def steps() -> list[tuple[str, str]]:
    """(what, text) of each step; sessions that nothing interrupts are one."""
    found: list[tuple[str, str]] = []
    for block in BLOCK.finditer(PAGE.read_text(encoding="utf-8")):
        if block["examples"] is None:
            body = textwrap.dedent(block["body"]).strip("\n") + "\n"
            found.append((block["caption"] or block["language"], body))
        elif found[-1][0] == "examples":
            found[-1] = ("examples", f"{found[-1][1]}\n{block['examples']}")
        else:
            found.append(("examples", block["examples"]))
    return found


def commands(body: str) -> list[tuple[str, str]]:
    """The commands of a block, each with the output that follows it."""
    parts = re.split(r"^\$ (.+)\n", body, flags=re.MULTILINE)[1:]
    return list(zip(parts[::2], parts[1::2], strict=True))


def test_tutorial(tmp_path: Path) -> None:
    reader = Reader(tmp_path)
    kinds = set()
    for what, body in steps():
        kinds.add(what)
        if what == "console":
            for command, expected in commands(body):
                reader.type(command, expected)
        elif what == "examples":
            reader.converse(body)
        else:
            reader.write(what, body)
    assert {"console", "examples", "library/models.py", "library/procedures.py"} < kinds
    letters = [path.read_text() for path in (reader.folder / "old-letters").iterdir()]
    assert "Dear Anna, please bring back Momo.\n" in letters
