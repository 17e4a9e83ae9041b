"""Watch a job's function while it builds its plan: which line made which part of it, and what it must not do.

pyspark's methods are replaced for the time of one call, and only for the calling thread: an action gives what it would
give on an empty frame and runs nothing, and each frame remembers the line that made it. The plan shows neither.
"""

from __future__ import annotations

import functools
import inspect
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from pyspark.sql import DataFrame, SparkSession

from twinrun.job.job import Job

_EMPTY: dict[str, Callable[[Any], Any]] = {
    "count": lambda _: 0,
    "isEmpty": lambda _: True,
    "collect": lambda _: [],
    "take": lambda _: [],
    "tail": lambda _: [],
    "first": lambda _: None,
    "toLocalIterator": lambda _: iter(()),
    "foreach": lambda _: None,
    "foreachPartition": lambda _: None,
    "show": lambda _: None,
}
"""Actions, and what they give for a frame without rows."""

_STOP = ("head", "toPandas", "toArrow", "approxQuantile", "corr", "cov", "crosstab")
_KEPT = ("cache", "persist", "unpersist", "checkpoint", "localCheckpoint")
_WRITE = ("writeTo", "mergeInto")
_NO_EXPRESSION = ("__init__", "__new__", "__iter__", "__nonzero__", "__bool__", "__repr__", "__getnewargs__")
_PROPERTIES = {"rdd": "TR131", "write": "TR132", "writeStream": "TR132"}


class Stopped(BaseException):
    """The function asked for something that has no value on an empty frame; no `except Exception` of it sees this."""


@dataclass(frozen=True)
class Seen:
    """Something that a rule is about and that the plan does not show."""

    rule: str
    line: int
    detail: str


@dataclass
class Calls:
    """What one function did.

    Attributes
    ----------
    file : str
        The job file; calls from elsewhere count where they pass through it.
    line_of : dict of int to int
        Identity of an operator in the JVM to the line whose call made it.
    """

    file: str
    def_line: int
    line_of: dict[int, int] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)

    def here(self) -> int:
        """The line of the job file that is being run, or that of the function."""
        frame = sys._getframe(1)
        while frame is not None:
            if frame.f_code.co_filename == self.file:
                return frame.f_lineno
            if frame.f_back is None:
                break
            frame = frame.f_back
        return self.def_line

    def note(self, rule: str, detail: str) -> None:
        """Remember what happens on this line, once."""
        found = Seen(rule, self.here(), detail)
        if found not in self.seen:
            self.seen.append(found)


def calls_of(job: Job) -> Calls:
    """Nothing seen yet, for the file of the job's function."""
    code = getattr(inspect.unwrap(job.logic), "__code__", None)
    return Calls(code.co_filename, code.co_firstlineno) if code else Calls("", 1)


@contextmanager
def watched(spark: SparkSession, calls: Calls) -> Iterator[None]:
    """Watch what this thread does to frames of a classic session. Not for two threads at once."""
    with _LOCK:
        undo = _install(_Watch(spark, calls))
        try:
            yield
        finally:
            for owner, name, before in reversed(undo):
                if before is None:
                    delattr(owner, name)
                else:
                    setattr(owner, name, before)


_LOCK = threading.Lock()


@dataclass
class _Watch:
    spark: Any
    calls: Calls
    thread: int = field(default_factory=threading.get_ident)
    depth: int = 0

    def applies(self) -> bool:
        """Whether this is the watched thread, outside of pyspark's own calls to itself."""
        return threading.get_ident() == self.thread and self.depth == 0

    @contextmanager
    def inside(self) -> Iterator[None]:
        self.depth += 1
        try:
            yield
        finally:
            self.depth -= 1

    def made(self, frame: DataFrame) -> None:
        with self.inside():
            system = self.spark._jvm.java.lang.System
            root = frame._jdf.queryExecution().analyzed()
            self.calls.line_of.setdefault(int(system.identityHashCode(root)), self.calls.here())


def _install(watch: _Watch) -> list[tuple[Any, str, Any]]:
    from pyspark.sql import group
    from pyspark.sql.classic.column import Column
    from pyspark.sql.classic.dataframe import DataFrame as Classic
    from pyspark.sql.functions import builtin
    from pyspark.sql.pandas.group_ops import PandasCogroupedOps

    undo: list[tuple[Any, str, Any]] = []

    def put(owner: Any, name: str, new: Any) -> None:
        undo.append((owner, name, vars(owner).get(name)))
        setattr(owner, name, new)

    special = {*_EMPTY, *_STOP, *_KEPT, *_WRITE}
    for owner in (Classic, group.GroupedData, PandasCogroupedOps):
        for name, method in inspect.getmembers(owner, inspect.isfunction):
            if name.startswith("_") or (owner is Classic and name in special):
                continue
            put(owner, name, _noting_line(watch, method))
    for name in special:
        put(Classic, name, _action(watch, name, getattr(Classic, name)))
    for name, rule in _PROPERTIES.items():
        put(Classic, name, _property(watch, name, rule, vars(Classic)[name]))
    put(Classic, "isStreaming", _mode(watch, vars(Classic)["isStreaming"]))
    put(group.GroupedData, "pivot", _pivot(watch, group.GroupedData.pivot))
    put(builtin, "_invoke_function", _with_origin(watch, builtin._invoke_function))
    for name, method in list(vars(Column).items()):
        if inspect.isfunction(method) and name not in _NO_EXPRESSION:
            put(Column, name, _with_origin_of(watch, method))
    return undo


def _noting_line(watch: _Watch, method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(*given: Any, **named: Any) -> Any:
        if not watch.applies():
            return method(*given, **named)
        if method.__name__ == "withWatermark":
            watch.calls.note("TR204", "")
        with watch.inside():
            result = method(*given, **named)
        if isinstance(result, DataFrame):
            watch.made(result)
        return result

    return call


def _action(watch: _Watch, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(frame: Any, *given: Any, **named: Any) -> Any:
        if not watch.applies():
            return method(frame, *given, **named)
        rule = {**dict.fromkeys(_KEPT, "TR131"), **dict.fromkeys(_WRITE, "TR132")}.get(name, "TR130")
        watch.calls.note(rule, f"{name}()")
        if name in _KEPT:
            return frame
        if name not in _EMPTY:
            raise Stopped(name)
        return _EMPTY[name](frame)

    return call


def _property(watch: _Watch, name: str, rule: str, before: Any) -> property:
    def get(frame: Any) -> Any:
        if not watch.applies():
            return before.__get__(frame)
        watch.calls.note(rule, name)
        raise Stopped(name)

    return property(get)


def _mode(watch: _Watch, before: Any) -> property:
    def get(frame: Any) -> Any:
        if watch.applies():
            watch.calls.note("TR222", "isStreaming")
        return before.__get__(frame)

    return property(get)


def _pivot(watch: _Watch, method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(grouped: Any, pivot_col: str, values: Any = None) -> Any:
        if watch.applies() and values is None:
            watch.calls.note("TR107", f"pivot({pivot_col!r}) without values")
            raise Stopped("pivot")
        return method(grouped, pivot_col, values)

    return call


def _with_origin_of(watch: _Watch, method: Callable[..., Any]) -> Callable[..., Any]:
    """As `_with_origin`, for an operator or method of a column; pyspark does so too, where its debugging is on."""

    @functools.wraps(method)
    def call(*given: Any, **named: Any) -> Any:
        if threading.get_ident() != watch.thread:
            return method(*given, **named)
        origin = getattr(watch.spark._jvm, "org.apache.spark.sql.catalyst.trees.PySparkCurrentOrigin")
        origin.set(method.__name__, f"{watch.calls.file}:{watch.calls.here()}")
        try:
            return method(*given, **named)
        finally:
            origin.clear()

    return call


def _with_origin(watch: _Watch, function: Callable[..., Any]) -> Callable[..., Any]:
    """Tell Spark which line made an expression; pyspark itself does so only for operators and columns."""

    @functools.wraps(function)
    def call(name: str, *given: Any) -> Any:
        if threading.get_ident() != watch.thread:
            return function(name, *given)
        origin = getattr(watch.spark._jvm, "org.apache.spark.sql.catalyst.trees.PySparkCurrentOrigin")
        origin.set(name, f"{watch.calls.file}:{watch.calls.here()}")
        try:
            return function(name, *given)
        finally:
            origin.clear()

    return call
