"""Reading linod's sources: what each module imports and touches, and when."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).parents[1]
TYPING_ONLY = frozenset({"TYPE_CHECKING", "typing.TYPE_CHECKING"})


@dataclass(frozen=True)
class Import:
    """One imported thing; ``at_once``: by importing the module, not later by calling it."""

    target: str
    line: int
    at_once: bool

    @property
    def top(self) -> str:
        return self.target.partition(".")[0]


@dataclass(frozen=True)
class Module:
    """One file of the package; its name leaves ``linod`` out: ``management.commands.linod``."""

    name: str
    source: str
    path: str = "linod/example.py"
    siblings: frozenset[str] = field(default=frozenset(), repr=False)

    @cached_property
    def nodes(self) -> list[tuple[ast.AST, bool]]:
        """Every node that can run, and whether importing the module is enough to run it."""
        return list(running_nodes(ast.parse(self.source), at_once=True))

    @cached_property
    def imports(self) -> list[Import]:
        return [
            Import(target, node.lineno, at_once)
            for node, at_once in self.nodes
            if isinstance(node, ast.Import | ast.ImportFrom | ast.Call)
            for target in self.targets(node)
        ]

    def targets(self, node: ast.Import | ast.ImportFrom | ast.Call) -> Iterator[str]:
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(names=names):
                origin = self.origin(node)
                for alias in names:
                    target = f"{origin}.{alias.name}"
                    yield target if target in self.siblings else origin
            case ast.Call(args=[ast.Constant(value=str(target))]):
                if self.dotted(node.func) == "importlib.import_module":
                    yield target

    def origin(self, node: ast.ImportFrom) -> str:
        """The absolute name after ``from``."""
        if not node.level:
            return node.module or ""
        here = ["linod", *filter(None, self.name.split("."))]
        depth = node.level - (1 if self.path.endswith("__init__.py") else 0)
        return ".".join([*here[: len(here) - depth], *([node.module] if node.module else [])])

    @cached_property
    def aliases(self) -> dict[str, str]:
        """What each imported name stands for."""
        known: dict[str, str] = {}
        for node, _ in self.nodes:
            match node:
                case ast.Import(names=names):
                    known |= {alias.asname: alias.name for alias in names if alias.asname}
                case ast.ImportFrom(names=names):
                    origin = self.origin(node)
                    known |= {a.asname or a.name: f"{origin}.{a.name}" for a in names}
        return known

    def dotted(self, node: ast.AST) -> str:
        match node:
            case ast.Name(id=name):
                return self.aliases.get(name, name)
            case ast.Attribute(value=value, attr=attr):
                return f"{self.dotted(value)}.{attr}"
        return "?"

    @cached_property
    def uses(self) -> list[tuple[str, int]]:
        """Every name that the code touches, spelled out, with its line."""
        named = [
            (self.dotted(node), node.lineno)
            for node, _ in self.nodes
            if isinstance(node, ast.Name | ast.Attribute)
        ]
        imported = [
            (f"{self.origin(node)}.{alias.name}", node.lineno)
            for node, _ in self.nodes
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        ]
        return named + imported + [(found.target, found.line) for found in self.imports]

    @cached_property
    def texts(self) -> list[ast.Constant]:
        """The string constants that are no docstrings."""
        prose = {id(node.value) for node, _ in self.nodes if isinstance(node, ast.Expr)}
        return [
            node
            for node, _ in self.nodes
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
            if id(node) not in prose
        ]

    def at(self, line: int, problem: str) -> str:
        return f"{self.path}:{line}: {problem}"


def running_nodes(node: ast.AST, *, at_once: bool) -> Iterator[tuple[ast.AST, bool]]:
    yield node, at_once
    children: list[ast.AST] = list(ast.iter_child_nodes(node))
    if isinstance(node, ast.If) and ast.unparse(node.test) in TYPING_ONLY:
        children = list(node.orelse)
    later = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
    for child in children:
        yield from running_nodes(child, at_once=at_once and not later)


def read_house() -> list[Module]:
    names = {}
    for path in sorted((ROOT / "linod").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        names[path] = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    siblings = frozenset(names.values())
    return [
        Module(
            name=name.partition(".")[2],
            source=path.read_text(encoding="utf-8"),
            path=str(path.relative_to(ROOT)),
            siblings=siblings,
        )
        for path, name in names.items()
    ]
