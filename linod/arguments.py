"""The arguments of a task: a JSON object, of what every database can hold."""

from __future__ import annotations

import math
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.db import models
from django.forms.fields import InvalidJSONInput
from django.utils.translation import gettext_lazy as _

from linod.capture import storable

#: How many objects and lists may lie within one another: MariaDB takes a few more.
DEEPEST = 30

TOO_DEEP = _("Arguments may be nested %(most)d levels deep at most.")
NO_NUMBER = _("Arguments take no NaN, no Infinity and no number from 1.8e308 on.")


def check_arguments(value: Any) -> None:
    """Refuse what is no JSON object, or one that some database refuses, with a ValidationError.

    What JSON has no word for at all is Django's to refuse.
    """
    if not isinstance(value, dict):
        raise ValidationError(_('Arguments must be a JSON object such as {"days": 7}.'))
    _check_part(value, 1)


def _check_part(value: Any, depth: int) -> None:
    if isinstance(value, dict | list | tuple):
        if depth > DEEPEST:
            raise too_deep()
        if isinstance(value, dict):
            for key in value:
                _check_key(key)
            value = value.values()
        for part in value:
            _check_part(part, depth + 1)
    elif isinstance(value, str):
        check_characters(value)
    elif isinstance(value, int | float) and not _is_finite(value):
        raise ValidationError(NO_NUMBER)


def _check_key(key: Any) -> None:
    if not isinstance(key, str):
        message = _("Keys in arguments are texts, not %(kind)s.")
        raise ValidationError(message, params={"kind": type(key).__name__})
    check_characters(key)


def _is_finite(number: float) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:  # a whole number that no float comes near
        return False


def too_deep() -> ValidationError:
    """What is nested beyond :data:`DEEPEST`."""
    return ValidationError(TOO_DEEP, params={"most": DEEPEST})


def check_characters(text: str) -> None:
    """Refuse a text that some database refuses, with a ValidationError."""
    if storable(text) != text:
        refused = next(character for character in text if storable(character) != character)
        message = _("Leave out the character %(character)s: databases refuse it.")
        raise ValidationError(message, params={"character": storable(refused)})


class ArgumentsFormField(forms.JSONField):
    """Says at the field what is wrong with JSON, also where Django's reader gives up."""

    def to_python(self, value: Any) -> Any:
        try:
            found = super().to_python(value)
        except RecursionError as error:
            raise too_deep() from error
        except ValueError as error:  # Python reads no number of that many digits
            raise ValidationError(NO_NUMBER) from error
        if found is not None:
            check_arguments(found)
        return found

    def bound_data(self, data: Any, initial: Any) -> Any:
        """What is refused stays as it was typed."""
        try:
            self.to_python(data)
        except ValidationError:
            return InvalidJSONInput(data)
        return super().bound_data(data, initial)

    def prepare_value(self, value: Any) -> Any:
        """Half a surrogate pair, which SQLite stores, is shown as JSON escapes it."""
        return storable(super().prepare_value(value))


class ArgumentsField(models.JSONField):
    """Arguments as a column: to the database it is Django's own field."""

    def deconstruct(self) -> Any:
        name, _path, args, kwargs = super().deconstruct()
        return name, "django.db.models.JSONField", args, kwargs

    def formfield(self, **kwargs: Any) -> Any:
        return super().formfield(**{"form_class": ArgumentsFormField, **kwargs})
