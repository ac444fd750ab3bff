"""What the rows and the engine tell the rest of the site, after the commit.

Receivers must be quick and must not raise: they run in the process that made the change.
"""

from django.dispatch import Signal

#: Somebody wants the daemons to look now. ``asked``: the columns that :func:`linod.asking.ask`
#: read; told only of one request for an idle task, which was a transaction of its own.
work_arrived = Signal()

#: A request is about to be committed, in a transaction of its own; ``asked`` as above, and
#: :data:`work_arrived` follows. Not on SQLite with a write-ahead log. The one that is not sent
#: after the commit: others wait for the row meanwhile.
work_arriving = Signal()

#: Bodies are about to begin. ``jobs``: a list of what was claimed (``linod.records.Claimed``).
jobs_started = Signal()

#: What running bodies said was stored. ``pieces``: a list of ``linod.pieces.Piece``.
jobs_said = Signal()

#: Outcomes were recorded. ``outcomes``: a list of ``linod.records.Finished``.
jobs_finished = Signal()

#: A line of the ledger was written. ``decision``: the row; without its key if that was not told.
decision_made = Signal()
