"""The tasks that a benchmark needs, and a clean table before it."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.db import connection

from benchmarks.procedures import no_op
from linod.models import BackgroundTask, Decision, Job, JobLog
from linod.procedures import Procedures


def clear() -> None:
    """Leave no row of former measurements; the procedures' own rows come back with the daemon.

    Nor the space that they took: autovacuum would clear it in the minute that no measurement waits.
    """
    for model in (JobLog, Decision, Job, BackgroundTask):
        model.objects.all()._raw_delete(connection.alias)
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute(f"VACUUM {connection.ops.quote_name(model._meta.db_table)}")


def make(count: int, procedure: Any = no_op, **values: Any) -> None:
    """That many tasks, numbered from 0 in ``arguments``; without values: only on request."""
    known = Procedures.find(procedure.__name__)
    BackgroundTask.objects.bulk_create(
        (
            BackgroundTask(
                seqno=number,
                name=f"{known.name} {number}",
                procedure=known,
                arguments={"number": number},
                **values,
            )
            for number in range(count)
        ),
        batch_size=500,
    )


def every_second_from(first: datetime) -> dict[str, Any]:
    """The values of a task that is due each second, as ``sync`` makes one for a procedure.

    :param first: a whole second, UTC: the site's zone.
    """
    start = first - timedelta(seconds=1)
    return {
        "every_unit": "secondly",
        "every": 1,
        "start_date": start.date(),
        "start_time": start.time(),
        "next_run_at": first,
        "log_level": "WARNING",
    }
