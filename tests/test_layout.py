"""The floors of the house: imports go down only, at any depth of a module.

::

    4 faces         the command, admin, views, consumers, checks: what people and Django see
    3 engine        the daemon, its scheduler and its executor, and what they stand on
    2 rows          models, and the functions that change them
    1 declarations  procedures and requests: what an application writes and receives
    0 pure python   no Django, no clock, no I/O

A module imports from its own floor and from those below it, never in a circle. The package
``linod`` itself stands on no floor: its names are imported when they are used.

What stands under ``if TYPE_CHECKING:`` never runs and is not looked at; that such names serve
annotations only is held by ruff (TC004).
"""

import ast
import graphlib
import re
from collections.abc import Callable, Iterator

import pytest

from tests.house import Module, read_house

# A package's name stands for everything in it.
FLOORS = {
    "calendars": 0,
    "cronrule": 0,
    "elapsed": 0,
    "exceptions": 0,
    "framing": 0,
    "loglines": 0,
    "phrases": 0,
    "recurrence": 0,
    "rrules": 0,
    "rowrules": 0,
    "rules": 0,
    "series": 0,
    "totals": 0,
    "wording": 0,
    "zonechanges": 0,
    "adoption": 1,
    "capture": 1,
    "chance": 1,
    "choices": 1,
    "conf": 1,
    "loghandler": 1,
    "logsender": 1,
    "masking": 1,
    "procedures": 1,
    "requests": 1,
    "running": 1,
    "signals": 1,
    "agenda": 2,
    "arguments": 2,
    "asking": 2,
    "bulk": 2,
    "claims": 2,
    "clock": 2,
    "columns": 2,
    "coming": 2,
    "events": 2,
    "execution": 2,
    "fates": 2,
    "fields": 2,
    "groups": 2,
    "heartbeat": 2,
    "history": 2,
    "inline": 2,
    "leftovers": 2,
    "evidence": 2,
    "leases": 2,
    "ledger": 2,
    "links": 2,
    "migrations": 2,
    "locks": 2,
    "mixins": 2,
    "models": 2,
    "pacing": 2,
    "pieces": 2,
    "planning": 2,
    "prepared": 2,
    "recent": 2,
    "records": 2,
    "retention": 2,
    "rights": 2,
    "statements": 2,
    "status": 2,
    "sync": 2,
    "tables": 2,
    "taskrows": 2,
    "telling": 2,
    "traces": 2,
    "tracked": 2,
    "transactions": 2,
    "alerts": 3,
    "bridge": 3,
    "broadcast": 3,
    "daemon": 3,
    "executor": 3,
    "farewell": 3,
    "layers": 3,
    "logfile": 3,
    "logpeers": 3,
    "logserver": 3,
    "lookout": 3,
    "loopwatch": 3,
    "memory": 3,
    "notify": 3,
    "offset": 3,
    "outbox": 3,
    "scheduler": 3,
    "seeking": 3,
    "testing": 3,
    "upkeep": 3,
    "wakeup": 3,
    "workers": 3,
    "writelock": 3,
    "admin": 4,
    "answers": 4,
    "apps": 4,
    "checks": 4,
    "commands": 4,
    "consumers": 4,
    "deployment": 4,
    "forecast": 4,
    "foreground": 4,
    "health": 4,
    "hub": 4,
    "listing": 4,
    "management": 4,
    "overview": 4,
    "parts": 4,
    "reloading": 4,
    "routing": 4,
    "templatetags": 4,
    "terminal": 4,
    "timeline": 4,
    "urls": 4,
    "viewers": 4,
    "views": 4,
}

# On the engine's floor each of these imports only those after it.
ENGINE = ("daemon", "scheduler", "executor")

# The ways back: BackgroundTask.run() and Job.cancel() are verbs of the row, and what they do is
# done with rows. They are taken when they are called.
WAYS_BACK = {("models", "linod.inline"), ("history", "linod.claims")}

# All that a module may take from linod itself.
VERSION = "linod.__version__"

# What floor 0 is made of; everything else might read a clock, a file or a setting.
PURE = frozenset(
    "__future__ bisect calendar collections contextlib cronsim dataclasses datetime dateutil"
    " difflib enum functools gettext heapq itertools json linod math operator re struct types"
    " typing zoneinfo".split()
)

# An extra that is missing costs nothing until it is used. The two faces that stand on channels are
# themselves imported only where channels are used.
OPTIONAL = frozenset({"channels", "channels_redis", "cronsim", "daphne", "redis"})
ON_CHANNELS = frozenset({"consumers", "routing"})

# `clock` reads the time for the rows; `testing` replaces it. The engine sleeps by time.monotonic.
# The log file is rotated by this host's days, and no database is asked for that.
READS_CLOCK = frozenset({"clock", "logfile", "testing"})
CLOCKS = frozenset(
    {
        "datetime.date.today",
        "datetime.datetime.now",
        "datetime.datetime.today",
        "datetime.datetime.utcnow",
        "django.db.models.functions.Now",
        "django.db.models.functions.datetime.Now",
        "django.utils.timezone.localdate",
        "django.utils.timezone.now",
        "time.time",
        "time.time_ns",
    }
)
CLOCK_FIELDS = frozenset({"auto_now", "auto_now_add"})
CLOCK_SQL = re.compile(
    r"\b(clock_timestamp|now|statement_timestamp|sysdate|transaction_timestamp|utc_timestamp)\("
    r"|\bcurrent_timestamp\b|'now'",
    re.IGNORECASE,
)

# In the database a procedure is a name and JSON: nothing there is ever run or imported.
RUNS_DATA = frozenset(
    {"__import__", "dill", "eval", "exec", "marshal", "pickle", "shelve"}
    | {"django.utils.module_loading.import_string"}
)
# The public names, and the modules of the installed applications.
IMPORTS_BY_NAME = frozenset({"", "apps"})

# A job's state is written in one file. The daemon's stop signs its own row, which has one, too.
WRITES_STATES = frozenset({"claims", "farewell"})
BATCHED = frozenset({"change", "insert", "update"})
WRITES = frozenset({"create", "update"})
JOB = "linod.history.Job"


HOUSE = read_house()


def floor_of(name: str) -> int | None:
    parts = name.split(".")
    prefixes = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((FLOORS[prefix] for prefix in prefixes if prefix in FLOORS), None)


# The rules: each names what is wrong in one module.


def placed(module: Module) -> Iterator[str]:
    if module.name and floor_of(module.name) is None:
        yield module.at(
            1,
            f"stands on no floor: add {module.name!r} to FLOORS in tests/test_layout.py, on the"
            " lowest floor that has everything it imports",
        )


def imports_down(module: Module) -> Iterator[str]:
    here = floor_of(module.name)
    for found in module.imports:
        there = floor_of(found.target.removeprefix("linod."))
        if found.top == "linod" and here is not None and there is not None and there > here:
            yield module.at(found.line, f"imports {found.target} (floor {there}) from floor {here}")


def from_their_modules(module: Module) -> Iterator[str]:
    if not module.name:
        return
    for name, line in module.uses:
        top, _, rest = name.partition(".")
        first = rest.partition(".")[0]
        if top == "linod" and first and f"linod.{first}" not in module.siblings | {VERSION}:
            yield module.at(line, f"takes {first} from linod itself: name its module")


def engine_in_order(module: Module) -> Iterator[str]:
    if module.name not in ENGINE:
        return
    above = ENGINE[: ENGINE.index(module.name)]
    for found in module.imports:
        if found.target in {f"linod.{name}" for name in above}:
            yield module.at(found.line, f"imports {found.target}: {' -> '.join(ENGINE)}")


def pure_below(module: Module) -> Iterator[str]:
    if floor_of(module.name) == 0:
        for found in module.imports:
            if found.top not in PURE:
                yield module.at(found.line, f"imports {found.target} on floor 0 (see PURE)")
        for name, line in module.uses:
            if name in {"open", "input"}:
                yield module.at(line, f"calls {name}() on floor 0: no I/O there")


def models_hidden(module: Module) -> Iterator[str]:
    if floor_of(module.name) in {0, 1}:
        for name, line in module.uses:
            if name in {"django.apps.apps.get_model", "apps.get_model"}:
                yield module.at(
                    line, f"get_model() is an import upwards from floor {floor_of(module.name)}"
                )


def extras_late(module: Module) -> Iterator[str]:
    for found in module.imports:
        if found.top == "channels":
            if module.name not in ON_CHANNELS:
                yield module.at(found.line, "only consumers.py and routing.py import channels")
        elif found.top in OPTIONAL and found.at_once:
            yield module.at(found.line, f"{found.top} is optional: import it where it is used")


def own_chance(module: Module) -> Iterator[str]:
    for found in module.imports:
        if found.top == "random" and module.name != "chance":
            yield module.at(found.line, "applications draw from random: use chance")


def public_names_late(module: Module) -> Iterator[str]:
    if not module.name:
        for found in module.imports:
            if found.at_once and found.top in {"linod", "django"}:
                yield module.at(found.line, f"imports {found.target} before it is asked for")


def one_clock(module: Module) -> Iterator[str]:
    if floor_of(module.name) not in {0, 1, 2, 3} or module.name in READS_CLOCK:
        return
    for name, line in module.uses:
        if name in CLOCKS:
            yield module.at(line, f"{name}: take the moment as an argument, or ask linod.clock")
    for node, _ in module.nodes:
        if isinstance(node, ast.keyword) and node.arg in CLOCK_FIELDS:
            yield module.at(node.lineno, f"{node.arg} reads this host's clock: ask linod.clock")
    for text in module.texts:
        if CLOCK_SQL.search(str(text.value)):
            yield module.at(text.lineno, f"asks the database for the time: {text.value!r}")


def no_foreign_code(module: Module) -> Iterator[str]:
    for name, line in module.uses:
        if name in RUNS_DATA or name.partition(".")[0] in RUNS_DATA:
            yield module.at(line, f"{name}: nothing that was stored is run or imported")
    for node, _ in module.nodes:
        if not isinstance(node, ast.Call) or list(module.targets(node)):
            continue
        by_name = module.dotted(node.func) == "importlib.import_module"
        if by_name and module.name not in IMPORTS_BY_NAME:
            yield module.at(node.lineno, "import_module() of a name that is not written here")


def states_in_claims(module: Module) -> Iterator[str]:
    if module.name in WRITES_STATES:
        return
    for node, _ in module.nodes:
        if isinstance(node, ast.Attribute | ast.Call) and writes_state(module, node):
            yield module.at(node.lineno, "writes a job's state: that is done in claims.py alone")


def writes_state(module: Module, node: ast.Attribute | ast.Call) -> bool:
    match node:
        case ast.Attribute():
            return node.attr == "state" and isinstance(node.ctx, ast.Store)
        case ast.Call(func=ast.Attribute(attr=verb), args=[table, names, *_]) if (
            verb in BATCHED and module.dotted(table) == JOB
        ):
            return not isinstance(names, ast.Tuple) or "'state'" in ast.unparse(names)
        case ast.Call(func=ast.Attribute(attr="bulk_update"), args=[_, names, *_]):
            return "'state'" in ast.unparse(names)
        case ast.Call(func=func, keywords=keywords):
            verb = func.attr if isinstance(func, ast.Attribute) else ""
            named = any(keyword.arg == "state" for keyword in keywords)
            return named and (verb in WRITES or module.dotted(func) == JOB)
    return False


def no_print(module: Module) -> Iterator[str]:
    for name, line in module.uses:
        if name == "print":
            yield module.at(line, "print(): log it, or write to the command's stdout")


RULES: tuple[Callable[[Module], Iterator[str]], ...] = (
    placed,
    imports_down,
    from_their_modules,
    engine_in_order,
    pure_below,
    models_hidden,
    extras_late,
    own_chance,
    public_names_late,
    one_clock,
    no_foreign_code,
    states_in_claims,
    no_print,
)


def circle(modules: list[Module]) -> list[str]:
    """The modules that import one another in a circle; nothing when there is none."""
    graph = {
        f"linod.{module.name}": {
            found.target
            for found in module.imports
            if found.top == "linod"
            and (found.at_once or (module.name, found.target) not in WAYS_BACK)
        }
        for module in modules
        if module.name
    }
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_house(rule: Callable[[Module], Iterator[str]]) -> None:
    problems = [problem for module in HOUSE for problem in rule(module)]
    assert not problems, "\n".join(problems)


def test_house_has_no_circle() -> None:
    assert circle(HOUSE) == []


def test_house_is_read_whole() -> None:
    assert {"exceptions", "recurrence", "models", "daemon"} <= {module.name for module in HOUSE}


# The rules themselves: each is broken once in every way that it knows.

SIBLINGS = frozenset({"linod", *(f"linod.{name}" for name in FLOORS)})


@pytest.mark.parametrize(
    ("rule", "name", "source"),
    [
        (placed, "utils", ""),
        (placed, "deep.utils", ""),
        (imports_down, "recurrence", "from linod.conf import config"),
        (imports_down, "claims", "import linod.daemon"),
        (imports_down, "claims", "from linod import daemon"),
        (imports_down, "claims", "from . import daemon"),
        (imports_down, "claims", "from .daemon import Daemon"),
        (imports_down, "claims", "def late():\n    from linod.daemon import Daemon"),
        (imports_down, "claims", "class Row:\n    def late(self):\n        import linod.admin"),
        (imports_down, "claims", "import importlib\nimportlib.import_module('linod.daemon')"),
        (imports_down, "claims", "from importlib import import_module as i\ni('linod.daemon')"),
        (imports_down, "claims", "if TYPE_CHECKING:\n    pass\nelse:\n    import linod.daemon"),
        (imports_down, "claims", "if not TYPE_CHECKING:\n    import linod.daemon"),
        (imports_down, "models", "from linod.management.commands.linod import Command"),
        (imports_down, "migrations.0001_initial", "from .. import admin"),
        (from_their_modules, "claims", "from linod import BackgroundTask"),
        (from_their_modules, "claims", "import linod\nlinod.BackgroundTask"),
        (engine_in_order, "executor", "from linod.scheduler import Scheduler"),
        (engine_in_order, "scheduler", "def late():\n    from linod import daemon"),
        (pure_below, "recurrence", "from django.utils import timezone"),
        (pure_below, "recurrence", "def late():\n    import time"),
        (pure_below, "framing", "import logging"),
        (pure_below, "calendars", "zones = open('zones')"),
        (models_hidden, "procedures", "from django.apps import apps\napps.get_model('linod.Job')"),
        (extras_late, "bridge", "def late():\n    from channels.layers import get_channel_layer"),
        (extras_late, "wakeup", "import redis"),
        (extras_late, "recurrence", "try:\n    import cronsim\nexcept ImportError:\n    pass"),
        (extras_late, "consumers", "from channels_redis.core import RedisChannelLayer"),
        (own_chance, "upkeep", "import random"),
        (public_names_late, "", "from linod.models import Job"),
        (public_names_late, "", "from .models import Job"),
        (one_clock, "claims", "from django.utils import timezone\nnow = timezone.now()"),
        (one_clock, "models", "from django.utils import timezone as tz\nField(default=tz.now)"),
        (one_clock, "models", "from django.utils.timezone import now"),
        (one_clock, "models", "DateTimeField(auto_now_add=True)"),
        (one_clock, "claims", "import datetime as dt\ndt.datetime.now(dt.UTC)"),
        (one_clock, "running", "from datetime import datetime\ndatetime.now()"),
        (one_clock, "scheduler", "import time\ntime.time()"),
        (one_clock, "claims", "from time import time\ntime()"),
        (one_clock, "claims", "from django.db.models.functions import Now\nNow()"),
        (one_clock, "bulk", "cursor.execute('SELECT clock_timestamp()')"),
        (one_clock, "bulk", "cursor.execute(f'UPDATE {table} SET at = NOW()')"),
        (no_foreign_code, "fields", "import pickle"),
        (no_foreign_code, "fields", "def late():\n    from pickle import loads"),
        (no_foreign_code, "fields", "eval(value)"),
        (no_foreign_code, "fields", "run = exec"),
        (no_foreign_code, "conf", "from django.utils.module_loading import import_string as i"),
        (
            no_foreign_code,
            "conf",
            "from django.utils import module_loading as m\nm.import_string(x)",
        ),
        (no_foreign_code, "fields", "import importlib\nimportlib.import_module(path)"),
        (states_in_claims, "inline", "rows.update(state='failed')"),
        (states_in_claims, "inline", "job.state = 'failed'"),
        (states_in_claims, "models", "from linod.history import Job\nJob(state='waiting')"),
        (states_in_claims, "models", "Job.objects.create(task=task, state='waiting')"),
        (states_in_claims, "models", "Job.objects.bulk_update(jobs, ['state'])"),
        (
            states_in_claims,
            "pieces",
            "from linod.history import Job\nbatch.change(Job, ('state', 'error'), MINE, rows)",
        ),
        (
            states_in_claims,
            "pieces",
            "from linod.history import Job\nbatch.change(Job, COLUMNS, MINE, rows)",
        ),
        (no_print, "listing", "print('hello')"),
    ],
)
def test_rule_finds(rule: Callable[[Module], Iterator[str]], name: str, source: str) -> None:
    path = "linod/example.py" if name else "linod/__init__.py"
    assert list(rule(Module(name, source, path, SIBLINGS)))


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("daemon", "from linod.executor import run_job\nfrom linod.models import Job"),
        ("models", "from linod.mixins import Sequenced\nfrom linod.recurrence import Recurrence"),
        (
            "requests",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import linod.models",
        ),
        ("requests", "import typing\nif typing.TYPE_CHECKING:\n    import linod.models"),
        ("recurrence", "from datetime import datetime, time\ndef late():\n    import cronsim"),
        ("consumers", "from channels.consumer import AsyncConsumer"),
        ("daemon", "import linod\nVERSION = linod.__version__"),
        ("clock", "def db_now():\n    cursor.execute('SELECT clock_timestamp()')"),
        ("scheduler", "import time\ntime.monotonic()"),
        ("claims", "from linod.history import Job\nbatch.change(Job, RERUN, MINE, rows)"),
        (
            "pieces",
            "from linod.history import Job\nbatch.update(Job, ('progress',), ('id',), rows)",
        ),
        ("leases", "rows.filter(state='running').update(lease_until=until)"),
        ("claims", "def claim(now):\n    '''Take what is due now().'''"),
        ("", "import importlib\ndef late():\n    return importlib.import_module(name)"),
    ],
)
def test_rules_allow(name: str, source: str) -> None:
    module = Module(name, source, siblings=SIBLINGS)
    assert [problem for rule in RULES for problem in rule(module)] == []


def test_circle_is_found_at_any_depth() -> None:
    modules = [
        Module("models", "def late():\n    from linod.claims import claim", siblings=SIBLINGS),
        Module("claims", "from linod import ledger", siblings=SIBLINGS),
        Module("ledger", "from linod.models import Job", siblings=SIBLINGS),
    ]
    assert set(circle(modules)) == {"linod.models", "linod.claims", "linod.ledger"}


@pytest.mark.parametrize(
    ("way_back", "is_circle"),
    [("def run():\n    from linod import inline", False), ("from linod import inline", True)],
)
def test_way_back_is_taken_late(way_back: str, is_circle: bool) -> None:
    modules = [
        Module("models", way_back, siblings=SIBLINGS),
        Module("inline", "from linod.models import Job", siblings=SIBLINGS),
    ]
    assert bool(circle(modules)) is is_circle
