"""The model field that holds a procedure by its registered name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core.exceptions import ValidationError
from django.db import models
from django.db.models.lookups import Exact, In
from django.db.models.query_utils import DeferredAttribute
from django.utils import translation

from linod.exceptions import UnknownProcedure
from linod.procedures import Procedure, Procedures


def procedure_named(name: str) -> Procedure:
    """The procedure of that name, or one without a function when this process knows none."""
    return Procedures.get_by_name(name) or Procedure(None, name)


class _ProcedureAttribute(DeferredAttribute):
    """Makes a name that is assigned (``BackgroundTask(procedure="checkdata")``) the procedure."""

    def __set__(self, instance: models.Model, value: Any) -> None:
        instance.__dict__[self.field.attname] = self.field.to_python(value) if value else value


class ProcedureField(models.CharField):  # type: ignore[type-arg]
    """Stores a procedure's name; reads and looks up :class:`linod.procedures.Procedure`.

    A name that this process does not know is kept as it is, so that nothing is lost when a newer
    release and an older one share a database.
    """

    descriptor_class = _ProcedureAttribute

    if TYPE_CHECKING:  # what django-stubs reads
        _pyi_private_set_type: Procedure | str  # type: ignore[assignment]
        _pyi_private_get_type: Procedure  # type: ignore[assignment]
        _pyi_lookup_exact_type: Procedure | str

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"max_length": 100, **kwargs})

    def from_db_value(self, value: str | None, *args: Any) -> Procedure | None:
        return None if value is None else procedure_named(value)

    def to_python(self, value: Any) -> Any:
        if value is None or isinstance(value, Procedure):
            return value
        return procedure_named(str(value))

    def get_prep_value(self, value: Any) -> Any:
        return None if value is None else str(value)

    def value_to_string(self, obj: models.Model) -> str:
        return str(self.value_from_object(obj))

    def validate(self, value: Any, model_instance: models.Model | None) -> None:
        super().validate(value.name if isinstance(value, Procedure) else value, model_instance)

    def run_validators(self, value: Any) -> None:
        super().run_validators(value.name if isinstance(value, Procedure) else value)

    def clean(self, value: Any, model_instance: models.Model | None) -> Any:
        procedure = super().clean(value, model_instance)
        if isinstance(procedure, Procedure) and not procedure.is_known:
            kept = model_instance is not None and not model_instance._state.adding
            if not kept:
                try:
                    Procedures.find(procedure.name)
                except UnknownProcedure as error:
                    raise ValidationError(
                        error.said(translation), code="unknown_procedure"
                    ) from error
        return procedure


@ProcedureField.register_lookup
class ProcedureIn(In):
    """``procedure__in=...`` finds rows under the procedures' former names, too."""

    def get_prep_lookup(self) -> Any:
        if self.rhs_is_direct_value():
            self.rhs = [name for value in self.rhs for name in procedure_named(str(value)).names]
        return super().get_prep_lookup()


@ProcedureField.register_lookup
class ProcedureExact(Exact):
    """``procedure=...`` finds rows under the procedure's former names, too."""

    def as_sql(self, compiler: Any, connection: Any) -> Any:
        if isinstance(self.rhs, str) and procedure_named(self.rhs).aliases:
            return ProcedureIn(self.lhs, [self.rhs]).as_sql(compiler, connection)
        return super().as_sql(compiler, connection)
