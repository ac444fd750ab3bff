"""The checker: compares the instants that must be, the rows, and the file of the bodies.

It knows nothing of how linod decides: instants are arithmetic (:mod:`tests.faults.schedules`), rows
are what the database says at the end, lines are what the bodies wrote outside of it.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from tests.faults.journal import BEGIN, END, Line
from tests.faults.schedules import Schedule

FINAL = frozenset({"succeeded", "failed", "timed_out", "cancelled", "lost"})
SKIPPED = re.compile(r"(\d+) skipped")
#: How many violations of a kind are shown.
SHOWN = 5


@dataclass(frozen=True, slots=True)
class JobRow:
    """What the checker wants to know of a job; moments in seconds since 1970."""

    id: str
    task: int | None
    due: float
    trigger: str
    attempt: int
    state: str
    missed: int
    owner: str
    fence: int


@dataclass(frozen=True, slots=True)
class DecisionRow:
    """What the checker wants to know of a line of the ledger."""

    task: int | None
    due: float | None
    kind: str
    reason: str


@dataclass
class Verdict:
    """What was counted, and everything that must not be."""

    instants: int = 0
    rows: int = 0
    coalesced: int = 0
    skipped: int = 0
    bodies: int = 0
    states: Counter[str] = field(default_factory=Counter)
    #: How many lost jobs' bodies never began, by the owner that had them.
    lost_unbegun: Counter[str] = field(default_factory=Counter)
    #: How many bodies began for a job that was then taken from their owner.
    taken: int = 0
    violations: list[tuple[str, str]] = field(default_factory=list)

    def add(self, kind: str, text: str) -> None:
        """Note a violation."""
        self.violations.append((kind, text))

    def count(self, *kinds: str) -> int:
        """How many violations there are of these kinds."""
        return sum(kind in kinds for kind, _text in self.violations)

    def shown(self) -> list[str]:
        """The first violations of each kind, for people."""
        seen: Counter[str] = Counter()
        lines = []
        for kind, text in self.violations:
            seen[kind] += 1
            if seen[kind] <= SHOWN:
                lines.append(f"{kind}: {text}")
        return lines


def check(
    schedules: Iterable[Schedule],
    jobs: Sequence[JobRow],
    decisions: Sequence[DecisionRow],
    lines: Sequence[Line],
    owners: Mapping[int, str] = MappingProxyType({}),
) -> Verdict:
    """Compare job by job; ``owners`` tells who the process of a body is in the rows.

    Kinds of violations: ``missing`` (an instant without a row), ``doubled`` (two rows, or a count
    too high), ``unexpected`` (a row for no instant), ``unfinished`` (a job that is not final),
    ``body twice`` (more begins than the job had attempts), ``body unknown`` (a body of no job),
    ``outcome`` (rows and file contradict each other), ``overlap`` (two bodies of a task at a time,
    the earlier one not lost).
    """
    verdict = Verdict()
    rows_of: dict[int, list[JobRow]] = defaultdict(list)
    for job in jobs:
        verdict.states[job.state] += 1
        if job.task is not None and job.attempt >= 1:
            rows_of[job.task].append(job)
    skips_of: dict[int, list[DecisionRow]] = defaultdict(list)
    for decision in decisions:
        if decision.kind == "skipped" and decision.task is not None:
            skips_of[decision.task].append(decision)
    for schedule in schedules:
        _check_instants(verdict, schedule, rows_of[schedule.task], skips_of[schedule.task])
    _check_bodies(verdict, jobs, lines, owners)
    return verdict


def _check_instants(
    verdict: Verdict, schedule: Schedule, jobs: Sequence[JobRow], skips: Sequence[DecisionRow]
) -> None:
    """Each instant is one row, or one of those that the next row (or a decision) counts."""
    instants = schedule.instants
    verdict.instants += len(instants)
    first_of: dict[float, JobRow] = {}
    for job in sorted(jobs, key=lambda job: (job.due, job.trigger == "retry")):
        if job.trigger not in ("schedule", "retry"):
            continue
        if job.due in first_of:
            if job.trigger == "schedule":
                verdict.add("doubled", f"task {schedule.task} at {job.due:.0f}: two rows")
            continue
        if job.due not in instants:
            verdict.add("unexpected", f"task {schedule.task}: {job.id} is due at {job.due}")
            continue
        first_of[job.due] = job
    verdict.rows += len(first_of)
    waiting = 0  # instants since the last row
    for instant in instants:
        waiting += 1
        row = first_of.get(instant)
        if row is not None:
            skipped = _skipped(skips, instant - waiting * schedule.every, instant)
            _compare(verdict, schedule, instant, waiting - 1, row.missed + skipped)
            verdict.coalesced += row.missed
            verdict.skipped += skipped
            waiting = 0
    if not instants:
        return  # its end came before its first one
    skipped = _skipped(skips, instants[-1] - waiting * schedule.every, instants[-1])
    _compare(verdict, schedule, instants[-1], waiting, skipped)
    verdict.skipped += skipped


def _skipped(skips: Sequence[DecisionRow], after: float, until: float) -> int:
    """How many instants the ledger says were skipped there."""
    counts = [
        int(found[1])
        for decision in skips
        if decision.due is not None
        and after < decision.due <= until
        and (found := SKIPPED.match(decision.reason))
    ]
    return sum(counts)


def _compare(verdict: Verdict, schedule: Schedule, at: int, passed: int, accounted: int) -> None:
    if passed != accounted:
        kind = "missing" if passed > accounted else "doubled"
        for _ in range(abs(passed - accounted)):
            verdict.add(
                kind, f"task {schedule.task} until {at}: {passed} instants passed, {accounted} told"
            )


def _check_bodies(
    verdict: Verdict, jobs: Sequence[JobRow], lines: Sequence[Line], owners: Mapping[int, str]
) -> None:
    row_of = {job.id: job for job in jobs}
    begins: dict[tuple[str, int], list[Line]] = defaultdict(list)
    ends: dict[tuple[str, int], list[Line]] = defaultdict(list)
    for line in lines:
        if line.job not in row_of:
            verdict.add("body unknown", f"{line.event} of {line.job} of task {line.task}")
        elif line.event == BEGIN:
            begins[line.job, line.attempt].append(line)
        elif line.event == END:
            ends[line.job, line.attempt].append(line)
    verdict.bodies = sum(map(len, begins.values()))
    for (job_id, attempt), found in begins.items():
        verdict.taken += _was_lost(row_of, found[0])
        if len(found) > 1:
            pids = ", ".join(str(line.pid) for line in found)
            verdict.add("body twice", f"{job_id} attempt {attempt} began in {pids}")
    for job in jobs:
        _check_outcome(verdict, job, begins[job.id, job.attempt], ends[job.id, job.attempt])
        for line in begins[job.id, job.attempt]:
            owner = owners.get(line.pid, job.owner)
            if job.state in ("succeeded", "failed") and owner != job.owner:
                verdict.add("outcome", f"{job.id} {job.state} by {job.owner}, ran in {line.pid}")
    _check_overlap(verdict, row_of, begins, ends)


def _check_outcome(
    verdict: Verdict, job: JobRow, begins: Sequence[Line], ends: Sequence[Line]
) -> None:
    if job.state not in FINAL:
        verdict.add("unfinished", f"{job.id} of task {job.task} is {job.state}")
    elif job.state == "succeeded" and (len(begins), len(ends)) != (1, 1):
        verdict.add(
            "outcome", f"{job.id} succeeded, its body began {len(begins)}, ended {len(ends)} times"
        )
    elif job.state in ("failed", "timed_out") and not begins:
        verdict.add("outcome", f"{job.id} is {job.state}, its body never began")
    if job.state == "lost" and not begins:
        verdict.lost_unbegun[job.owner] += 1


def _check_overlap(
    verdict: Verdict,
    row_of: dict[str, JobRow],
    begins: dict[tuple[str, int], list[Line]],
    ends: dict[tuple[str, int], list[Line]],
) -> None:
    """Of one task, a body begins after the one before it ended, unless one of them was lost."""
    bodies_of: dict[int, list[Line]] = defaultdict(list)
    for found in begins.values():
        for line in found:
            bodies_of[line.task].append(line)
    for bodies in bodies_of.values():
        bodies.sort(key=lambda line: line.at)
        for earlier, later in itertools.pairwise(bodies):
            # Without an end it was left by an exception, or by the end of its process.
            ended = ends.get((earlier.job, earlier.attempt))
            if _was_lost(row_of, earlier) or _was_lost(row_of, later) or not ended:
                continue
            if ended[0].at > later.at:
                verdict.add("overlap", f"task {earlier.task}: {earlier.job} and {later.job}")


def _was_lost(row_of: dict[str, JobRow], line: Line) -> bool:
    """Whether the job was taken from whoever ran this body."""
    row = row_of[line.job]
    return row.state == "lost" or line.attempt < row.attempt
