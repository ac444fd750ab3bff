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
    `-- MissingExtra          an optional package is needed and absent

    Interruption              what stops a body from outside; no Exception
    |-- JobCancelled
    `-- JobTimedOut
"""


class LinodError(Exception):
    """The root of linod's errors."""


class InvalidRecurrence(LinodError):
    """A rule that cannot be answered; ``field`` names what to mend, ``message`` says how."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message


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


class Interruption(BaseException):
    """Raised inside a body to stop it from outside.

    No Exception, as ``asyncio.CancelledError`` is none: a body's ``except Exception`` around one of
    many items must not swallow it.
    """


class JobCancelled(Interruption):
    """Somebody cancelled this job."""


class JobTimedOut(Interruption):
    """The job ran longer than its task's ``timeout``."""
