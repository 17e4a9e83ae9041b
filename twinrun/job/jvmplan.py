"""Read Spark's analysed plan over the JVM gateway: a local helper, not available on Spark Connect.

The plan is copied into small Python values, so that the rules on top of it need no gateway. Only the parts that the
rules use are copied: the whole plan of a job with many sliding windows is tens of megabytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from pyspark.sql import DataFrame, SparkSession


@dataclass(frozen=True)
class Expr:
    """One expression: the name of its class, what the rules read of it, and its operands."""

    kind: str
    name: str = ""
    id: int = -1
    value: str = ""
    ordinal: int = -1
    operands: tuple[Expr, ...] = ()


@dataclass(frozen=True)
class Node:
    """One operator of a plan.

    Attributes
    ----------
    streaming : bool
        Events flow through it.
    groupings : tuple of Expr
        What an Aggregate groups by.
    columns : tuple of int
        Ids of what comes out of it; only for an EventTimeWatermark.
    time_mode : str
        Of a transformWithState: ``NoTime``, ``EventTime`` or ``ProcessingTime``.
    """

    kind: str
    streaming: bool
    inputs: tuple[Node, ...]
    groupings: tuple[Expr, ...] = ()
    columns: tuple[int, ...] = ()
    time_mode: str = ""

    def walk(self) -> Iterator[Node]:
        """Itself and everything below it."""
        yield self
        for child in self.inputs:
            yield from child.walk()


@dataclass(frozen=True)
class Plan:
    """A plan: its operators, what each column id is made from, and the result's columns by id.

    ``never_null`` holds ids of columns that a filter or comparison of the plan keeps from being null; ``equal`` pairs
    of ids that a join makes equal.
    """

    root: Node
    made_from: dict[int, Expr]
    output: tuple[tuple[str, int], ...]
    never_null: frozenset[int] = field(default_factory=frozenset)
    equal: frozenset[frozenset[int]] = field(default_factory=frozenset)


def has_jvm(spark: SparkSession) -> bool:
    """Whether plans can be read: a classic session, not Spark Connect."""
    return not type(spark).__module__.startswith("pyspark.sql.connect")


def explained(frame: DataFrame) -> str:
    """What ``frame.explain(extended=True)`` prints, without printing it. No Spark job.

    Never caught from stdout, which belongs to the whole process: what another thread prints would become a part of it.
    """
    spark = frame.sparkSession
    if not has_jvm(spark):
        return str(frame._explain_string(extended=True))  # type: ignore[operator]  # Connect's frame has it
    return str(spark._jvm.PythonSQLUtils.explainString(frame._jdf.queryExecution(), "extended"))  # type: ignore[union-attr]


def read_plan(frame: DataFrame) -> Plan:
    """Read the analysed plan of a classic frame, batch or streaming. No Spark job."""
    analyzed = frame._jdf.queryExecution().analyzed()
    made_from: dict[int, Expr] = {}
    never_null: set[int] = set()
    equal: set[frozenset[int]] = set()
    root = _read_node(analyzed, made_from, never_null, equal)
    _add_not_null(analyzed, never_null)
    output = tuple((attribute.name(), int(attribute.exprId().id())) for attribute in items(analyzed.output()))
    return Plan(root, made_from, output, frozenset(never_null), frozenset(equal))


def unsupported(spark: SparkSession, frame: DataFrame, mode: str) -> None:
    """Let Spark refuse what it would refuse at the start of a query, without starting one.

    Parameters
    ----------
    spark : SparkSession
        A classic session.
    frame : DataFrame
        A streaming frame.
    mode : str
        ``append`` or ``update``.

    Raises
    ------
    AnalysisException
        An operation of the plan does not exist in streaming, or not in this output mode.
    """
    jvm: Any = spark._jvm
    modes = jvm.org.apache.spark.sql.streaming.OutputMode
    chosen = modes.Append() if mode == "append" else modes.Update()
    checker = jvm.org.apache.spark.sql.catalyst.analysis.UnsupportedOperationChecker
    checker.checkForStreaming(frame._jdf.queryExecution().analyzed(), chosen)


def items(sequence: Any) -> list[Any]:
    """A Scala sequence as a list."""
    return [sequence.apply(index) for index in range(sequence.size())]


def _read_node(java: Any, made_from: dict[int, Expr], never_null: set[int], equal: set[frozenset[int]]) -> Node:
    kind = java.getClass().getSimpleName()
    groupings: tuple[Expr, ...] = ()
    if kind == "Project":
        _define(java.projectList(), made_from)
    elif kind == "Aggregate":
        groupings = tuple(read_expr(item) for item in items(java.groupingExpressions()))
        _define(java.aggregateExpressions(), made_from)
    elif kind == "Expand":
        _define_expanded(java, made_from)
        # An Expand forgets what is never null, though sliding windows only repeat rows.
        _add_not_null(java.child(), never_null)
    elif kind == "Join" and java.condition().isDefined():
        equal |= _equal(read_expr(java.condition().get()))
    columns = tuple(int(c.exprId().id()) for c in items(java.output())) if kind == "EventTimeWatermark" else ()
    inputs = tuple(_read_node(child, made_from, never_null, equal) for child in items(java.children()))
    return Node(kind, bool(java.isStreaming()), inputs, groupings, columns, time_mode_of(java))


def time_mode_of(java: Any) -> str:
    """``NoTime``, ``EventTime`` or ``ProcessingTime`` of a transformWithState; empty for any other operator."""
    keeps = java.getClass().getSimpleName().startswith("TransformWithState")
    return str(java.timeMode().toString()) if keeps else ""


def _equal(condition: Expr) -> set[frozenset[int]]:
    """Pairs of columns that must be equal for the condition to hold."""
    if condition.kind == "And":
        return {pair for operand in condition.operands for pair in _equal(operand)}
    if condition.kind in ("EqualTo", "EqualNullSafe") and all(
        o.kind == "AttributeReference" for o in condition.operands
    ):
        return {frozenset(operand.id for operand in condition.operands)}
    return set()


def _define(expressions: Any, made_from: dict[int, Expr]) -> None:
    for item in items(expressions):
        if item.getClass().getSimpleName() == "Alias":
            alias = read_expr(item)
            made_from[alias.id] = alias.operands[0]


def _define_expanded(java: Any, made_from: dict[int, Expr]) -> None:
    """The first of the repeated rows stands for all: they differ only in which window they name."""
    for attribute, first in zip(items(java.output()), items(java.projections().head()), strict=True):
        made = read_expr(first)
        if made.kind != "AttributeReference":
            made_from[int(attribute.exprId().id())] = made


def _add_not_null(java: Any, never_null: set[int]) -> None:
    found = java.constraints().iterator()
    while found.hasNext():
        constraint = found.next()
        if constraint.getClass().getSimpleName() == "IsNotNull":
            column = constraint.child()
            if column.getClass().getSimpleName() == "AttributeReference":
                never_null.add(int(column.exprId().id()))


def read_expr(java: Any) -> Expr:
    """Copy one expression. One call to the JVM: Spark writes it as a list in which operands follow their operator."""
    return _tree(iter(json.loads(java.toJSON())))


def parts(expr: Expr) -> Iterator[Expr]:
    """An expression and all that it is made of."""
    yield expr
    for operand in expr.operands:
        yield from parts(operand)


def _tree(nodes: Any) -> Expr:
    node = next(nodes)
    operands = tuple(_tree(nodes) for _ in range(node["num-children"]))
    expr_id = node.get("exprId")
    ordinal = node.get("ordinal")
    return Expr(
        kind=node["class"].rsplit(".", 1)[-1],
        name=str(node.get("name") or ""),
        id=int(expr_id["id"]) if isinstance(expr_id, dict) else -1,
        value=str(node.get("value") if node.get("value") is not None else ""),
        ordinal=ordinal if isinstance(ordinal, int) else -1,
        operands=operands,
    )


# Which columns of a result are fields of the events, as they came: read from the analysed plan.


def unchanged_fields(result: DataFrame, events: DataFrame, names: Iterable[str]) -> frozenset[str]:
    """Those of ``names`` that the function passes on from the event's field of the same name.

    So does a field that a join makes equal to the column: an event of the other side reaches no row but those with its
    own value.

    A column that is only *named* like a field, such as ``lower(page) AS page``, is none: it holds other values.

    Parameters
    ----------
    result : DataFrame
        What the job's function made of ``events``.
    events : DataFrame
        The very frame, or a frame from which it was selected.

    Returns
    -------
    frozenset of str
        Empty on Spark Connect, where no plan can be read. No Spark job.
    """
    if not has_jvm(result.sparkSession):
        return frozenset()
    fields = dict(read_plan(events).output)
    plan = read_plan(result)
    columns = dict(plan.output)
    found = set()
    for name in names:
        if name not in columns or name not in fields:
            continue
        made = Expr("AttributeReference", id=columns[name])
        while made.kind == "AttributeReference" and made.id in plan.made_from:
            made = plan.made_from[made.id]
        same = made.id == fields[name] or frozenset({made.id, fields[name]}) in plan.equal
        if made.kind == "AttributeReference" and same:
            found.add(name)
    return frozenset(found)
