"""The analysed plan with all of its expressions, for the rules; each part knows the line of the job file it is from.

Wider and slower to read than `twinrun.job.jvmplan`: made once per lint. A classic session is needed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pyspark.sql import DataFrame, SparkSession

from twinrun.lint.calls import Calls

FRAMEWORK = 0
"""Stands for the line of operators that the framework puts on a source before the function sees it."""

_RENAMED = ("FlatMap", "MapIn", "PythonMapIn", "TransformWithState")


@dataclass(frozen=True, eq=False)
class Expr:
    """One expression: its class, its id where it is a column, what Spark tells of it, its operands, its line."""

    kind: str
    id: int
    says: Mapping[str, Any]
    operands: tuple[Expr, ...]
    java_root: Any
    path: tuple[int, ...]
    line: int

    @property
    def name(self) -> str:
        """Name of a column; empty for other expressions."""
        return str(self.says.get("name") or "")

    def java(self) -> Any:
        """The expression in the JVM."""
        here = self.java_root
        for place in self.path:
            here = here.children().apply(place)
        return here

    def data_type(self) -> str:
        """Its type as Spark writes it, such as ``double``."""
        return str(self.java().dataType().simpleString())

    def parts(self) -> Iterator[Expr]:
        """Itself and everything in it."""
        yield self
        for operand in self.operands:
            yield from operand.parts()


@dataclass(frozen=True, eq=False)
class Node:
    """One operator: its class, whether events flow through it, its expressions, its line."""

    kind: str
    streaming: bool
    inputs: tuple[Node, ...]
    expressions: tuple[Expr, ...]
    java: Any
    line: int

    def columns(self) -> list[tuple[str, int]]:
        """Names and ids of what comes out of it."""
        return [(str(item.name()), int(item.exprId().id())) for item in items(self.java.output())]

    def walk(self) -> Iterator[Node]:
        """Itself and everything below it."""
        yield self
        for child in self.inputs:
            yield from child.walk()

    def own(self) -> Iterator[Node]:
        """Itself and what the function made below it, without what the framework hands it."""
        if self.line != FRAMEWORK:
            yield self
            for child in self.inputs:
                yield from child.own()


@dataclass(frozen=True, eq=False)
class Tree:
    """A plan: its root, what each column is made from, and the columns of the result."""

    root: Node
    made_from: dict[int, list[Expr]]
    output: tuple[tuple[str, int], ...]


@dataclass
class _Reader:
    calls: Calls
    identity: Any
    made_from: dict[int, list[Expr]] = field(default_factory=dict)

    def node(self, java: Any, above: int) -> Node:
        line = self.calls.line_of.get(int(self.identity(java)), above)
        kind = str(java.getClass().getSimpleName())
        inputs = tuple(self.node(child, line) for child in items(java.children()))
        if line == FRAMEWORK:
            # Columns of a source are where every rule stops.
            return Node(kind, bool(java.isStreaming()), inputs, (), java, line)
        if kind == "Expand":
            # The rows of an Expand differ only in which window or grouping they name: the first stands for all.
            expressions = tuple(self.expr(item, line) for item in items(java.projections().head()))
            self._same(java, expressions)
        else:
            expressions = tuple(self.expr(item, line) for item in items(java.expressions()))
        for each in expressions:
            self._define(each)
        if kind == "Generate":
            for column in items(java.generatorOutput()):
                self._made(column, self.expr(java.generator(), line))
        elif kind == "Union":
            for child in inputs:
                self._same(java, tuple(self.expr(item, line) for item in items(child.java.output())))
        elif kind.startswith(_RENAMED):
            for column in items(java.output()):
                for each in expressions:
                    if each.kind != "AttributeReference":
                        self._made(column, each)
        return Node(kind, bool(java.isStreaming()), inputs, expressions, java, line)

    def _same(self, java: Any, expressions: tuple[Expr, ...]) -> None:
        for column, made in zip(items(java.output()), expressions, strict=False):
            if made.id != int(column.exprId().id()):
                self._made(column, made)

    def _made(self, column: Any, made: Expr) -> None:
        self.made_from.setdefault(int(column.exprId().id()), []).append(made)

    def _define(self, expr: Expr) -> None:
        if expr.kind == "Alias":
            self.made_from.setdefault(expr.id, []).append(expr.operands[0])
        for operand in expr.operands:
            self._define(operand)

    def expr(self, java: Any, line: int) -> Expr:
        return self._tree(iter(json.loads(java.toJSON())), java, (), line)

    def _tree(self, nodes: Iterator[dict[str, Any]], root: Any, path: tuple[int, ...], line: int) -> Expr:
        says = next(nodes)
        kind = says["class"].rsplit(".", 1)[-1]
        expr_id = says.get("exprId")
        column = int(expr_id["id"]) if isinstance(expr_id, dict) else -1
        operands = tuple(self._tree(nodes, root, (*path, place), line) for place in range(says["num-children"]))
        return Expr(kind, column, says, operands, root, path, line)


def given(spark: SparkSession, frame: DataFrame, calls: Calls) -> None:
    """Note that a frame is handed to the function: what is below it has no line there."""
    jvm: Any = spark._jvm
    root = frame._jdf.queryExecution().analyzed()
    calls.line_of[int(jvm.java.lang.System.identityHashCode(root))] = FRAMEWORK


def read_tree(spark: SparkSession, frame: DataFrame, calls: Calls) -> Tree:
    """Read the analysed plan of a frame. No Spark job; some thousand calls to the JVM."""
    jvm: Any = spark._jvm
    reader = _Reader(calls, jvm.java.lang.System.identityHashCode)
    root = reader.node(frame._jdf.queryExecution().analyzed(), calls.def_line)
    return Tree(root, reader.made_from, tuple(root.columns()))


def line_of(expr: Expr, calls: Calls) -> int:
    """The line of the job file that made an expression: as Spark knows it, else that of its operator."""
    context = expr.java().origin().pysparkErrorContext()
    if context.isDefined():
        file, _, line = str(context.get()._2()).split("\n", 1)[0].rpartition(":")
        if file == calls.file and line.isdigit():
            return int(line)
    return expr.line


def items(sequence: Any) -> list[Any]:
    """A Scala sequence as a list."""
    return [sequence.apply(index) for index in range(sequence.size())]
