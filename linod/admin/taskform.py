"""The form of a background task."""

from __future__ import annotations

from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.http import QueryDict
from django.utils.translation import gettext_lazy as _

from linod.fields import procedure_named
from linod.procedures import Procedures


class TaskForm(forms.ModelForm):  # type: ignore[type-arg]
    """A task; the version that was seen tells whether somebody changed it meanwhile."""

    procedure = forms.TypedChoiceField(label=_("Background procedure"), coerce=procedure_named)
    #: Why the database does not take it now; set by the admin on a form that it shows again.
    excuse = ""

    seen_version = forms.IntegerField(label=_("Version"), widget=forms.HiddenInput, required=False)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "procedure" in self.fields:
            names = [procedure.name for procedure in Procedures]
            self.fields["procedure"].choices = [(name, name) for name in names]  # type: ignore[attr-defined]
        for name in ("arguments", "disabled_reason"):
            if name in self.fields:
                self.fields[name].widget.attrs |= {"rows": 3, "cols": 60}
        if "seen_version" in self.fields:
            self.fields["seen_version"].initial = self.instance.version

    def clean(self) -> dict[str, Any] | None:
        """Refuse to overwrite what somebody else said meanwhile, unless it is sent once more."""
        cleaned = super().clean()
        seen = self.cleaned_data.get("seen_version")
        if self.instance.pk and seen != self.instance.version:
            if isinstance(self.data, QueryDict):
                self.data = self.data.copy()
                self.data[self.add_prefix("seen_version")] = str(self.instance.version)
            raise ValidationError(self._conflict(), code="changed_meanwhile")
        if self.excuse:
            raise ValidationError(self.excuse, code="not_taken")
        return cleaned

    def _conflict(self) -> str:
        labels = [str(self[name].label) for name in self.changed_data if name != "seen_version"]
        return _(
            "This task was changed meanwhile; nothing was saved. What you see is what you entered."
            " Saving again overwrites: %s."
        ) % (", ".join(labels) or _("nothing"))
