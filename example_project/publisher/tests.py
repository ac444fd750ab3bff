"""Pages become files that link to each other."""

from __future__ import annotations

import re
from pathlib import Path
from unittest import mock

import pytest
from common.testing import run, steps
from common.tests import InFolder
from django.conf import settings
from django.core.management import call_command
from django.test import TestCase

from publisher.models import Page
from publisher.procedures import update_publisher_pages


class PublishTests(InFolder, TestCase):
    def files(self) -> dict[str, Path]:
        return {file.name: file for file in settings.PUBLISHER_ROOT.iterdir()}

    def test_the_demo_has_72_pages(self) -> None:
        call_command("load_demo")
        lines = run(update_publisher_pages)
        assert lines == ["INFO Update published pages...", "INFO 72 pages have been updated."]
        files = self.files()
        assert len(files) == 72
        links = {
            link
            for file in files.values()
            for link in re.findall(r'href="([^"]+)"', file.read_text("utf-8"))
        }
        assert links == files.keys()
        assert run(update_publisher_pages) == lines

    def test_a_page_is_escaped(self) -> None:
        Page.objects.create(slug="x", title="<script>", body="a & b\n\n<img>")
        run(update_publisher_pages)
        text = self.files()["x.html"].read_text("utf-8")
        assert "&lt;script&gt;" in text
        assert "<p>a &amp; b</p>" in text
        assert "<script>" not in text
        assert "<img>" not in text

    def test_neighbours_follow_the_order(self) -> None:
        for slug, place in (("c", 3), ("a", 1), ("b", 2)):
            Page.objects.create(slug=slug, title=slug, seqno=place)
        run(update_publisher_pages)
        text = self.files()["b.html"].read_text("utf-8")
        assert '<a rel="prev" href="a.html">' in text
        assert '<a rel="next" href="c.html">' in text

    def test_a_page_that_is_not_published_any_more_goes(self) -> None:
        page = Page.objects.create(slug="x", title="X")
        Page.objects.create(slug="y", title="Y")
        run(update_publisher_pages)
        (settings.PUBLISHER_ROOT / "style.css").write_text("body {}")
        page.published = False
        page.save()
        assert run(update_publisher_pages)[-1] == "INFO 1 pages have been updated."
        assert self.files().keys() == {"y.html", "style.css"}

    def test_its_progress_reaches_the_end(self) -> None:
        for slug in ("a", "../b"):
            Page.objects.create(slug=slug, title=slug)
        assert steps(update_publisher_pages) == [(1, 2), (2, 2)]

    def test_no_page_leaves_the_folder(self) -> None:
        page = Page.objects.create(slug="../outside", title="Outside")
        Page.objects.create(slug="inside", title="Inside")
        lines = run(update_publisher_pages)
        assert f"ERROR Page #{page.pk} is left out: '../outside' cannot name a file" in lines
        assert lines[-1] == "INFO 1 pages have been updated."
        assert not (settings.PUBLISHER_ROOT.parent / "outside.html").exists()

    def test_a_reader_never_sees_half_a_page(self) -> None:
        Page.objects.create(slug="x", title="Before")
        run(update_publisher_pages)
        Page.objects.update(title="After")
        with (
            mock.patch("publisher.publishing.os.replace", side_effect=OSError("disk full")),
            pytest.raises(OSError, match="disk full"),
        ):
            run(update_publisher_pages)
        files = self.files()
        assert files.keys() == {"x.html"}
        assert "Before" in files["x.html"].read_text("utf-8")
