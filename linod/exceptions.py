"""Everything that linod raises on purpose.

::

    LinodError
    |-- InvalidRecurrence     a rule that names no instant, or makes no sense
    |-- DuplicateProcedure    two functions want one name
    |-- UnknownProcedure      this process has no procedure of that name
    |-- CircularOrder         run_after names a circle
    |-- AlreadyRunning        the task has an active job
    |-- InsideTransaction     a run was asked for inside a database transaction
    |-- ChangedMeanwhile      somebody else changed the row since it was read
    |-- NotMine               the job belongs to somebody else by now
    |-- MissingExtra          an optional package is needed and absent
    |-- BadFrame              bytes that are no record of a log
    `-- NoLogServer           the log server cannot begin here

    Interruption              what stops a body from outside; no Exception
    |-- JobCancelled
    |   `-- JobStopped        by linod itself, when nobody cancelled it
    `-- JobTimedOut
"""

from __future__ import annotations

from typing import Any

from linod.phrases import ENGLISH, Language, OneOf


class LinodError(Exception):
    """The root of linod's errors.

    :param message: a line for people, in English; where there are ``details``, with their places
        (``%(task)s``).
    """

    def __init__(self, message: str = "", **details: Any) -> None:
        super().__init__(message % details if details else message)
        self._template, self._details = message, details

    def said(self, language: Language = ENGLISH) -> str:
        """The error in a language; ``str()`` is the same in English."""
        text = language.gettext(self._template)
        details = {
            name: value.said(language) if isinstance(value, OneOf) else value
            for name, value in self._details.items()
        }
        return text % details if details else text


class InvalidRecurrence(LinodError):
    """A rule that cannot be answered; ``field`` names what to mend, ``message`` says how."""

    def __init__(self, field: str, message: str, **details: Any) -> None:
        super().__init__(message, **details)
        self.field = field
        self.message = self.remedy()

    def __str__(self) -> str:
        return self.said()

    def said(self, language: Language = ENGLISH) -> str:
        """The field and what is wrong with it."""
        return f"{self.field}: {self.remedy(language)}"

    def remedy(self, language: Language = ENGLISH) -> str:
        """``message`` in a language: for a form, where it stands at its field."""
        return super().said(language)


class DuplicateProcedure(LinodError):
    """Two functions are declared under one name."""


class UnknownProcedure(LinodError):
    """No procedure of this name is declared in this process."""


class CircularOrder(LinodError):
    """The procedures' ``run_after`` form a circle."""


class AlreadyRunning(LinodError):
    """The task has an active job already."""


class InsideTransaction(LinodError):
    """A run inside a transaction would hide its own job; call it outside ``atomic()``."""


class ChangedMeanwhile(LinodError):
    """The row was changed by somebody else since it was read; nothing was written."""


class NotMine(LinodError):
    """The job was taken over; what it does from here on must not count."""


class MissingExtra(LinodError):
    """An optional package is needed for this and is not installed."""


class BadFrame(LinodError):
    """What came over the log server's socket is no frame, or no record."""


class NoLogServer(LinodError):
    """The log server cannot begin: no folder, or one that it may not write in."""


class Interruption(BaseException):
    """Raised inside a body to stop it from outside.

    No Exception, as ``asyncio.CancelledError`` is none: a body's ``except Exception`` around one of
    many items must not swallow it.
    """


class JobCancelled(Interruption):
    """Somebody cancelled this job."""


class JobStopped(JobCancelled):
    """linod cannot let this job go on: it stops, or the job's lease is over.

    Who catches :class:`JobCancelled` hears it, too. A body that ends by it is lost, not cancelled:
    where ``rerun_lost`` and attempts remain it begins again.
    """


class JobTimedOut(Interruption):
    """The job ran longer than its task's ``timeout``."""
