"""From pages to files."""

from __future__ import annotations

import os
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from django.core.exceptions import ValidationError
from django.core.validators import validate_slug
from django.template.loader import get_template

from publisher.models import Page


class UnsafeName(ValueError):
    """A page whose slug cannot name a file."""


def render(pages: list[Page]) -> Iterator[tuple[Page, str]]:
    """Each page as HTML, with links to its neighbours, its parent and its children."""
    template = get_template("publisher/page.html")
    children = defaultdict(list)
    for page in pages:
        children[page.parent_id].append(page)
    by_key = {page.pk: page for page in pages}
    for before, page, after in zip([None, *pages], pages, [*pages[1:], None], strict=False):
        links = {
            "before": before,
            "after": after,
            "parent": by_key.get(page.parent_id),
            "children": children[page.pk],
            "chapters": children[None],
        }
        yield page, template.render({"page": page, **links})


def write(folder: Path, slug: str, text: str) -> Path:
    """Write ``<slug>.html``: a reader sees the former file or the new one, never half of one."""
    try:
        validate_slug(slug)
    except ValidationError as error:
        raise UnsafeName(f"{slug!r} cannot name a file") from error
    target = folder / f"{slug}.html"
    handle, name = tempfile.mkstemp(dir=folder, prefix=".", suffix=".tmp")
    draft = Path(name)
    try:
        with open(handle, "w", encoding="utf-8") as file:
            file.write(text)
        draft.chmod(0o644)
        os.replace(draft, target)
    finally:
        draft.unlink(missing_ok=True)
    return target


def remove_others(folder: Path, keep: set[Path]) -> int:
    """Remove the files of pages that are not published any more."""
    obsolete = set(folder.glob("*.html")) - keep
    for file in obsolete:
        file.unlink(missing_ok=True)
    return len(obsolete)
