"""Whether linod can work here, and whether it does: ``--health``.

A site is healthy when

- a daemon has been seen within a lease, by the database's clock,
- no task that could begin is overdue, and no request unheard, for longer than a lease and a poll,
- no task was disabled by its failures, or because its rule cannot be answered.

A procedure that is not declared here is told, but is no fault: a newer release may know it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.core.exceptions import ImproperlyConfigured
from django.db import Error, OperationalError, connections
from django.db.migrations.executor import MigrationExecutor
from django.db.models import F, Q

from linod import clock
from linod.conf import config
from linod.exceptions import InvalidRecurrence, MissingExtra
from linod.history import Daemon
from linod.models import BackgroundTask
from linod.procedures import Procedures
from linod.status import distance_text

#: How many tasks of a kind are named.
NAMED = 10


@dataclass(frozen=True)
class Finding:
    """Something that was looked at, and whether it is well."""

    is_well: bool
    text: str

    def __str__(self) -> str:
        return f"{'ok' if self.is_well else 'PROBLEM'}: {self.text}"


def refusal(using: str) -> str:
    """Why linod cannot work with this database, in one line; empty when it can."""
    try:
        connections[using].ensure_connection()
        executor = MigrationExecutor(connections[using])
    except OperationalError as error:
        return f"The database {using!r} does not answer: {_first_line(error)}"
    except (Error, ImproperlyConfigured) as error:
        return f"The database {using!r} cannot be used: {_first_line(error)}"
    targets = [key for key in executor.loader.graph.leaf_nodes() if key[0] == "linod"]
    missing = [str(migration) for migration, _backwards in executor.migration_plan(targets)]
    if not missing:
        return ""
    names = ", ".join(missing[:3]) + (" ..." if len(missing) > 3 else "")
    return f"Migrations are not applied ({names}); run: manage.py migrate"


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]


def findings(using: str) -> Iterator[Finding]:
    """What ``--health`` looks at, one after another."""
    now = clock.db_now(using)
    yield _daemon(using, now)
    yield _overdue(using, now)
    yield from _put_aside(using)
    enabled = BackgroundTask.objects.using(using).enabled()
    unknown = enabled.exclude(procedure__in=Procedures.known_names()).order_by("seqno", "pk")
    if unknown:
        yield Finding(True, f"procedures that are not declared here: {_names(unknown)}")


def _daemon(using: str, now: datetime) -> Finding:
    rows = Daemon.objects.using(using).exclude(state=Daemon.State.STOPPED)
    daemon = rows.order_by("-last_seen_at").first()
    if daemon is None:
        return Finding(False, "no daemon runs; start one with: manage.py linod")
    seen = f"{daemon} was seen {distance_text(daemon.last_seen_at, now)}"
    if now - daemon.last_seen_at > timedelta(seconds=config().LEASE):
        return Finding(False, f"no daemon shows itself; {seen}")
    return Finding(True, f"the daemon {seen}")


def _overdue(using: str, now: datetime) -> Finding:
    patience = timedelta(seconds=config().LEASE + config().BACKGROUND_SLEEP_TIME)
    limit = now - patience
    able = BackgroundTask.objects.using(using).known().idle()
    late = list(able.filter(Q(next_run_at__lt=limit) | Q(requested_at__lt=limit)))
    if not late:
        return Finding(True, "nothing is overdue")
    text = f"overdue for more than {patience.total_seconds():g} seconds: {_names(late)}"
    return Finding(False, text)


def _put_aside(using: str) -> Iterator[Finding]:
    disabled = BackgroundTask.objects.using(using).filter(disabled=True, disabled_until=None)
    failed = disabled.filter(disable_after__gt=0, failures__gte=F("disable_after"))
    for task in failed.order_by("seqno", "pk"):
        yield Finding(False, f"{task} was disabled by its failures: {task.disabled_reason}")
    for task in disabled.exclude(disabled_reason="").order_by("seqno", "pk"):
        try:
            _ = task.recurrence
        except (InvalidRecurrence, MissingExtra) as error:
            yield Finding(False, f"{task} is disabled, its rule cannot be answered: {error}")


def _names(tasks: Iterable[BackgroundTask]) -> str:
    names = [f"#{task.pk} {task.procedure}" for task in tasks]
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
