"""Whether linod can work here, and whether it does: ``--health``.

A site is healthy when

- a daemon has been seen within a lease, by the database's clock,
- no task that could begin is overdue, and no request unheard, for longer than a lease and a poll,
- no task was disabled by its failures, by a wrong declaration, or because its rule cannot be
  answered.

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
from django.utils import translation
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from linod import clock, transactions
from linod.conf import config
from linod.exceptions import InvalidRecurrence, MissingExtra
from linod.history import Daemon
from linod.models import BackgroundTask
from linod.procedures import Procedures
from linod.status import distance_text
from linod.sync import says_declared_wrongly

#: How many tasks of a kind are named.
NAMED = 10


@dataclass(frozen=True)
class Finding:
    """Something that was looked at, and whether it is well."""

    is_well: bool
    text: str

    def __str__(self) -> str:
        return (_("ok: %s") if self.is_well else _("PROBLEM: %s")) % self.text


def refusal(using: str) -> str:
    """Why linod cannot work with this database, in one line; empty when it can."""
    try:
        connections[using].ensure_connection()
        executor = MigrationExecutor(connections[using])
    except OperationalError as error:
        details = {"database": using, "error": transactions.first_line(error)}
        return _("The database %(database)r does not answer: %(error)s") % details
    except (Error, ImproperlyConfigured) as error:
        return unusable(using, error)
    targets = [key for key in executor.loader.graph.leaf_nodes() if key[0] == "linod"]
    missing = [str(migration) for migration, _backwards in executor.migration_plan(targets)]
    if not missing:
        return ""
    names = ", ".join(missing[:3]) + (" ..." if len(missing) > 3 else "")
    return _("Migrations are not applied (%(names)s); run: manage.py migrate") % {"names": names}


def unusable(using: str, error: BaseException) -> str:
    """What the database refused, in one line."""
    details = {"database": using, "error": transactions.first_line(error)}
    return _("The database %(database)r cannot be used: %(error)s") % details


def excuse(error: BaseException, *, of_several: bool = False) -> str:
    """Why a click came to nothing, for who clicked; empty when the same click would fail again.

    :param of_several: it was about several rows, some of which may have been changed before.
    """
    if transactions.refuses_writes(error):
        return _("The database takes no changes now. Try again later.")
    if not transactions.is_passing(error):
        return ""
    if of_several:
        return _("The database is busy; maybe not all of it was done. Try again.")
    if transactions.is_undone(error):
        return _("The database is busy; nothing was done. Try again.")
    return _("The database did not answer; see whether it was done before you try again.")


def findings(using: str) -> Iterator[Finding]:
    """What ``--health`` looks at, one after another."""
    now = clock.db_now(using)
    yield _daemon(using, now)
    yield _overdue(using, now)
    yield from _put_aside(using)
    enabled = BackgroundTask.objects.using(using).enabled()
    unknown = enabled.exclude(procedure__in=Procedures.known_names()).order_by("seqno", "pk")
    if unknown:
        text = _("procedures that are not declared here: %s") % _names(unknown)
        yield Finding(True, text)


def _daemon(using: str, now: datetime) -> Finding:
    rows = Daemon.objects.using(using).exclude(state=Daemon.State.STOPPED)
    daemon = rows.order_by("-last_seen_at").first()
    if daemon is None:
        return Finding(False, _("no daemon runs; start one with: manage.py linod"))
    seen = {"daemon": daemon, "distance": distance_text(daemon.last_seen_at, now)}
    if now - daemon.last_seen_at > timedelta(seconds=config().LEASE):
        return Finding(False, _("no daemon shows itself; %(daemon)s was seen %(distance)s") % seen)
    return Finding(True, _("the daemon %(daemon)s was seen %(distance)s") % seen)


def _overdue(using: str, now: datetime) -> Finding:
    patience = timedelta(seconds=config().LEASE + config().BACKGROUND_SLEEP_TIME)
    limit = now - patience
    able = BackgroundTask.objects.using(using).known().idle()
    late = list(able.filter(Q(next_run_at__lt=limit) | Q(requested_at__lt=limit)))
    if not late:
        return Finding(True, _("nothing is overdue"))
    words = {"seconds": f"{patience.total_seconds():g}", "tasks": _names(late)}
    return Finding(False, _("overdue for more than %(seconds)s seconds: %(tasks)s") % words)


def _put_aside(using: str) -> Iterator[Finding]:
    disabled = BackgroundTask.objects.using(using).filter(disabled=True, disabled_until=None)
    failed = disabled.filter(disable_after__gt=0, failures__gte=F("disable_after"))
    for task in failed.order_by("seqno", "pk"):
        words = {"task": task, "reason": task.disabled_reason}
        yield Finding(False, _("%(task)s was disabled by its failures: %(reason)s") % words)
    for task in disabled.exclude(disabled_reason="").order_by("seqno", "pk"):
        if says_declared_wrongly(task.disabled_reason):
            words = {"task": task, "reason": task.disabled_reason}
            yield Finding(False, _("%(task)s is disabled. %(reason)s") % words)
            continue
        try:
            _rule = task.recurrence
        except (InvalidRecurrence, MissingExtra) as error:
            words = {"task": task, "error": error.said(translation)}
            text = _("%(task)s is disabled, its rule cannot be answered: %(error)s") % words
            yield Finding(False, text)


def _names(tasks: Iterable[BackgroundTask]) -> str:
    names = [f"#{task.pk} {task.procedure}" for task in tasks]
    named, more = ", ".join(names[:NAMED]), len(names) - NAMED
    if more <= 0:
        return named
    text = ngettext("%(names)s and %(number)d more", "%(names)s and %(number)d more", more)
    return text % {"names": named, "number": more}
