"""The Maildir: new mails lie in ``new``, those that were read in ``cur``.

A file name says all: up to the colon it is the mail's name, behind it stand the flags
(https://cr.yp.to/proto/maildir.html). A mail is moved by one rename, so it is never in both.
"""

from __future__ import annotations

import mailbox
from collections.abc import Iterator
from pathlib import Path

SEEN = "S"
FLAGGED = "F"


class Maildir:
    """A folder of mails, made when it is missing."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._box = mailbox.Maildir(path, create=True)

    def new(self) -> list[str]:
        """The names of new mails, oldest first (names begin with the time of delivery)."""
        files = (self.path / "new").iterdir()
        return sorted(file.name for file in files if not file.name.startswith("."))

    def read(self, names: list[str]) -> Iterator[tuple[str, bytes]]:
        """Each mail with its content; one that somebody else took meanwhile is left out."""
        for name in names:
            try:
                yield name, (self.path / "new" / name).read_bytes()
            except FileNotFoundError:
                continue

    def deliver(self, content: bytes) -> str:
        """Put a mail into ``new``, as a mail server does; returns its name."""
        return self._box.add(content)

    def file(self, name: str, flag: str) -> None:
        """Move a new mail to ``cur``; nothing happens when somebody else has moved it."""
        bare = name.partition(":")[0]
        try:
            (self.path / "new" / name).rename(self.path / "cur" / f"{bare}:2,{flag}")
        except FileNotFoundError:
            return
