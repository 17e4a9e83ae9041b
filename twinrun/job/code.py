"""The code of a job: its function called with plain errors, modules beside its file, and its fingerprint."""

from __future__ import annotations

import ast
import builtins
import hashlib
import importlib.util
import inspect
import json
import linecache
import re
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from pyspark import cloudpickle
from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import StructType

from twinrun.config.problems import nearest
from twinrun.errors import JobError
from twinrun.events.decode import DECODER_VERSION, declaration_fingerprint, event_schema
from twinrun.events.source import Source
from twinrun.job.job import Job, Problem
from twinrun.job.jvmplan import explained
from twinrun.session.settings import with_settings

# Call a job's function, and tell what goes wrong in one plain sentence with the line of the job file.


_CONDITION = re.compile(r"^\s*\[[A-Z0-9_.]+\]\s*")
_STATE = re.compile(r"\s*SQLSTATE: \w+.*$", re.DOTALL)
_IS_ACTION = ("writeStream.start", "can not be called on streaming")
_LONGEST = 400


def call_logic(
    job: Job, frames: Mapping[str, DataFrame], *, streaming: bool = False
) -> tuple[DataFrame | None, list[Problem]]:
    """Call the function over frames and analyse the result. No Spark job of ours; an action in it would run one.

    Returns
    -------
    DataFrame or None
        The result; None where there is none.
    list of Problem
        At most one: Spark and Python stop at the first error.
    """
    try:
        result = job.apply(dict(frames))
        if not isinstance(result, DataFrame):
            kind = type(result).__name__
            change = "end the function in return ...select(...)"
            return None, [Problem(f"the function returns {kind}", "a DataFrame", change)]
        # Spark Connect analyses a plan only when its schema is asked for.
        _ = result.schema
    except AnalysisException as error:
        return None, [spark_problem(error, _where(job, error), streaming=streaming)]
    except Exception as error:
        return None, [Problem(f"{_where(job, error)}: {type(error).__name__}: {plain_sentence(error)}")]
    return result, []


def spark_problem(error: AnalysisException, where: str, *, streaming: bool = False) -> Problem:
    """Spark's refusal as a problem; an unknown column comes with the columns that there are."""
    sentence = plain_sentence(error)
    if streaming and any(words in sentence for words in _IS_ACTION):
        found = f"{where}: the function runs an action or a write, which a stream cannot do"
        return Problem(found, "lazy operations only", "leave count, collect, cache, toPandas and write out of the job")
    condition = error.getCondition() or ""
    if condition.startswith("UNRESOLVED_COLUMN.WITH_SUGGESTION"):
        parameters = error.getMessageParameters() or {}
        name, known = _bare(parameters.get("objectName", "")), _bare(parameters.get("proposal", ""))
        match = nearest(name, known.split(", "))
        return Problem(
            f"{where}: there is no column {name!r}",
            f"among others {known}",
            f"write {match!r}" if match else "name one that is there",
        )
    return Problem(f"{where}: {sentence}")


def plain_sentence(error: BaseException) -> str:
    """The first sentence or two of an error, without error class, SQL state, plan and Java trace."""
    text = _CONDITION.sub("", str(error).strip())
    text = _STATE.sub("", text.split("\n", 1)[0]).strip().rstrip(";").strip()
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "..."


def _bare(text: str) -> str:
    return text.replace("`", "")


def _where(job: Job, error: BaseException) -> str:
    """The innermost line of the job file that the error passed through."""
    try:
        file = inspect.unwrap(job.logic).__code__.co_filename
    except AttributeError:
        return job.job_name
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return f"{Path(file).name} line {lines[-1]}" if lines else Path(file).name


# The Python code that a job runs on rows, as text: Spark's plan shows the name of such a function and not its body.


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


# Modules beside a job file: its project's own, such as a ``sources.py`` that several jobs share.
#
# A job file is loaded by path, so that Python would not find its neighbours, or would find those of another project
# under the same name. Here a job's import statements look beside the job first, as those of a script do. Each such
# module is known to Python under a name made from its path, and is pickled by value: so it reaches the workers of a
# cluster, which do not have the file.


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


# A job's fingerprint: what must not change under a checkpoint or an incremental table.


_EXPRESSION_ID = re.compile(r"#\d+L?")
_LAMBDA_VARIABLE = re.compile(r"\blambda (\w+_\d+)(?=#\d)")
# Spark shortens what it shows of a plan, and what it leaves out could be what was changed.
_WHOLE = {"spark.sql.maxPlanStringLength": str(2**31 - 64), "spark.sql.debug.maxToStringFields": str(2**31 - 1)}
DECODER = "how this version of twinrun decodes records (docs/decoding.md)"
"""The words of `changed_parts` for what twinrun changed, and not the job."""
_WORDS = {
    "plan": "the logic (its analysed plan)",
    "code": "the Python code of a job that has UDFs",
    "schema": "the result's schema",
    "keys": "keys",
    "grain": "window, slide or gap",
    "emit": "emit or delete_when",
    "decoder": DECODER,
    "sources": "a source's declaration (schema, event time, lateness, rules)",
    "tables": "the static tables",
}


def fingerprint(spark: SparkSession, job: Job, tables: dict[str, StructType]) -> dict[str, Any]:
    """What identifies the job's meaning, part by part, each a short text. No Spark job.

    Two definitions with equal fingerprints give equal results on equal events. Comments, names of variables and
    tolerances do not count; Python code counts only where the job runs Python functions on rows, and then with the
    modules of the project that its file uses.
    """
    result = job.apply(empty_inputs(spark, job, tables))
    return {
        "plan": _short(_EXPRESSION_ID.sub("#", _numbered_anew(_analysed_plan(spark, result)))),
        "code": _short(row_code(job)),
        "schema": result.schema.simpleString(),
        "keys": json.dumps(job.keys),
        "grain": json.dumps([job.window_ms, job.slide_ms, job.gap, job.window_column]),
        "emit": json.dumps([job.emit, job.delete_when]),
        "decoder": DECODER_VERSION,
        "sources": json.dumps({s.name: _meaning(s) for s in job.sources}, sort_keys=True),
        "tables": json.dumps([asdict(t) for t in job.tables]),
        # Not compared themselves: they tell a change of Spark from a change of the job.
        "spark": spark.version,
        "file": _short(file_code(job)),
    }


def _numbered_anew(plan: str) -> str:
    """A plan with the variables of its lambdas numbered as they appear: Spark counts them on over a whole session."""
    seen: dict[str, str] = {}
    return _LAMBDA_VARIABLE.sub(lambda found: f"lambda {seen.setdefault(found[1], f'v{len(seen)}')}", plan)


def _meaning(source: Source) -> list[Any]:
    """What of a source's declaration changes results; what came later stands there only where it is used."""
    return [declaration_fingerprint(source), source.lateness, *([source.distinct] if source.distinct else [])]


def changed_parts(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Which parts differ, in words for people; empty when the two mean the same."""
    made_by = other_spark(old, new)
    if made_by:
        return [
            f"how Spark reads the logic (the fingerprint was made by Spark {made_by}, this is {new['spark']}: the "
            "logic of your file did not change)"
        ]
    return [words for part, words in _WORDS.items() if old.get(part) != new.get(part)]


def other_spark(old: dict[str, Any], new: dict[str, Any]) -> str:
    """The Spark version that made ``old``, where nothing but Spark's plan of the same code differs; else empty."""
    differing = [part for part in _WORDS if old.get(part) != new.get(part)]
    same_file = bool(old.get("file")) and old.get("file") == new.get("file")
    other = bool(old.get("spark")) and old.get("spark") != new.get("spark")
    return str(old["spark"]) if differing == ["plan"] and same_file and other else ""


def accepted(old: dict[str, Any], new: dict[str, Any], plans_of: str | None) -> bool:
    """Whether the two differ by a Spark version alone that the user has accepted."""
    return bool(plans_of) and other_spark(old, new) == plans_of


def empty_inputs(spark: SparkSession, job: Job, tables: dict[str, StructType]) -> dict[str, DataFrame]:
    """Empty batch frames with the schemas that the job's function sees."""
    frames = {source.name: spark.createDataFrame([], event_schema(source)) for source in job.sources}
    return frames | {name: spark.createDataFrame([], schema) for name, schema in tables.items()}


def _analysed_plan(spark: SparkSession, frame: DataFrame) -> str:
    with with_settings(spark, _WHOLE):
        shown = explained(frame)
    after = shown.split("== Analyzed Logical Plan ==", 1)[1]
    return after.split("== Optimized Logical Plan ==", 1)[0]


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16] if text else ""
