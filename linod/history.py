"""The rows of what happened: jobs, their logs, the ledger of decisions, and the daemons."""

from __future__ import annotations

import os
import uuid
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from django.conf import settings
from django.db import models, transaction
from django.utils.translation import gettext_lazy as _

from linod import clock, signals
from linod.choices import LogLevels
from linod.conf import config
from linod.fields import ProcedureField

if TYPE_CHECKING:
    from linod.models import BackgroundTask


def time_ordered_uuid() -> uuid.UUID:
    """A UUID that sorts by the moment it was made (version 7, RFC 9562 section 5.7)."""
    number = (clock.host_milliseconds() << 80) | int.from_bytes(os.urandom(10), "big")
    return uuid.UUID(int=number & ~(0xF << 76) & ~(0x3 << 62) | (0x7 << 76) | (0x2 << 62))


class JobQuerySet(models.QuerySet["Job"]):
    """Jobs, chosen by adjectives."""

    def active(self) -> JobQuerySet:
        """Those that hold their task: claimed, dispatched or running."""
        return self.filter(state__in=Job.ACTIVE)

    def running(self) -> JobQuerySet:
        """Those whose body has begun."""
        return self.filter(state=Job.State.RUNNING)

    def waiting(self) -> JobQuerySet:
        """Those that run once their moment has come."""
        return self.filter(state=Job.State.WAITING)

    def ended(self) -> JobQuerySet:
        """Those that will not change any more."""
        return self.filter(state__in=Job.FINAL)

    def asked_for(self) -> JobQuerySet:
        """Those that somebody requested, with their further attempts."""
        first = Job.objects.filter(
            task=models.OuterRef("task"),
            due_at=models.OuterRef("due_at"),
            trigger=Job.Trigger.REQUEST,
        )
        return self.filter(models.Q(trigger=Job.Trigger.REQUEST) | models.Exists(first))

    def failed(self) -> JobQuerySet:
        """Those that somebody should look at."""
        return self.filter(state__in=[Job.State.FAILED, Job.State.TIMED_OUT, Job.State.LOST])


class Job(models.Model):
    """One run of a procedure. Only :mod:`linod.claims` changes its state."""

    class State(models.TextChoices):
        """Where a job stands; the last five are final."""

        WAITING = "waiting", _("waiting")
        CLAIMED = "claimed", _("claimed")
        DISPATCHED = "dispatched", _("dispatched")
        RUNNING = "running", _("running")
        SUCCEEDED = "succeeded", _("succeeded")
        FAILED = "failed", _("failed")
        TIMED_OUT = "timed_out", _("timed out")
        CANCELLED = "cancelled", _("cancelled")
        LOST = "lost", _("lost")

    class Trigger(models.TextChoices):
        """What made the job."""

        SCHEDULE = "schedule", _("schedule")
        REQUEST = "request", _("request")
        RETRY = "retry", _("retry")
        ENQUEUE = "enqueue", _("enqueue")

    ACTIVE = (State.CLAIMED, State.DISPATCHED, State.RUNNING)
    FINAL = (State.SUCCEEDED, State.FAILED, State.TIMED_OUT, State.CANCELLED, State.LOST)

    id = models.UUIDField(primary_key=True, default=time_ordered_uuid, editable=False)
    task = models.ForeignKey(
        "linod.BackgroundTask",
        models.SET_NULL,
        verbose_name=_("Background task"),
        null=True,
        db_index=False,  # the key of once per instant begins with it
        related_name="jobs",
    )
    procedure = ProcedureField(_("Background procedure"))
    arguments = models.JSONField(_("Arguments"), default=dict)
    due_at = models.DateTimeField(_("Due at"))
    trigger = models.CharField(_("Trigger"), max_length=8, choices=Trigger.choices)
    attempt = models.PositiveIntegerField(_("Attempt"), default=1)
    state = models.CharField(_("State"), max_length=10, choices=State.choices)
    available_at = models.DateTimeField(
        null=True, db_index=True, help_text=_("When a waiting job may be claimed.")
    )
    priority = models.IntegerField(default=0)
    queue = models.CharField(max_length=50, default="default")
    active_task = models.BigIntegerField(
        null=True, unique=True, help_text=_("The task's id while the job is active.")
    )
    owner = models.UUIDField(null=True)
    fence = models.PositiveIntegerField(default=0)
    lease_until = models.DateTimeField(null=True, db_index=True)
    claimed_at = models.DateTimeField(null=True)
    start_time = models.DateTimeField(_("Started at"), null=True)
    end_time = models.DateTimeField(_("Ended at"), null=True)
    cancel_requested_at = models.DateTimeField(null=True)
    requested_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.SET_NULL,
        verbose_name=_("Requested by"),
        null=True,
        db_index=False,
        related_name="+",
    )
    log_level = models.CharField(
        _("Logging level"), max_length=10, choices=LogLevels.as_choices(), default="INFO"
    )
    error = models.TextField(_("Error"), blank=True)
    result = models.JSONField(_("Result"), null=True)
    progress = models.JSONField(_("Progress"), null=True)
    missed = models.PositiveIntegerField(_("Missed"), default=0)
    host = models.CharField(_("Host"), max_length=255, blank=True)
    revision = models.CharField(_("Revision"), max_length=64, blank=True)

    objects: ClassVar[models.Manager[Job]] = JobQuerySet.as_manager()

    class Meta:
        app_label = "linod"
        verbose_name = _("Job")
        verbose_name_plural = _("Jobs")
        ordering: ClassVar = ["-id"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["task", "due_at", "attempt"], name="linod_job_once_per_instant"
            ),
        ]
        permissions: ClassVar = [("view_log", "Can read the logs of jobs")]

    def __str__(self) -> str:
        return f"{self._meta.verbose_name} {self.pk} ({self.procedure}, {self.get_state_display()})"

    @property
    def message(self) -> str:
        """The job's whole log, as far as it is stored."""
        return "".join(self.logs.order_by("n").values_list("text", flat=True))

    @property
    def is_active(self) -> bool:
        """Whether it holds its task."""
        return self.state in self.ACTIVE

    @property
    def is_final(self) -> bool:
        """Whether it will not change any more."""
        return self.state in self.FINAL

    def cancel(self, user: Any = None) -> bool:
        """Cancel the job, at once before it began; a running one is asked to stop.

        :param user: who does so, for the ledger.
        :return: False when it had ended already: then nothing was done.
        """
        from linod import claims

        is_heard = claims.cancel(self._state.db or config().DATABASE, self.pk, user)
        self.refresh_from_db()
        return is_heard

    @classmethod
    def drop_waiting(cls, task: BackgroundTask, user: Any, using: str) -> None:
        """Cancel the attempts that wait for a task which is disabled in this transaction."""
        from linod import claims

        claims.drop_waiting(using, task.pk, user)

    @property
    def duration(self) -> timedelta | None:
        """From begin to end; None while it has not ended or never began."""
        if self.start_time is None or self.end_time is None:
            return None
        return self.end_time - self.start_time

    @property
    def lateness(self) -> timedelta | None:
        """From the due instant to the begin; None when it never began."""
        return None if self.start_time is None else self.start_time - self.due_at


class JobLog(models.Model):
    """A piece of a job's log; rows are only ever added."""

    # No constraint: its check would wait for the row that a body holds by ar.guard().
    job = models.ForeignKey(
        Job, models.CASCADE, related_name="logs", db_index=False, db_constraint=False
    )
    n = models.PositiveIntegerField()
    text = models.TextField()

    class Meta:
        app_label = "linod"
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["job", "n"], name="linod_joblog_order"),
        ]

    def __str__(self) -> str:
        return f"{self.job_id}#{self.n}"


def name_of(who: Any) -> str:
    """How the ledger names a user, or whoever it was; nothing for linod itself."""
    return "" if who is None else str(who)[:150]


class DecisionManager(models.Manager["Decision"]):
    """Writes the ledger."""

    def record(
        self,
        kind: str,
        task: BackgroundTask | int | None = None,
        *,
        due_at: datetime | None = None,
        reason: str = "",
        who: Any = None,
        job: uuid.UUID | None = None,
        at: datetime | None = None,
        using: str | None = None,
    ) -> Decision:
        """Add a line; ``who`` is a user, a name, or None for linod itself; ``at``: default now."""
        using = using or self.db
        decision = Decision(
            task_id=task if isinstance(task, int) or task is None else task.pk,
            due_at=due_at,
            kind=kind,
            reason=reason,
            who=name_of(who),
            at=at or clock.db_now(using),
            job=job,
        )
        decision.save(using=using, force_insert=True)
        self.announce(decision, using)
        return decision

    def announce(self, decision: Decision, using: str) -> None:
        """Tell this process of a line, once what added it is committed."""
        decision._state.db = using
        transaction.on_commit(
            lambda: signals.decision_made.send(Decision, decision=decision), using=using
        )


class Decision(models.Model):
    """A line of the ledger: why a due instant did not simply run, or who changed what."""

    class Kind(models.TextChoices):
        """What was decided."""

        REQUESTED = "requested", _("requested")
        REQUEST_CANCELLED = "request_cancelled", _("request cancelled")
        EDITED = "edited", _("edited")
        DISABLED = "disabled", _("disabled")
        ENABLED = "enabled", _("enabled")
        COALESCED = "coalesced", _("run once for several instants")
        SKIPPED = "skipped", _("skipped")
        RETRIED = "retried", _("tried again")
        CANCELLED = "cancelled", _("cancelled")
        LOST = "lost", _("lost")
        TAKEN_OVER = "taken_over", _("taken over")
        ALREADY_RUN = "already_run", _("had run already")
        QUARANTINED = "quarantined", _("disabled for a fault of its own")
        CLOCK_JUMPED = "clock_jumped", _("the clock jumped")

    task = models.ForeignKey(
        "linod.BackgroundTask",
        models.SET_NULL,
        verbose_name=_("Background task"),
        null=True,
        related_name="decisions",
    )
    due_at = models.DateTimeField(_("Due at"), null=True)
    kind = models.CharField(_("Decision"), max_length=20, choices=Kind.choices)
    reason = models.TextField(_("Reason"), blank=True)
    who = models.CharField(_("Who"), max_length=150, blank=True)
    at = models.DateTimeField(_("At"), db_index=True)
    job = models.UUIDField(_("Job"), null=True)

    objects: ClassVar[DecisionManager] = DecisionManager()

    class Meta:
        app_label = "linod"
        verbose_name = _("Decision")
        verbose_name_plural = _("Decisions")
        ordering: ClassVar = ["-at", "-id"]

    def __str__(self) -> str:
        kind = str(self.get_kind_display())
        return f"{kind}: {self.reason}" if self.reason else kind


class Daemon(models.Model):
    """A process that runs jobs; for display only, nothing is decided by it."""

    class State(models.TextChoices):
        """What it is about."""

        RUNNING = "running", _("running")
        STOPPING = "stopping", _("stopping")
        STOPPED = "stopped", _("stopped")

    owner = models.UUIDField(primary_key=True)
    host = models.CharField(_("Host"), max_length=255)
    pid = models.PositiveIntegerField(_("Process"))
    version = models.CharField(_("Version"), max_length=50)
    started_at = models.DateTimeField(_("Started at"))
    last_seen_at = models.DateTimeField(_("Last seen at"), db_index=True)
    state = models.CharField(_("State"), max_length=10, choices=State.choices)

    class Meta:
        app_label = "linod"
        verbose_name = _("Daemon")
        verbose_name_plural = _("Daemons")
        ordering: ClassVar = ["-started_at"]

    def __str__(self) -> str:
        return f"{self.host}:{self.pid}"
