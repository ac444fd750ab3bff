"""The rows: what should run (BackgroundTask), and what :mod:`linod.history` keeps of it."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import nullcontext
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import connections, models, router, transaction
from django.db.models import Q
from django.db.models.signals import post_save, pre_save
from django.utils.translation import gettext, gettext_noop
from django.utils.translation import gettext_lazy as _

from linod import asking, clock, signals, transactions
from linod.arguments import ArgumentsField
from linod.bulk import Mismatch
from linod.choices import LogLevels
from linod.columns import LARGEST
from linod.exceptions import ChangedMeanwhile, InvalidRecurrence
from linod.fields import ProcedureField
from linod.history import Daemon, Decision, Job, JobLog, name_of
from linod.mixins import RecurrenceSet, Sequenced
from linod.procedures import Procedures
from linod.rowrules import answered
from linod.status import status_text
from linod.tracked import Tracked

if TYPE_CHECKING:
    import logging

    from linod.requests import BaseRequest

#: Fields that say when a task runs: changing one of them computes ``next_run_at`` anew.
RULE_FIELDS = frozenset(
    """every_unit every start_date start_time end_date end_time positions monday tuesday wednesday
    thursday friday saturday sunday max_events cron time_zone disabled""".split()
)
#: Fields that the engine writes; all others are somebody's decision and guarded by ``version``.
ENGINE_FIELDS = frozenset(
    """next_run_at requested_at requested_by last_start_time last_end_time message failures
    seqno version""".split()
)


class BackgroundTaskQuerySet(models.QuerySet["BackgroundTask"]):
    """Background tasks, chosen by adjectives."""

    def enabled(self) -> BackgroundTaskQuerySet:
        """Those that run by their rule."""
        return self.filter(disabled=False)

    def recurring(self) -> BackgroundTaskQuerySet:
        """Those whose rule can name an instant."""
        return self.exclude(every_unit__in=("never", ""))

    def known(self) -> BackgroundTaskQuerySet:
        """Those whose procedure this process has."""
        return self.filter(procedure__in=Procedures.known_names())

    def requested(self) -> BackgroundTaskQuerySet:
        """Those that somebody wants to run as soon as possible."""
        return self.filter(requested_at__isnull=False)

    def due(self, moment: datetime) -> BackgroundTaskQuerySet:
        """Those whose instant has come, and those requested."""
        return self.filter(Q(next_run_at__lte=moment) | Q(requested_at__isnull=False))

    def idle(self) -> BackgroundTaskQuerySet:
        """Those without an active job."""
        active = Job.objects.using(self.db).filter(active_task=models.OuterRef("pk"))
        return self.filter(~models.Exists(active))


class BackgroundTask(Tracked, Sequenced, RecurrenceSet):
    """Says when, whether and how loudly a procedure runs on this site."""

    class Missed(models.TextChoices):
        """What becomes of instants that passed while nobody could run them."""

        ONCE = "once", _("run once for all of them")
        SKIP = "skip", _("skip them")
        ALL = "all", _("run each of them")

    name = models.CharField(_("Name"), max_length=200, blank=True)
    procedure = ProcedureField(_("Background procedure"))
    arguments = ArgumentsField(
        _("Arguments"),
        default=dict,
        blank=True,
        help_text=_("What the procedure finds in ar.arguments."),
    )
    log_level = models.CharField(
        _("Logging level"),
        max_length=10,
        choices=LogLevels.as_choices(),
        default="INFO",
        help_text=_("The logging level to apply when running this task."),
    )
    disabled = models.BooleanField(
        _("Disabled"), default=False, help_text=_("Tells whether the task should be ignored.")
    )
    disabled_until = models.DateTimeField(_("Disabled until"), null=True, blank=True)
    disabled_reason = models.TextField(_("Why disabled"), blank=True)
    missed = models.CharField(
        _("Missed runs"), max_length=4, choices=Missed.choices, default=Missed.ONCE
    )
    missed_within = models.PositiveIntegerField(
        _("Missed within"),
        null=True,
        blank=True,
        help_text=_("Seconds after which a missed run is not made up any more."),
    )
    timeout = models.FloatField(
        _("Timeout"), null=True, blank=True, help_text=_("Seconds after which a job is stopped.")
    )
    max_attempts = models.PositiveIntegerField(_("Attempts"), default=1)
    retry_delay = models.FloatField(
        _("Retry delay"),
        default=60.0,
        help_text=_("Seconds before the second attempt; they double with each further one."),
    )
    disable_after = models.PositiveIntegerField(
        _("Disable after"),
        default=1,
        help_text=_("Consecutive failures after which the task is disabled; 0: never."),
    )
    rerun_lost = models.BooleanField(
        _("Rerun lost jobs"),
        default=False,
        help_text=_("Whether the procedure may begin twice when its daemon dies in the middle."),
    )
    next_run_at = models.DateTimeField(_("Next run"), null=True, blank=True, editable=False)
    requested_at = models.DateTimeField(_("Requested at"), null=True, blank=True, editable=False)
    requested_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.SET_NULL,
        verbose_name=_("Requested by"),
        null=True,
        blank=True,
        editable=False,
        related_name="+",
    )
    last_start_time = models.DateTimeField(
        _("Started at"),
        null=True,
        blank=True,
        editable=False,
        help_text=_("Tells at what time exactly this job started."),
    )
    last_end_time = models.DateTimeField(_("Ended at"), null=True, blank=True, editable=False)
    message = models.TextField(
        _("Logged messages"),
        blank=True,
        editable=False,
        help_text=_("Stores information about the job, mostly logs."),
    )
    failures = models.PositiveIntegerField(_("Failures in a row"), default=0, editable=False)
    version = models.PositiveIntegerField(default=0, editable=False)

    #: On whose behalf :meth:`save` writes, for the ledger: a user, or a name.
    edited_by: Any = None

    objects: ClassVar[models.Manager[BackgroundTask]] = BackgroundTaskQuerySet.as_manager()

    class Meta:
        verbose_name = _("Background task")
        verbose_name_plural = _("Background tasks")
        ordering: ClassVar = ["seqno", "id"]
        indexes: ClassVar = [
            models.Index(fields=["next_run_at", "seqno"], name="linod_task_next_run"),
            models.Index(fields=["requested_at", "seqno"], name="linod_task_requested"),
            models.Index(fields=["disabled_until"], name="linod_task_disabled_until"),
        ]
        permissions: ClassVar = [
            ("run_backgroundtask", "Can run background tasks now"),
            ("cancel_backgroundtask", "Can cancel requests and jobs"),
        ]

    def __str__(self) -> str:
        return f"{self._meta.verbose_name} #{self.pk} {self.procedure}"

    # What a person may say

    def clean(self) -> None:
        """Refuse what no daemon could carry out; each error names its field."""
        super().clean()
        errors: dict[str, Any] = {}
        # What is no number at all has been refused before.
        misfits = self.misfits()
        for name in {"timeout", "retry_delay"} - misfits.keys():
            value = getattr(self, name)
            if isinstance(value, int | float) and not 0 < value < 10**9:
                errors[name] = _("Give a number of seconds above zero.")
        attempts: Any = self.max_attempts
        if isinstance(attempts, int) and attempts < 1:
            errors["max_attempts"] = _("A job needs at least one attempt.")
        if errors:
            raise ValidationError(errors)

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Write the row; for one that exists, only what was changed since it was read.

        A changed rule gets a new ``next_run_at``, counted from now. Raises
        :class:`linod.exceptions.ChangedMeanwhile` when somebody else edited the row since.
        """
        using = kwargs.get("using") or self._state.db or router.db_for_write(type(self))
        self.fill_in(using)
        if not self.disabled:
            # Who unticks "disabled" does not mean to be told about its other field.
            self.disabled_until = None
        if self._state.adding or kwargs.get("force_insert"):
            self._schedule_first(clock.db_now(using))
            super().save(*args, **kwargs)
            self.remember(f.attname for f in self._meta.concrete_fields)
        else:
            self._save_changes(kwargs.get("update_fields"), using)
        transaction.on_commit(lambda: signals.work_arrived.send(BackgroundTask), using=using)

    def fill_in(self, using: str | None = None) -> None:
        """A task without a name of its own has that of its procedure."""
        super().fill_in(using)
        if not self.name and self.procedure:
            self.name = str(self.procedure)

    def _save_changes(self, only: Iterable[str] | None, using: str) -> None:
        """Write what was changed; Django's signals around it name the fields that are written."""
        only = None if only is None else set(only)
        if only == set():
            return
        details: dict[str, Any] = {"instance": self, "raw": False, "using": using}
        fields = frozenset(self.changed_fields(only))
        pre_save.send(type(self), update_fields=fields, **details)
        fields = frozenset(self._write(self.changed_fields(only), using))
        post_save.send(type(self), created=False, update_fields=fields, **details)

    def _write(self, fields: set[str], using: str) -> set[str]:
        """Write these fields, and those that follow from them; returns all that were written."""
        if not fields:
            return fields
        edited = fields - ENGINE_FIELDS
        if fields & RULE_FIELDS:
            moment = clock.db_now(using)
            # A start that is made only now is an occurrence, as a new row's is.
            begins_now = self.start_date is None or self.start_time is None
            if begins_now:
                self._schedule_first(moment)
            else:
                self._reschedule(moment)
            fields |= {"next_run_at", "start_date", "start_time"}
            fields |= set() if self.disabled else {"disabled_until", "disabled_reason", "failures"}
        values = {name: getattr(self, name) for name in fields}
        rows = self._row(using)
        if edited:
            rows = rows.filter(version=self.version)
            values["version"] = self.version + 1
        with transactions.write(using):
            waited_for = rows.values_list("next_run_at", flat=True).first()
            if not rows.update(**values):
                message = gettext_noop(
                    "%(task)s was changed or deleted meanwhile; nothing was saved"
                )
                raise ChangedMeanwhile(message, task=self)
            if edited:
                self._note_edit(edited, waited_for, using)
                if "disabled" in edited and self.disabled:
                    Job.drop_waiting(self, self.edited_by, using)
                self.version += 1
                fields.add("version")
        self.remember(f.attname for f in self._meta.concrete_fields if f.name in fields)
        return fields

    def _note_edit(self, edited: set[str], waited_for: datetime | None, using: str) -> None:
        """Say who changed what, and which instant a changed rule let go of."""
        let_go = waited_for if edited & RULE_FIELDS and waited_for != self.next_run_at else None
        kinds = [(Decision.Kind.EDITED, ", ".join(sorted(edited)))]
        if "disabled" in edited:
            kind = Decision.Kind.DISABLED if self.disabled else Decision.Kind.ENABLED
            kinds.append((kind, self.disabled_reason))
        for kind, reason in kinds:
            Decision.objects.record(
                kind, self, due_at=let_go, who=self.edited_by, reason=reason, using=using
            )

    def _schedule_first(self, moment: datetime) -> None:
        """A new row: its start is an occurrence, also when the start is this very second."""
        self._reschedule(moment.replace(microsecond=0) - timedelta(microseconds=1), moment)

    def _reschedule(self, after: datetime, moment: datetime | None = None) -> None:
        """Find the first instant ``after``; a missing start is ``moment``, else ``after``."""
        self.next_run_at = None
        try:
            self.fill_start(moment or after)
        except InvalidRecurrence:
            if not self.disabled:  # else it is told when somebody enables the task
                raise
        if not self.disabled:
            self.next_run_at = self.next_instant(after)
            self.disabled_until, self.disabled_reason, self.failures = None, "", 0

    def next_instant(self, moment: datetime) -> datetime | None:
        """The first instant of the rule after ``moment``; None when there is none."""
        rule = self.recurrence
        with answered():
            return rule.next_after(moment)

    def request_run(self, user: Any = None) -> None:
        """Ask the daemons to run this task as soon as possible, also when it is disabled.

        While a job runs, another one starts after it. A request that stands already stays.
        """
        using, who = self._using(), name_of(user)
        asker: Any = self._meta.get_field("requested_by")
        key = asker.get_db_prep_save(None if user is None else user.pk, connections[using])
        is_free = transactions.is_free(connections[using])
        try:
            # What fails in somebody else's transaction must not take the rest of it along.
            with nullcontext() if is_free else transaction.atomic(using=using):
                asked, is_idle = asking.ask(
                    using, self.pk, key, who, self._foretell if is_free else None
                )
                # Others of its statements may change what was asked for: then daemons look.
                told = {"asked": asked} if is_free and is_idle else {}
                transaction.on_commit(
                    lambda: signals.work_arrived.send(type(self), **told), using=using
                )
                kind, moment = Decision.Kind.REQUESTED, asked["requested_at"]
                line = Decision(task_id=self.pk, due_at=moment, kind=kind, who=who, at=moment)
                Decision.objects.announce(line, using)
        except Mismatch:
            if not self._row(using).exists():
                raise self._gone() from None
            self.reread()
            return
        # Nothing is read again: whoever asks waits for the run, not for the row.
        self.requested_at, self.requested_by = moment, user
        self.remember(("requested_at", "requested_by_id"))

    def _foretell(self, asked: dict[str, Any]) -> None:
        # Nobody may keep the request from being committed.
        signals.work_arriving.send_robust(type(self), asked=asked)

    def cancel_request(self, user: Any = None) -> bool:
        """Take a request back; False when no request stands (any more)."""
        using = self._using()
        with transaction.atomic(using=using):
            row = self._row(using).exclude(requested_at=None)
            taken = bool(row.update(requested_at=None, requested_by=None))
            if taken:
                self._note(Decision.Kind.REQUEST_CANCELLED, user, due_at=self.requested_at)
        self.reread()
        return taken

    def disable(self, reason: str, until: datetime | None = None, user: Any = None) -> None:
        """Leave the task out from now on; ``until`` (aware) enables it again by itself."""
        using = self._using()
        with transactions.write(using):
            let_go = self._row(using).values_list("next_run_at", flat=True).first()
            self._switch(
                using,
                disabled=True,
                disabled_until=until,
                disabled_reason=reason,
                next_run_at=None,
            )
            self._note(Decision.Kind.DISABLED, user, due_at=let_go, reason=reason)
            Job.drop_waiting(self, user, using)
        self.reread()

    def enable(self, user: Any = None) -> None:
        """Let the task run by its rule again, from now on: nothing is made up.

        Raises :class:`linod.exceptions.InvalidRecurrence` when its rule cannot be answered.
        """
        using = self._using()
        with transactions.write(using):
            # By the row's rule: this object may have been read, or changed, before.
            row = self._row(using).select_for_update().first()
            if row is None:
                raise self._gone()
            now, until = clock.db_now(using), row.disabled_until
            by_itself = user is None and until is not None and until <= now
            waited_for, row.disabled = row.next_run_at, False
            row._reschedule(now)
            self._switch(
                using,
                disabled=False,
                disabled_until=None,
                disabled_reason="",
                failures=0,
                start_date=row.start_date,
                start_time=row.start_time,
                next_run_at=row.next_run_at,
            )
            reason = gettext("its pause was over") if by_itself else ""
            let_go = waited_for if waited_for != row.next_run_at else None
            self._note(Decision.Kind.ENABLED, user, due_at=let_go, reason=reason)
        self.reread()

    def duplicate(self, user: Any = None) -> BackgroundTask:
        """Make a copy that stands behind this task and is disabled: two of a kind would both run.

        It has all that people have said in this task's row, and nothing of what linod has noted.
        """
        using = self._using()
        with transactions.write(using):
            row = self._row(using).first()
            if row is None:
                raise self._gone()
            said = {field.name for field in self._meta.concrete_fields} - ENGINE_FIELDS - {"id"}
            copy = type(self)(**{name: getattr(row, name) for name in said})
            copy.seqno = min(row.seqno + 1, LARGEST)
            copy.disabled, copy.disabled_until = True, None
            copy.disabled_reason = gettext("a copy of %s") % row
            copy.save(using=using)
            copy.renumber_siblings()
            copy._note(Decision.Kind.DISABLED, user, reason=copy.disabled_reason)
        return copy

    def _switch(self, using: str, **values: Any) -> None:
        if not self._row(using).update(version=models.F("version") + 1, **values):
            raise self._gone()

    def _note(self, kind: str, user: Any, **details: Any) -> None:
        using = self._using()
        Decision.objects.record(kind, self, who=user, using=using, **details)
        transaction.on_commit(lambda: signals.work_arrived.send(type(self)), using=using)

    # What it is about

    def is_running(self) -> bool:
        """Whether a daemon, or somebody's ``run()``, is at it right now."""
        return self._running_since() is not None

    def _running_since(self) -> datetime | None:
        jobs = Job.objects.using(self._using()).running().filter(active_task=self.pk)
        return jobs.values_list("start_time", flat=True).first()

    @property
    def status(self) -> str:
        """What the task is about right now, in words."""
        return status_text(self, clock.db_now(self._using()), self._running_since())

    # Running it here and now

    def run(self, ar: BaseRequest, lgr: logging.Logger | None = None) -> Job:
        """Run the task now, in this thread, also when it is disabled; its rule goes on unchanged.

        :param ar: on whose behalf; its logger hears the lines that the task's level lets pass.
        :param lgr: another logger to hear them.
        :return: the job, in its final state; one that is lost may wait for a daemon, where
            ``rerun_lost`` says so. A failure disables the task as in the daemon.

        Raises :class:`linod.exceptions.AlreadyRunning`,
        :class:`linod.exceptions.InsideTransaction` and :class:`linod.exceptions.UnknownProcedure`.
        """
        from linod import inline

        return inline.run(self, ar, lgr)

    async def arun(self, ar: BaseRequest, lgr: logging.Logger | None = None) -> Job:
        """:meth:`run` for a caller that awaits: a sync procedure gets a thread of its own."""
        from linod import inline

        return await inline.arun(self, ar, lgr)

    async def start_task(self, ar: BaseRequest, lgr: logging.Logger | None = None) -> None:
        """:meth:`arun` without its answer, so that a shell shows what the task says, no more."""
        await self.arun(ar, lgr)


__all__ = ["BackgroundTask", "Daemon", "Decision", "Job", "JobLog"]
