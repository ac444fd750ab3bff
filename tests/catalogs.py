"""Catalogues of translations: read as text (``.po``) and compiled (``.mo``), and written."""

from __future__ import annotations

import ast
import gettext
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from django.utils.translation.template import templatize

from tests.house import ROOT

PACKAGE = ROOT / "linod"
#: What parts a context from its text, in a compiled catalogue.
CONTEXT = "\x04"
#: What marks a text, and which of its arguments are the text and its plural.
MARKS = {
    "_": (0,),
    "gettext": (0,),
    "gettext_lazy": (0,),
    "gettext_noop": (0,),
    "ngettext": (0, 1),
    "ngettext_lazy": (0, 1),
    "pgettext": (1,),
    "npgettext": (1, 2),
}


@dataclass
class Entry:
    """One text of a catalogue with its translations: one, or one for each plural form."""

    key: str = ""
    plural: str = ""
    texts: list[str] = field(default_factory=list)
    is_fuzzy: bool = False


def read_text(path: Path) -> list[Entry]:
    """The entries of a ``.po`` file, the header not among them."""
    entries = []
    for block in re.split(r"\n\s*\n", path.read_text(encoding="utf-8")):
        entry, said = Entry(), dict[str, str]()
        name = ""
        for line in block.splitlines():
            entry.is_fuzzy |= line.startswith("#,") and "fuzzy" in line
            if line.startswith("#") or not line:
                continue
            found = re.match(r'([a-z_]+(?:\[\d\])?) (".*")$', line)
            name, text = (found[1], found[2]) if found else (name, line)
            said[name] = said.get(name, "") + ast.literal_eval(text)
        if said.get("msgid"):
            context = said.get("msgctxt")
            entry.key = said["msgid"] if context is None else context + CONTEXT + said["msgid"]
            entry.plural = said.get("msgid_plural", "")
            entry.texts = [text for key, text in said.items() if key.startswith("msgstr")]
            entries.append(entry)
    return entries


def read_compiled(path: Path) -> dict[str, list[str]]:
    """The texts of a ``.mo`` file by their keys."""
    with path.open("rb") as file:
        found = gettext.GNUTranslations(file)._catalog  # type: ignore[attr-defined]
    texts: dict[str, list[str]] = {}
    for key, text in sorted(found.items(), key=str):
        name = key[0] if isinstance(key, tuple) else key
        if name:
            texts.setdefault(name, []).append(text)
    return texts


def write_compiled(path: Path, entries: list[Entry]) -> None:
    """Compile: a ``.mo`` file with two plural forms, as ``msgfmt`` writes it."""
    header = "Content-Type: text/plain; charset=UTF-8\nPlural-Forms: nplurals=2; plural=(n != 1);\n"
    pairs = {"": header}
    for entry in entries:
        key = f"{entry.key}\0{entry.plural}" if entry.plural else entry.key
        pairs[key] = "\0".join(entry.texts)
    rows = sorted((key.encode(), text.encode()) for key, text in pairs.items())
    tables, data = (b"", b""), b""
    begin = 28 + 16 * len(rows)
    for n in (0, 1):
        table = b""
        for row in rows:
            table += struct.pack("<II", len(row[n]), begin + len(data))
            data += row[n] + b"\0"
        tables = (table, tables[1]) if n == 0 else (tables[0], table)
    places = struct.pack("<7I", 0x950412DE, 0, len(rows), 28, 28 + 8 * len(rows), 0, 0)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(places + b"".join(tables) + data)


def marked_texts() -> dict[str, str]:
    """Every text of the package that is marked for translation, and where."""
    found: dict[str, str] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        for key in marked_in(path.read_text()):
            found[key] = str(path.relative_to(ROOT))
    for path in sorted((PACKAGE / "templates").rglob("*.*")):
        # What a template marks, as a program; all else in it is struck out.
        program = templatize(path.read_text())
        for call in re.findall(r"\bn?p?gettext\((?:[^()]|\((?:[^()])*\))*\)", program):
            for key in marked_in(call):
                found[key] = str(path.relative_to(ROOT))
    return found


def marked_in(source: str) -> Iterator[str]:
    """The keys of the texts that are marked in a program."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "id", getattr(node.func, "attr", ""))
        place = MARKS.get(name)
        if place is None or not node.args or not isinstance(node.args[place[0]], ast.Constant):
            continue
        text = str(node.args[place[0]].value)
        context = node.args[0].value if "pgettext" in name else None  # type: ignore[attr-defined]
        yield text if context is None else f"{context}{CONTEXT}{text}"
