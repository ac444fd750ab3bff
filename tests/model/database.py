"""A SQLite database whose every step can be stopped, replayed and taken back.

A step is one round trip that others could notice: a statement outside of a transaction, a whole
transaction up to its COMMIT, or a COMMIT. SQLite lets only one transaction write at a time
(``BEGIN IMMEDIATE``) and shows others nothing of it before its COMMIT, so nothing that happens
elsewhere could tell apart the moments between BEGIN and COMMIT.

Code is stopped by an exception and continued by running it again from its beginning: the results of
the steps that it has made are on its tape, and the database is not asked again. So the code between
the steps must depend on nothing but its arguments, the tape and the clock.
"""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.apps import apps
from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType
from django.db import OperationalError, connections
from django.db.backends.sqlite3.base import DatabaseWrapper

ALIAS = "model"
#: How a COMMIT may come out: its answer arrives; it is lost, and the COMMIT worked, did not work,
#: or is still under way on the server and will be settled later.
OK, LOST_DONE, LOST_UNDONE, LOST_PENDING = "ok", "done", "undone", "pending"
#: The kinds of steps that wait while another holds the write lock.
WAITING = ("begin", "write")
#: The kinds of steps whose outcome does not depend on the database's content.
ALONE = ("commit", "retry", "sleep")
#: Else the numbers of the ledger's lines would tell one way to a content from another.
FORGET = (
    "DELETE FROM linod_decision",
    "DELETE FROM sqlite_sequence WHERE name = 'linod_decision'",
)


class Suspended(BaseException):
    """The code stands before its next step, of that kind."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


class Blocked(BaseException):
    """The next step waits for another's write lock."""


class Record(NamedTuple):
    """A step that was made at ``now``: what came of each statement; or an event beside it."""

    kind: str
    now: datetime
    results: tuple[Any, ...] = ()


class Refusal(NamedTuple):
    """An error of the database, as what is equal to the same error at another time."""

    kind: type[sqlite3.Error]
    args: tuple[Any, ...]


class Question(NamedTuple):
    """A statement, as often as there are parameters for it."""

    sql: str
    params: Any = None
    is_many: bool = False

    def ask(self, cursor: Any) -> Any:
        """What the database answers."""
        action = cursor.executemany if self.is_many else cursor.execute
        try:
            action(self.sql) if self.params is None else action(self.sql, self.params)
        except sqlite3.Error as error:
            return Refusal(type(error), error.args)
        # Behind other statements SQLite says what the connection inserted last, whatever that was.
        is_insert = self.sql.lstrip()[:6].upper() == "INSERT"
        lastrowid = cursor.lastrowid if is_insert else None
        has_rows = cursor.description is not None
        return tuple(cursor.fetchall()), cursor.rowcount, lastrowid, has_rows


class Course:
    """How code goes through one of its steps, by the answers that it is given.

    What it asks next depends on nothing but those that it has had. So where a content gives the
    same answers as an earlier one, the code need not be run again to know what comes of the step.
    """

    def __init__(self) -> None:
        self.kind = ""
        self._questions: dict[tuple[Any, ...], Question] = {}
        self._ends: dict[tuple[Any, ...], Any] = {}

    def learn(self, record: Record, asked: list[Question], end: Any) -> None:
        """Remember a step that was made, and what came of it."""
        assert len(asked) == len(record.results)
        self.kind = record.kind
        for number, question in enumerate(asked):
            self._questions[record.results[:number]] = question
        self._ends[record.results] = end

    def follow(self, cursor: Any) -> Any:
        """Ask once more; returns what comes of it, None where an answer is a new one."""
        answers: tuple[Any, ...] = ()
        while question := self._questions.get(answers):
            answers += (question.ask(cursor),)
        return self._ends.get(answers)


class Tape:
    """The steps of one piece of code: those made before, and at most one new one."""

    def __init__(
        self,
        records: tuple[Record, ...],
        now: datetime,
        *,
        is_locked: bool = False,
        outcome: str = OK,
        seed: str = "",
        on_event: Callable[..., None] | None = None,
    ) -> None:
        self.records = list(records)
        self.at = 0
        self.clock = now
        self.now = records[0].now if records else now
        self.is_locked = is_locked
        self.outcome = outcome
        self.seed, self.drawn = seed, 0
        self.skew = timedelta()
        self.on_event = on_event
        #: Whether what runs has looked for hints.
        self.has_looked = False
        self.is_live = True
        #: The new step's results; None: it has not been made.
        self.fresh: list[Any] | None = None
        self.fresh_kind = ""
        self.serving: Iterator[Any] = iter(())
        #: The database's content that a COMMIT would bring about.
        self.pending: int | None = None

    def hear(self) -> None:
        """Let happen what happened beside the code before its next step."""
        while self.at < len(self.records) and self.records[self.at].kind == "event":
            assert self.on_event is not None
            self.on_event(*self.records[self.at].results)
            self.at += 1

    def step(self, kind: str) -> bool:
        """Go on to the next step; True: it is to be made, False: it is on the tape."""
        self.close()
        self.hear()
        if self.at < len(self.records):
            record = self.records[self.at]
            assert record.kind == kind, f"not deterministic: {kind}, formerly {record.kind}"
            self.at += 1
            self.now = record.now
            self.serving = iter(record.results)
            return False
        if not self.is_live:
            raise Suspended(kind)
        if kind in WAITING and self.is_locked:
            raise Blocked
        self.is_live = False
        self.now = self.clock
        self.fresh, self.fresh_kind = [], kind
        return True

    def close(self) -> None:
        """The step that was being made is over."""
        if self.fresh is not None:
            self.records.append(Record(self.fresh_kind, self.now, tuple(self.fresh)))
            self.at = len(self.records)
            self.fresh = None


class Cursor:
    """Asks the database, or the tape."""

    def __init__(self, database: Database, real: Any) -> None:
        self.database = database
        self.real = real
        self.rows: Iterator[Any] = iter(())
        self.rowcount = -1
        self.lastrowid: int | None = None
        #: Only whether there is one: whether the statement gives rows.
        self.description: tuple[()] | None = None

    def execute(self, sql: str, params: Any = None) -> Cursor:
        return self._do(Question(sql, params))

    def executemany(self, sql: str, params: Any) -> Cursor:
        return self._do(Question(sql, list(params), is_many=True))

    def _do(self, question: Question) -> Cursor:
        result = self.database.answer(question, self.real)
        if isinstance(result, Refusal):
            raise result.kind(*result.args)
        rows, self.rowcount, self.lastrowid, has_rows = result
        self.description = () if has_rows else None
        self.rows = iter(rows)
        return self

    def fetchone(self) -> Any:
        return next(self.rows, None)

    def fetchmany(self, size: int = 1) -> list[Any]:
        return [row for row, _n in zip(self.rows, range(size), strict=False)]

    def fetchall(self) -> list[Any]:
        return list(self.rows)

    def __iter__(self) -> Iterator[Any]:
        return self.rows

    def close(self) -> None:
        self.rows = iter(())


class Database(DatabaseWrapper):
    """The database of the model, in memory; its contents are numbered."""

    tape: Tape | None = None
    is_inside = False
    #: What the new step has asked.
    asked: list[Question]
    contents: dict[Any, int]
    images: list[bytes]
    views: list[Any]
    shown: int | None

    def make(self, view: Callable[[sqlite3.Connection], Any]) -> None:
        """Make the tables; ``view`` reads what tells one content from another."""
        self.contents, self.images, self.views, self.shown, self.view = {}, [], [], None, view
        with self.cursor() as cursor:
            cursor.execute("PRAGMA page_size = 1024")
        with self.schema_editor() as editor:
            for model in (ContentType, User, *apps.get_app_config("linod").get_models()):
                editor.create_model(model)
        self._plain = super().create_cursor()

    def number(self) -> int:
        """The number of the content as it is now; the ledger, which decides nothing, is emptied."""
        view = self.view(self.connection)
        number = self.contents.get(view)
        if number is None:
            for statement in FORGET:
                self.connection.execute(statement)
            number = self.shown = self.contents[view] = len(self.images)
            self.images.append(self.connection.serialize())
            self.views.append(view)
        else:
            self.shown = None  # beside what the view reads, it may differ from the image
        return number

    def show(self, number: int) -> None:
        """Bring back the content of that number."""
        if self.shown != number:
            self.connection.deserialize(self.images[number])
            self.shown = number

    def run(self, tape: Tape, number: int, code: Callable[[], Any]) -> tuple[Any, str, int]:
        """Run code up to the step behind its next one, on that content.

        Returns its value, the kind of the step that it stands before ("" when it has ended), and
        the number of the new content. An error of the code is raised.
        """
        self.tape, self.is_inside = tape, False
        self._start = number
        self.after = number
        value, kind = None, ""
        try:
            value = code()
            tape.close()
        except Suspended as stop:
            kind = stop.kind
        finally:
            self.tape = None
            self.reset()
        return value, kind, self.after

    def reset(self) -> None:
        """Whatever the code left behind in its connection is gone."""
        if self.connection.in_transaction:
            self.connection.rollback()
            self.shown = None
        self.in_atomic_block = self.needs_rollback = self.closed_in_transaction = False
        self.savepoint_ids, self.run_on_commit, self.atomic_blocks = [], [], []
        self.autocommit = True
        self.commit_on_exit = True

    def follow(self, course: Course, number: int) -> tuple[Any, int, int | None] | None:
        """Make a step on that content without its code; None where that is to be run.

        Returns what came of it, the number of the new content, and that of the one that its COMMIT
        would bring about.
        """
        self.show(number)
        after, pending = number, None
        end = course.follow(self._plain)
        if end is not None and course.kind == "write":
            after = self.number()
        elif end is not None and end.is_to_commit:
            self.connection.commit()
            pending = self.number()
        elif course.kind == "write":
            self.shown = None
        self.reset()
        return None if end is None else (end, after, pending)

    def answer(self, question: Question, real: Any) -> Any:
        """What a statement brings, by the database or by the tape."""
        tape = self.tape
        if tape is None:
            return question.ask(real)
        if not self.is_inside:
            word = question.sql.lstrip().partition(" ")[0].upper()
            kind = {"BEGIN": "begin", "SELECT": "read"}.get(word, "write")
            is_new = tape.step(kind)
            self.is_inside = kind == "begin"
            if is_new:
                self.show(self._start)
                self.asked = [question]
                result = question.ask(real)
                if kind == "write":
                    self.after = self.number()
                tape.fresh.append(result)  # type: ignore[union-attr]
                return result
        if tape.fresh is None:
            return next(tape.serving)
        result = question.ask(real)
        self.asked.append(question)
        tape.fresh.append(result)
        return result

    # What Django calls

    def create_cursor(self, name: str | None = None) -> Any:
        return Cursor(self, super().create_cursor(name))

    def _commit(self) -> None:
        tape = self.tape
        if tape is None:
            super()._commit()
            return
        self.is_inside = False
        if tape.fresh is not None:
            self.connection.commit()
            tape.pending = self.number()
        if tape.step("commit"):
            outcome = tape.outcome
            tape.fresh.append(outcome)  # type: ignore[union-attr]
        else:
            outcome = next(tape.serving)
        if outcome != OK:
            raise OperationalError("server closed the connection unexpectedly")

    def _rollback(self) -> None:
        if self.tape is None:
            super()._rollback()
            return
        self.is_inside = False
        if self.connection.in_transaction:
            self.connection.rollback()

    def close(self) -> None:
        """Nothing is lost with a connection here; its transaction was settled before."""

    def ids(self) -> uuid.UUID:
        """A key that the same code draws again when it is replayed."""
        tape = self.tape
        assert tape is not None
        tape.drawn += 1
        return uuid.uuid5(uuid.NAMESPACE_OID, f"{tape.seed}/{tape.drawn}")


@contextmanager
def model_database(view: Callable[[sqlite3.Connection], Any]) -> Iterator[Database]:
    """The model's database under its alias, for as long as the block lasts."""
    settings = deepcopy(connections.settings["default"])
    settings |= {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:", "OPTIONS": {}}
    database = Database(settings, ALIAS)
    connections.settings[ALIAS] = settings
    connections[ALIAS] = database
    try:
        database.make(view)
        yield database
    finally:
        super(Database, database).close()
        database.connection.close()
        del connections[ALIAS]
        del connections.settings[ALIAS]
