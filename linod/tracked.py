"""Rows that know what was changed since they were read."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from typing import Any, Self

from django.db import models, router
from django.utils.translation import gettext_noop

from linod.exceptions import ChangedMeanwhile


class Tracked(models.Model):
    """Remembers what its row held, so that a save can write only what this process changed."""

    class Meta:
        abstract = True

    @classmethod
    def from_db(
        cls, db: str | None, field_names: Collection[str], values: Collection[Any], **options: Any
    ) -> Self:
        row = super().from_db(db, field_names, values, **options)
        row.remember(field_names)
        return row

    def refresh_from_db(
        self,
        using: str | None = None,
        fields: Iterable[str] | None = None,
        from_queryset: Any = None,
    ) -> None:
        read = None if fields is None else list(fields)
        super().refresh_from_db(using, read, from_queryset)
        self.remember(
            f.attname
            for f in self._meta.concrete_fields
            if read is None or f.name in read or f.attname in read
        )

    def remember(self, names: Iterable[str]) -> None:
        """Keep what the row held, so that a save writes only what this process changed."""
        held = self.__dict__
        known: dict[str, Any] = held.setdefault("_held", {})
        known.update((n, _comparable(held[n])) for n in names if n in held)

    def changed_fields(self, only: Collection[str] | None = None) -> set[str]:
        """The names of the fields that were changed since the row was read, of ``only`` those."""
        held: dict[str, Any] = getattr(self, "_held", {})
        return {
            field.name
            for field in self._meta.concrete_fields
            if (only is None or field.name in only)
            and field.attname in held
            and _comparable(self.__dict__.get(field.attname)) != held[field.attname]
        }

    def reread(self) -> None:
        """Read the row again; what was edited here and not saved stays.

        Then ``version`` stays as well: if somebody else edited the row, :meth:`save` says so.
        """
        edited = self.changed_fields()
        if edited:
            edited.add("version")
        names = [f.attname for f in self._meta.concrete_fields if f.name not in edited]
        for found in self._row(self._using()).values(*names):
            for name, value in found.items():
                setattr(self, name, value)
            self.remember(names)

    def _using(self) -> str:
        return self._state.db or router.db_for_write(type(self))

    def _row(self, using: str) -> models.QuerySet[Self]:
        return type(self)._base_manager.using(using).filter(pk=self.pk)

    def _gone(self) -> ChangedMeanwhile:
        return ChangedMeanwhile(gettext_noop("%(row)s does not exist any more"), row=self)


def _comparable(value: Any) -> Any:
    """A value that stays as it is when the attribute's own value is changed in place."""
    return json.dumps(value, sort_keys=True) if isinstance(value, dict | list) else value
