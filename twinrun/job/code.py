"""The Python code that a job runs on rows, as text: Spark's plan shows the name of such a function and not its body."""

from __future__ import annotations

import ast
import inspect
import re
import sys
import sysconfig
from collections.abc import Iterator
from types import ModuleType

from twinrun.job.job import Job
from twinrun.job.project import NEIGHBOURS

_ON_ROWS = re.compile(r"\b(udf|pandas_udf|arrow_udf|applyInPandas|mapInPandas|mapInArrow|transformWithState\w*)\b")
# spark-submit takes its own copy of these from another place than a Python environment does.
_KNOWN = frozenset({"twinrun", "pyspark", "py4j", "delta"})
_INSTALLED = re.compile(r"[/\\](site|dist)-packages[/\\]")
_STANDARD = (sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"))


def row_code(job: Job) -> str:
    """The syntax trees, without docstrings, of the job's file and of the modules of its project that it imports.

    Empty where none of them has a Python function on rows: then the plan says all. Installed packages are left out.
    """
    texts = _texts(job)
    return "\n".join(map(_tree, texts)) if any(_ON_ROWS.search(text) for text in texts) else ""


def file_code(job: Job) -> str:
    """The same for every job: whether its file says what it said. Empty where there is no file."""
    return "\n".join(map(_tree, _texts(job)))


def project_text(job: Job) -> str:
    """The texts of the job's file and of the modules of its project that it imports, as they stand."""
    return "\n".join(_texts(job))


def _texts(job: Job) -> list[str]:
    first = inspect.getmodule(job.logic)
    texts = {first: _source(first)} if first is not None else {}
    waiting = list(texts)
    for module in waiting:  # grows while it is walked
        for each in _imported_by(module, texts[module]):
            if each not in texts and _of_the_project(each):
                texts[each] = _source(each)
                waiting.append(each)
    # By text: what a module is called depends on where it was loaded from.
    return [text for text in sorted(texts.values()) if text]


def _imported_by(module: ModuleType, text: str) -> Iterator[ModuleType]:
    """Modules that its import statements name, as far as they are loaded."""
    for node in ast.walk(ast.parse(text)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            package = (module.__package__ or "").split(".")
            above = package[: len(package) + 1 - node.level] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            names = [base, *(f"{base}.{alias.name}" for alias in node.names)]
        beside: dict[str, ModuleType] = getattr(module, NEIGHBOURS, {})
        for name in names:
            if name in beside:
                yield beside[name]
            elif name in sys.modules:
                yield sys.modules[name]


def _of_the_project(module: ModuleType) -> bool:
    file = getattr(module, "__file__", None)
    if not file or module.__name__.split(".")[0] in _KNOWN:
        return False
    return not _INSTALLED.search(file) and not file.startswith(_STANDARD)


def _source(module: ModuleType) -> str:
    try:
        return inspect.getsource(module)
    except (OSError, TypeError):
        return ""


def _tree(text: str) -> str:
    tree = ast.parse(text)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        first = body[0] if isinstance(body, list) and body else None
        if isinstance(body, list) and isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
            body[0] = ast.Expr(ast.Constant(""))
    return ast.dump(tree)
