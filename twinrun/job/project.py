"""Modules beside a job file: its project's own, such as a ``sources.py`` that several jobs share.

A job file is loaded by path, so that Python would not find its neighbours, or would find those of another project under
the same name. Here a job's import statements look beside the job first, as those of a script do. Each such module is
known to Python under a name made from its path, and is pickled by value: so it reaches the workers of a cluster, which
do not have the file.
"""

from __future__ import annotations

import ast
import builtins
import hashlib
import importlib.util
import linecache
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType

from pyspark import cloudpickle

from twinrun.errors import JobError

NEIGHBOURS = "__twinrun_neighbours__"
"""Attribute of a module that was loaded here: the modules beside it that it imports, by the name it calls them."""
Run = Callable[[Path], ModuleType]
_Import = (ast.Import, ast.ImportFrom)


class _SourceOnly(SourceFileLoader):
    """Reads the source each time: a cached .pyc would hide a change made within the same second."""

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.get_data(self.path), self.path)


def module_name(path: Path) -> str:
    """The name of a job file's module: unique per path, and never that of an installed package."""
    digest = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]
    return f"_twinrun_job_{digest}_{re.sub(r'[^0-9A-Za-z_]', '_', path.stem)}"


def run_file(path: Path, neighbour: Run) -> ModuleType:
    """Run a Python file as a module of its own, and keep it out of sight again where it fails.

    Parameters
    ----------
    neighbour : function of Path
        Gives the module of a file beside it that an import statement names.
    """
    name, file = module_name(path), str(path.resolve())
    linecache.checkcache(file)
    loader = _SourceOnly(name, file)
    spec = importlib.util.spec_from_file_location(name, file, loader=loader)
    assert spec is not None, "a loader that is given always makes a spec"
    module = importlib.util.module_from_spec(spec)
    own: dict[str, ModuleType] = {}
    vars(module)["__builtins__"] = {**vars(builtins), "__import__": _importing(path.resolve().parent, own, neighbour)}
    setattr(module, NEIGHBOURS, own)
    before = sys.modules.get(name)
    # Dataclasses look their module up while the file runs, so it must be known before.
    sys.modules[name] = module
    try:
        loader.exec_module(module)
        _check_top(path)
    except (Exception, SystemExit):
        if before is None:
            del sys.modules[name]
        else:
            sys.modules[name] = before
        raise
    cloudpickle.register_pickle_by_value(module)  # type: ignore[no-untyped-call]
    return module


def _importing(folder: Path, own: dict[str, ModuleType], neighbour: Run) -> Callable[..., ModuleType]:
    """Python's import statement, which looks into the folder first."""

    def find(
        name: str,
        globals: Mapping[str, object] | None = None,
        locals: Mapping[str, object] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        file = _beside(folder, name) if level <= 1 else None
        if file is None:
            return builtins.__import__(name, globals, locals, fromlist or (), level)
        own[name] = neighbour(file)
        return own[name]

    return find


def _beside(folder: Path, name: str) -> Path | None:
    """The file of a module beside a job; a module of Python itself is never taken from there."""
    file = folder / f"{name}.py"
    return file if name.isidentifier() and name not in sys.stdlib_module_names and file.is_file() else None


def _check_top(path: Path) -> None:
    """A function that runs on rows runs where the file is not: what it needs has to be imported before.

    Raises
    ------
    JobError
        A function or class imports a module beside the job.
    """
    folder, tree = path.resolve().parent, ast.parse(path.read_text(encoding="utf-8"))
    inner = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)
    for outer in ast.walk(tree):
        for node in ast.walk(outer) if isinstance(outer, inner) else ():
            named = [(name, node.lineno) for name in _imported(node)] if isinstance(node, _Import) else []
            for name, line in named:
                if _beside(folder, name):
                    raise JobError(
                        f"line {line} imports {name}.py inside a function or class.",
                        expected="modules of the project imported at the top of the file: workers do not have them",
                        fix=f"move the import of {name} to the top",
                    )


def _imported(node: ast.Import | ast.ImportFrom) -> list[str]:
    """What an import statement names, as it stands."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module] if node.level <= 1 and node.module else []
