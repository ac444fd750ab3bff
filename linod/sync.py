"""One row for each procedure that has none; rows that exist stay as they are."""

from __future__ import annotations

import logging
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db.migrations.recorder import MigrationRecorder
from django.utils import translation
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from linod import transactions
from linod.capture import storable
from linod.conf import config
from linod.models import BackgroundTask
from linod.procedures import Procedure, Procedures

logger = logging.getLogger("linod")

#: The reason with which a wrong declaration disables its task.
DECLARED_WRONGLY = gettext_noop("Declared wrongly: %(faults)s")


def says_declared_wrongly(reason: str) -> bool:
    """Whether a wrong declaration disabled the task, by the reason that its row gives.

    Known in English, the language that is active and that of the site.
    """
    with translation.override(settings.LANGUAGE_CODE):
        of_site = _(DECLARED_WRONGLY)
    known = DECLARED_WRONGLY, _(DECLARED_WRONGLY), of_site
    return any(reason.startswith(text.partition("%(")[0]) for text in known)


def sync(using: str | None = None) -> list[BackgroundTask]:
    """Make the missing rows, in running order behind those that exist; returns the new ones.

    Two processes may do so at the same time: the second waits, then finds nothing missing.
    """
    using = using or config().DATABASE
    with transactions.write(using) as connection:
        rows = BackgroundTask.objects.using(using)
        if connection.features.has_select_for_update:
            _wait_for_turn(using)
        present = set(rows.values_list("procedure", flat=True))
        names = {procedure.name for procedure in present}
        ordered = Procedures.in_running_order()
        return [_make(each, using) for each in ordered if names.isdisjoint(each.names)]


def _wait_for_turn(using: str) -> None:
    """Lock the row of linod's first migration: it exists wherever linod's tables do."""
    migrations = MigrationRecorder.Migration.objects.using(using).filter(app="linod")
    list(migrations.select_for_update().order_by("pk")[:1])


def _make(procedure: Procedure, using: str) -> BackgroundTask:
    values: dict[str, Any] = {
        "log_level": "WARNING" if procedure.every_unit == "secondly" else "INFO",
        **procedure.kwargs,
    }
    task = BackgroundTask(procedure=procedure, **values)
    task._state.db = using
    task.fill_in(using)
    # What is stored is in the language of the site; ``migrate`` has switched all of them off.
    with translation.override(settings.LANGUAGE_CODE):
        faults = _faults(task)
        # A fault may quote what was declared, which may be what databases refuse.
        reason = storable(_(DECLARED_WRONGLY) % {"faults": "; ".join(faults)})
    if faults:
        # Not for a time only: what was declared otherwise may have given way to a default.
        task.disabled, task.disabled_until, task.disabled_reason = True, None, reason
        remedy = "mend it and delete the task, or edit the task and enable it"
        logger.error("Procedure %s is disabled. %s (%s)", procedure, task.disabled_reason, remedy)
    task.save(using=using)
    return task


def _faults(task: BackgroundTask) -> list[str]:
    """What is wrong with the declared values; what no row can hold gives way to the default."""
    faults = []
    try:
        task.clean_fields()
    except ValidationError as error:
        faults += _lines(error)
        for name in error.message_dict:
            setattr(task, name, getattr(BackgroundTask(), name))
    try:
        task.clean()
    except ValidationError as error:
        faults += _lines(error)
    return faults


def _lines(error: ValidationError) -> list[str]:
    return [f"{name}: {' '.join(texts)}" for name, texts in error.message_dict.items()]
