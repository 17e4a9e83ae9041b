"""Rules TR1..: what one mode refuses. Spark is the judge; the plan only says where, and finds what Spark names later.

Spark stops at the first thing that it refuses, so the operators are looked at one by one. What Spark accepts as a
whole is never called refused, except for the few things that it refuses only when the query has started.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame, SparkSession

from twinrun.job.code import plain_sentence
from twinrun.job.grain import find_windows
from twinrun.job.jvmplan import Expr as PlanExpr
from twinrun.job.jvmplan import Plan
from twinrun.lint.calls import Calls
from twinrun.lint.flow import reached
from twinrun.lint.tree import Expr, Node, Tree, line_of

_BY_KIND = {
    "Window": "TR102",
    "Sort": "TR103",
    "Offset": "TR105",
    "Sample": "TR106",
    "Intersect": "TR108",
    "Except": "TR109",
    "Union": "TR110",
}
_BY_SENTENCE = (
    (r"[Dd]istinct aggregation", "TR101"),
    (r"Window function is not supported|NON_TIME_WINDOW", "TR102"),
    (r"Limits are not supported", "TR104"),
    (r"[Pp]ivot", "TR107"),
    (r"LeftAnti joins? with a streaming", "TR112"),
    (r"in Update output mode", "TR115"),
    (r"Stream-stream \w+ join .* without", "TR114"),
    (r"correctness", "TR116"),
    (r"[Ss]ession window", "TR117"),
    (r"monotonically_increasing_id", "TR120"),
    (r"subquery", "TR121"),
    (r"without watermark|watermark", "TR123"),
)
GROUPED_AGGREGATES = (202, 217, 252, 254)
"""Eval types of grouped aggregates in pandas and Arrow, see `pyspark.util.PythonEvalType`."""


@dataclass(frozen=True)
class Found:
    """A finding before its rule is looked up. ``at_start``: Spark refuses it only when the query has started."""

    rule: str
    line: int
    detail: str = ""
    at_start: bool = False


def refused_in_streaming(spark: SparkSession, tree: Tree, calls: Calls, mode: str) -> list[Found]:
    """What a stream in this output mode does not run.

    Parameters
    ----------
    mode : str
        ``append`` or ``update``.
    """
    found = [each for node in tree.root.own() if node.streaming for each in _in_node(node, calls, mode)]
    # Spark drops a column that nobody uses before it would refuse it.
    for each in reached(tree, lambda expr: expr.says.get("evalType") in GROUPED_AGGREGATES):
        found.append(Found("TR119", line_of(each.expr, calls), each.expr.name, at_start=True))
    if _refusal(spark, tree.root, mode) is None:
        return [each for each in found if each.at_start]
    known = {each.rule for each in found}
    for node, sentence in _refusals(spark, tree.root, mode):
        rule = refusal_rule(sentence, node)
        if rule not in known:
            found.append(Found(rule, node.line, sentence))
    return found


def empty_sessions(tree: Tree, plan: Plan) -> Iterator[Found]:
    """Sessions with a constant gap that holds no time: neither mode has a row of them, and neither says so."""
    for node in tree.root.own():
        if node.kind == "Aggregate":
            for grouping in node.expressions[: node.java.groupingExpressions().size()]:
                windows = find_windows(plan, PlanExpr("AttributeReference", id=grouping.id))
                if any(each.session and each.length_us is not None and each.length_us <= 0 for each in windows):
                    yield Found("TR122", node.line)


def refused_in_batch(spark: SparkSession, batch: DataFrame, tree: Tree) -> list[Found]:
    """What batch does not run; operators with a state of pandas are refused only when their run is planned."""
    found = [Found("TR142", node.line) for node in tree.root.own() if node.kind == "FlatMapGroupsInPandasWithState"]
    jvm: Any = spark._jvm
    checker = jvm.org.apache.spark.sql.catalyst.analysis.UnsupportedOperationChecker
    try:
        checker.checkForBatch(batch._jdf.queryExecution().analyzed())
    except AnalysisException as error:
        found += [Found("TR141", node.line) for node in tree.root.own() if node.kind == "DeduplicateWithinWatermark"]
        return found or [Found("TR199", tree.root.line, plain_sentence(error))]
    return found


def refusal_rule(sentence: str, node: Node | None = None) -> str:
    """The rule that a sentence of Spark is about."""
    if node is not None and node.kind in _BY_KIND:
        return _BY_KIND[node.kind]
    if node is not None and node.kind == "Join" and [child.streaming for child in node.inputs] != [True, True]:
        return "TR111"
    if node is not None and _has(node, "PivotFirst"):
        return "TR107"
    return next((rule for pattern, rule in _BY_SENTENCE if re.search(pattern, sentence)), "TR199")


def _refusals(spark: SparkSession, node: Node, mode: str) -> list[tuple[Node, str]]:
    """The lowest operators that Spark refuses, one on each branch; above them nothing can be told."""
    below = [each for child in node.inputs if child.streaming for each in _refusals(spark, child, mode)]
    if below or not node.streaming:
        return below
    sentence = _refusal(spark, node, mode)
    return [] if sentence is None else [(node, sentence)]


def _refusal(spark: SparkSession, node: Node, mode: str) -> str | None:
    jvm: Any = spark._jvm
    modes = jvm.org.apache.spark.sql.streaming.OutputMode
    chosen = modes.Append() if mode == "append" else modes.Update()
    try:
        jvm.org.apache.spark.sql.catalyst.analysis.UnsupportedOperationChecker.checkForStreaming(node.java, chosen)
    except AnalysisException as error:
        return plain_sentence(error)
    return None


def _in_node(node: Node, calls: Calls, mode: str) -> Iterator[Found]:
    for expr in node.expressions:
        for part in expr.parts():
            if part.kind == "MonotonicallyIncreasingID":
                yield Found("TR120", line_of(part, calls))
    kind = node.kind
    if kind == "Aggregate":
        yield from _in_aggregate(node, calls, mode)
    elif kind == "Window":
        over = [part.operands[0] for expr in node.expressions for part in _of(expr, "WindowExpression")]
        lines = [line_of(function, calls) for function in over]
        yield from (Found("TR102", line) for line in sorted(set(lines or [node.line])))
    elif kind == "GlobalLimit" and mode == "update":
        yield Found("TR104", node.line)
    elif kind == "Except":
        yield from _in_except(node, mode)
    elif kind == "Join":
        yield from _in_join(node, mode)
    elif kind == "Union":
        if not all(child.streaming for child in node.inputs):
            yield Found("TR110", node.line)
    elif kind == "EventTimeWatermark":
        if any(below.kind == kind for child in node.inputs for below in child.walk()):
            yield Found("TR124", node.line, at_start=True)
    elif kind in _BY_KIND:
        yield Found(_BY_KIND[kind], node.line)


def _in_aggregate(node: Node, calls: Calls, mode: str) -> Iterator[Found]:
    if _has(node, "PivotFirst"):
        yield Found("TR107", node.line)
        return
    for expr in node.expressions:
        for part in _of(expr, "AggregateExpression"):
            if part.says.get("isDistinct"):
                yield Found("TR101", line_of(part.operands[0], calls))
    groupings = node.expressions[: node.java.groupingExpressions().size()]
    if any(is_session(each) for each in groupings):
        if mode == "update":
            yield Found("TR117", node.line)
        elif len(groupings) == 1:
            yield Found("TR118", node.line, at_start=True)
    below = [each for child in node.inputs for each in child.own() if each.kind == "Aggregate" and each.streaming]
    if mode == "update" and below:
        yield Found("TR116", node.line)


def _in_except(node: Node, mode: str) -> Iterator[Found]:
    if node.inputs[1].streaming:
        yield Found("TR109", node.line)
    elif mode == "append":
        yield Found("TR109", node.line, at_start=True)


def _in_join(node: Node, mode: str) -> Iterator[Found]:
    kind = str(node.java.joinType().toString())
    left, right = (child.streaming for child in node.inputs)
    if left != right:
        keeps_static = ("RightOuter", "FullOuter") if left else ("LeftOuter", "LeftSemi", "LeftAnti", "FullOuter")
        if kind in keeps_static:
            yield Found("TR111", node.line)
        return
    if kind == "LeftAnti":
        yield Found("TR112", node.line)
    elif kind.endswith("Outer") and mode == "update":
        yield Found("TR115", node.line)
    if not any(_of(part, "EqualTo", "EqualNullSafe") for expr in node.expressions for part in _conjuncts(expr)):
        yield Found("TR113", node.line, at_start=True)


def is_session(grouping: Expr) -> bool:
    """Whether something is grouped by a session window."""
    java = grouping.java()
    return grouping.id >= 0 and bool(java.metadata().contains("spark.sessionWindow"))


def _conjuncts(expr: Expr) -> Iterator[Expr]:
    if expr.kind == "And":
        for operand in expr.operands:
            yield from _conjuncts(operand)
    elif expr.kind in ("EqualTo", "EqualNullSafe"):
        yield expr


def _of(expr: Expr, *kinds: str) -> list[Expr]:
    return [part for part in expr.parts() if part.kind in kinds]


def _has(node: Node, kind: str) -> bool:
    return any(_of(expr, kind) for expr in node.expressions)
