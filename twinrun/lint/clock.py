"""Clocks and random numbers of Python in a job file: the plan shows their value, not where it is from."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from twinrun.lint.calls import Calls
from twinrun.lint.refused import Found

_CLOCKS = frozenset(
    {
        "datetime.datetime.now",
        "datetime.datetime.utcnow",
        "datetime.datetime.today",
        "datetime.date.today",
        "time.time",
        "time.time_ns",
        "time.localtime",
        "time.gmtime",
        "time.ctime",
        "time.strftime",
        "time.monotonic",
        "time.perf_counter",
        "uuid.uuid1",
        "uuid.uuid4",
        "os.urandom",
        "pandas.Timestamp.now",
        "pandas.Timestamp.today",
        "pandas.Timestamp.utcnow",
    }
)
_RANDOM = ("random.", "secrets.", "numpy.random.")
_SEEDED = ("random.Random", "random.seed", "numpy.random.default_rng", "numpy.random.RandomState")


def clocks(calls: Calls, logic: str) -> Iterator[Found]:
    """Calls of a clock or of a random generator that a run of the function evaluates.

    Looked at are the statements of the module, the function, and what it calls in the same file.

    Parameters
    ----------
    logic : str
        Name of the job's function.
    """
    try:
        tree = ast.parse(Path(calls.file).read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):
        return
    modules = _imported(tree)
    for part in _evaluated(tree, logic, calls.def_line):
        for node in ast.walk(part):
            name = _dotted(node.func, modules) if isinstance(node, ast.Call) else ""
            if name in _CLOCKS or (name.startswith(_RANDOM) and not name.startswith(_SEEDED)):
                yield Found("TR211", node.lineno, f"{name}()")  # type: ignore[attr-defined]


def _imported(tree: ast.Module) -> dict[str, str]:
    """What each imported name stands for, wherever in the file it is imported."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                names[alias.asname or alias.name.split(".")[0]] = (
                    alias.name if alias.asname else alias.name.split(".")[0]
                )
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return names


def _evaluated(tree: ast.Module, logic: str, line: int) -> Iterator[ast.AST]:
    functions = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    for node in ast.walk(tree):
        # Of two functions of one name the one that Python runs counts; decorators stand above its first line.
        if isinstance(node, ast.FunctionDef) and node.name == logic and _begins(node) == line:
            functions[logic] = node
    yield from (node for node in tree.body if isinstance(node, ast.Assign | ast.AnnAssign | ast.Expr))
    rest, done = [logic], set()
    while rest:
        name = rest.pop()
        if name in done or name not in functions:
            continue
        done.add(name)
        yield functions[name]
        rest += [node.id for node in ast.walk(functions[name]) if isinstance(node, ast.Name)]


def _begins(node: ast.FunctionDef) -> int:
    return min([node.lineno, *(each.lineno for each in node.decorator_list)])


def _dotted(node: ast.expr, modules: dict[str, str]) -> str:
    if isinstance(node, ast.Name):
        return modules.get(node.id, "")
    if isinstance(node, ast.Attribute):
        owner = _dotted(node.value, modules)
        return f"{owner}.{node.attr}" if owner else ""
    return ""
