"""What a column can hold on every database alike, which is less than Django lets pass."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.utils.translation import gettext_lazy as _

from linod.arguments import ArgumentsField, check_arguments, check_characters
from linod.rules import is_fraction

if TYPE_CHECKING:
    Field = models.Field[Any, Any]

#: The largest whole number of a row: every database holds it, and nothing sensible is larger.
LARGEST = 1_000_000_000
#: What Django would make a text of, though nobody means it.
NO_TEXTS = (bytes, dict, frozenset, list, set, tuple)


class Checked(models.Model):
    """A row that refuses what its columns cannot hold, each error at its field.

    Django passes by what is empty where nothing need be given, keeps the whole part of a fraction,
    and leaves it to the database to refuse the rest.
    """

    class Meta:
        abstract = True

    def save(self, *args: Any, **kwargs: Any) -> None:
        self.fill_in(kwargs.get("using"))
        super().save(*args, **kwargs)

    def full_clean(self, *args: Any, **kwargs: Any) -> None:
        self.fill_in()
        super().full_clean(*args, **kwargs)

    def fill_in(self, using: str | None = None) -> None:
        """Set what may be left empty, and yet is something in each row."""

    def clean_fields(self, exclude: Collection[str] | None = None) -> None:
        """Look at each field, first for what its column cannot hold, then as Django does."""
        left_out = set(exclude or ())
        errors: dict[str, Any] = {
            name: error for name, error in self.misfits().items() if name not in left_out
        }
        try:
            super().clean_fields(left_out | errors.keys())
        except ValidationError as error:
            errors |= error.error_dict
        if errors:
            raise ValidationError(errors)

    def misfits(self) -> dict[str, ValidationError]:
        """What the columns cannot hold, by the name of the field."""
        found = {}
        for field in self._meta.concrete_fields:
            try:
                if not field.primary_key:
                    check_value(field, getattr(self, field.attname))
            except ValidationError as error:
                found[field.name] = error
        return found


def check_value(field: Field, value: Any) -> None:
    """Refuse a value that a column of this kind cannot hold, with a ValidationError."""
    if isinstance(field, ArgumentsField):
        check_arguments(value)
    elif value is None:
        if not field.null:
            raise ValidationError(_("It cannot be None: leave it out, or give a value."))
    else:
        _check_sayable(value)
        check = next((check for kinds, check in CHECKS if isinstance(field, kinds)), None)
        if check is not None:
            check(field, value)


def _check_sayable(value: Any) -> None:
    """What is wrong with a value is said by quoting it."""
    try:
        repr(value)
    except (RecursionError, ValueError) as error:  # nested without end; thousands of digits
        raise ValidationError(_("Give a value that can be written out.")) from error


def _check_whole(field: Field, value: Any) -> None:
    if is_fraction(value):
        raise ValidationError(_("Give a whole number."))
    number = field.to_python(value)
    MinValueValidator(-LARGEST)(number)
    MaxValueValidator(LARGEST)(number)


def _check_finite(field: Field, value: Any) -> None:
    try:
        is_finite = math.isfinite(field.to_python(value))
    except OverflowError:  # a whole number that no float comes near
        is_finite = False
    if not is_finite:
        raise ValidationError(_("Give a number."))


def _check_text(field: Field, value: Any) -> None:
    if isinstance(value, NO_TEXTS):
        raise ValidationError(_("Give a text."))
    check_characters(str(value))


def _check_moment(field: Field, value: Any) -> None:
    try:
        moment = field.to_python(value)
    except (OverflowError, TypeError) as error:  # Django expects texts, and moments of our times
        raise ValidationError(field.error_messages["invalid"], params={"value": value}) from error
    # In UTC it may be of the year before, or of the next one.
    if isinstance(moment, datetime) and not 2 <= moment.year <= 9998:
        raise ValidationError(_("Give a year from 2 to 9998."))


CHECKS: tuple[tuple[Any, Callable[[Field, Any], None]], ...] = (
    (models.IntegerField, _check_whole),
    (models.FloatField, _check_finite),
    ((models.CharField, models.TextField), _check_text),
    ((models.DateField, models.TimeField), _check_moment),
)
