"""What stands in the log file: one line for one record, and how the file is read again.

A record's line ends with a tag that only the server writes: whose record it is, the process in
front, its number, and how many lines below belong to it::

    2026-11-22 16:01:06.123 ERROR myapp.views: It failed #4711-9f3a2c1b:42+2
        Traceback (most recent call last):
        ValueError: no

Lines below begin with four blanks, first lines never with one: no text that somebody logs can look
like a record of its own. A checkpoint says how far each sender has come::

    #linod checkpoint {"4711-9f3a2c1b":42}

Whoever reads the file from a checkpoint to its end knows again which records are in it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

INDENT = "    "
CHECKPOINT = b"#linod checkpoint "
_TAG = re.compile(rb" #([0-9]+-[0-9a-f]{8}):([0-9]+)(?:\+([0-9]+))?\n\Z")
_SENDER = re.compile("[0-9]+-[0-9a-f]{8}")

#: Controls (C0, C1), marks that turn or hide text, separators that end a line somewhere, and what
#: is no character: lone surrogates, and the tag characters of plane 14. First and last of each.
_UNSAFE = (
    (0x00, 0x1F), (0x7F, 0x9F), (0x61C, 0x61C), (0x200B, 0x200B), (0x200E, 0x200F),
    (0x2028, 0x202E), (0x2060, 0x206F), (0xD800, 0xDFFF), (0xFEFF, 0xFEFF), (0xFFF9, 0xFFFB),
    (0xE0000, 0xE007F),
)  # fmt: skip
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def _escaped(code: int) -> str:
    if (char := chr(code)) in _SHORT:
        return _SHORT[char]
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


_FIND = re.compile(f"[{''.join(f'{chr(first)}-{chr(last)}' for first, last in _UNSAFE)}]")
_TABLE = {code: _escaped(code) for first, last in _UNSAFE for code in range(first, last + 1)}
#: Characters of a text beyond which the table is the quicker way: finding each unsafe one by itself
#: would let a record that is full of them hold up all others for 30 ms.
_MANY = 1000


def escape(text: str) -> str:
    """``text`` on one line, without anything that a terminal or an editor would obey.

    >>> escape("a\\nb\\x1b[31m \\u202e")
    'a\\\\nb\\\\x1b[31m \\\\u202e'
    """
    if text.isprintable():
        return text
    if len(text) > _MANY:
        return text.translate(_TABLE)
    return _FIND.sub(lambda found: _TABLE[ord(found[0])], text)


DEFAULT_FORMAT = "{time} {level} {logger}: {message}"
#: What the first line of a record may tell.
FIELDS = ("time", "level", "logger", "pid", "uid", "message")
_FIELD = re.compile(r"\{\{|\{([^{}:]*)")


def template_of(line_format: str) -> str:
    """A line's format with the places of :data:`FIELDS` for their names, for ``str.format``.

    :raises ValueError: a name that is none, no ``{message}``, or braces that do not match.

    >>> template_of("{level:8} {{{message}}}")
    '{1:8} {{{5}}}'
    """
    names: list[str] = []

    def placed(found: re.Match[str]) -> str:
        if found[1] is None:
            return found[0]
        names.append(found[1])
        return f"{{{FIELDS.index(found[1])}" if found[1] in FIELDS else found[0]

    template = _FIELD.sub(placed, line_format)
    wrong = [name for name in names if name not in FIELDS]
    if wrong:
        known = " ".join(f"{{{name}}}" for name in FIELDS)
        raise ValueError(f"there is no {{{wrong[0]}}}, there is {known}")
    if "message" not in names:
        raise ValueError("{message} is missing")
    template.format("2026-11-22 16:01:06.123", "INFO", "logger", 1, 1, "message")
    return template


def lines_of(first: str, below: str, sender: str, sequence: int) -> str:
    """The lines of one record.

    :param first: the first line, in its format, not escaped.
    :param below: more lines (a traceback), not escaped; empty: none.
    """
    head = escape(first).lstrip() or "-"
    if not below:
        return f"{head} #{sender}:{sequence}\n"
    rest = [escape(line) for line in re.split("\r\n|\r|\n", below.rstrip("\r\n"))]
    return f"{head} #{sender}:{sequence}+{len(rest)}\n" + "".join(
        f"{INDENT}{line}\n" for line in rest
    )


def checkpoint_of(progress: dict[str, int]) -> bytes:
    """The line that tells how far each sender has come."""
    return CHECKPOINT + json.dumps(progress, separators=(",", ":")).encode("ascii") + b"\n"


def read_checkpoint(line: bytes) -> dict[str, int] | None:
    """What a whole checkpoint says; None for any other line, also for one that was cut."""
    if not line.startswith(CHECKPOINT) or not line.endswith(b"}\n"):
        return None
    try:
        given = json.loads(line[len(CHECKPOINT) :])
    except ValueError:
        return None
    if not isinstance(given, dict):
        return None
    if not all(_SENDER.fullmatch(key) and type(value) is int for key, value in given.items()):
        return None
    return given


@dataclass
class Tail:
    """What the end of a file tells.

    :param progress: how far each sender has come; None when there is no checkpoint.
    :param whole: bytes, from where the reading began, up to the end of the last whole record.
    """

    progress: dict[str, int] | None = None
    whole: int = 0
    _pending: tuple[str, int, int] | None = field(default=None, repr=False)

    def read(self, lines: Iterable[bytes]) -> None:
        """Go through lines, each with its end; a last one without an end was cut off."""
        at = 0
        for line in lines:
            at += len(line)
            if not line.endswith(b"\n"):
                return
            if line.startswith(b" ") and self._pending is not None:
                sender, sequence, missing = self._pending
                self._pending = (sender, sequence, missing - 1)
                if missing > 1:
                    continue
                self._note(sender, sequence)
            elif line[:1] != b" ":
                self._pending = None
                if self._begins(line):
                    continue
            self.whole = at

    def _begins(self, line: bytes) -> bool:
        """Take a first line; whether lines below it must follow."""
        tag = _TAG.search(line)
        if tag is None:
            found = read_checkpoint(line)
            if found is not None:
                self.progress = (self.progress or {}) | found
            return False
        sender, sequence = tag[1].decode("ascii"), int(tag[2])
        if tag[3] is not None:
            self._pending = (sender, sequence, int(tag[3]))
            return True
        self._note(sender, sequence)
        return False

    def _note(self, sender: str, sequence: int) -> None:
        self._pending = None
        if self.progress is not None:
            self.progress[sender] = max(sequence, self.progress.get(sender, 0))
