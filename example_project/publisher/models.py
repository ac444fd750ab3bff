"""A page of the handbook."""

from __future__ import annotations

from typing import ClassVar

from django.db import models

from linod.mixins import Sequenced


class Page(Sequenced):
    """A page; its place among the others says which one follows."""

    slug = models.SlugField(max_length=100, unique=True, help_text="Names the file.")
    title = models.CharField(max_length=200)
    body = models.TextField(blank=True, help_text="Plain text; an empty line ends a paragraph.")
    parent = models.ForeignKey(
        "self", models.SET_NULL, null=True, blank=True, related_name="children"
    )
    published = models.BooleanField(default=True)

    class Meta:
        ordering: ClassVar = ["seqno", "pk"]

    def __str__(self) -> str:
        return self.title
