"""Rules TR2.. on expressions: values that differ between modes or runs, where they reach the result."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from twinrun.job.job import Job
from twinrun.lint.calls import Calls
from twinrun.lint.flow import CONDITION, Reached, reached
from twinrun.lint.refused import Found
from twinrun.lint.result import Severity
from twinrun.lint.tree import Expr, Tree, line_of

Judged = tuple[Found, Severity | None]
"""A finding, and its severity where that is not the rule's own."""

_BY_KIND = {
    "TR210": "CurrentTimestamp Now CurrentDate LocalTimestamp CurrentTime CurrentBatchTimestamp",
    "TR230": "First Last AnyValue Nth",
    "TR234": "ApproximatePercentile HistogramNumeric HllSketchAgg HllUnionAgg ApproxTopK "
    "KllSketchAggBigint KllSketchAggDouble KllSketchAggFloat",
    "TR240": "Rand Randn Uuid Shuffle RandStr Uniform",
    "TR241": "SparkPartitionID InputFileName InputFileBlockStart InputFileBlockLength",
}
_RULE_OF = {kind: rule for rule, kinds in _BY_KIND.items() for kind in kinds.split()}
_SUMS = frozenset({"Sum", "Average"})
_MOMENTS = frozenset(
    {
        "StddevPop",
        "StddevSamp",
        "VariancePop",
        "VarianceSamp",
        "Skewness",
        "Kurtosis",
        "Corr",
        "CovPopulation",
        "CovSample",
        "Product",
        "RegrSlope",
        "RegrIntercept",
        "RegrR2",
        "RegrSXX",
        "RegrSXY",
        "RegrSYY",
        "RegrReplacement",
    }
)
_LISTS = frozenset({"CollectList", "CollectSet", "ListAgg"})
_CHUNKS = (204, 251)  # iterator UDFs: eval types of `pyspark.util.PythonEvalType`
_COORDINATES = {"_partition", "_offset"}
_UTC = ("UTC", "Etc/UTC", "Z", "GMT", "Etc/GMT", "+00:00")


def values_that_differ(job: Job, tree: Tree, calls: Calls, zone: str) -> Iterator[Judged]:
    """Expressions that make a result depend on the mode or the run.

    Parameters
    ----------
    zone : str
        The session's time zone.
    """
    for each in reached(tree, lambda expr: expr.kind in _RULE_OF):
        yield _found(_RULE_OF[each.expr.kind], each, calls), None
    for each in reached(tree, lambda expr: expr.kind in _LISTS and not _is_ordered(expr), order_only=True):
        yield _found("TR231", each, calls), None
    for each in reached(tree, lambda expr: _is_tie(tree, expr)):
        found = _found("TR232", each, calls)
        if _by_offset(tree, each.expr):
            yield replace(found, detail=f"{found.detail}, unless one partition holds all events of a group"), "note"
        else:
            yield found, None
    for each in reached(tree, _is_float_sum):
        found = _found("TR233", each, calls)
        if each.columns <= set(job.tolerances):
            yield replace(found, detail=f"{found.detail}, within a tolerance"), "note"
        else:
            yield found, None
    for each in reached(tree, lambda expr: expr.kind == "PythonUDF"):
        if each.expr.says.get("evalType") in _CHUNKS:
            yield _found("TR221", each, calls), None
        if each.expr.says.get("udfDeterministic") is False:
            yield _found("TR242", each, calls), None
    if zone not in _UTC:
        for each in reached(tree, _follows_zone):
            yield _found("TR206", each, calls), None


def words(columns: frozenset[str]) -> str:
    """The columns that a finding is about."""
    names = sorted(columns - {CONDITION})
    parts = [f"column {', '.join(names)}" if len(names) == 1 else f"columns {', '.join(names)}"] if names else []
    parts += ["a filter, join or grouping"] if CONDITION in columns else []
    return " and ".join(parts)


def _found(rule: str, each: Reached, calls: Calls) -> Found:
    return Found(rule, line_of(each.expr, calls), words(each.columns))


def _is_float_sum(expr: Expr) -> bool:
    if expr.kind in _MOMENTS:
        return True
    # The average of integers is exact: their sum is, as long as it is below 2^53.
    return expr.kind in _SUMS and expr.operands[0].data_type() in ("double", "float")


def _is_ordered(expr: Expr) -> bool:
    return expr.kind == "ListAgg" and bool(expr.java().orderExpressions().nonEmpty())


def _is_tie(tree: Tree, expr: Expr) -> bool:
    if expr.kind == "Mode":
        return not bool(expr.java().reverseOpt().isDefined())
    if expr.kind not in ("MaxBy", "MinBy", "MaxMinByK"):
        return False
    value, order = (_plain_columns(tree, operand) for operand in expr.operands[:2])
    names = set(order.values())
    # The coordinates make every order total; and where the order holds the value itself, ties have equal values.
    return not (names >= _COORDINATES or (value and value.keys() <= order.keys()))


def _by_offset(tree: Tree, expr: Expr) -> bool:
    """Whether ties are broken by the offset: enough where the topic is keyed by what is grouped by."""
    return expr.kind != "Mode" and "_offset" in _plain_columns(tree, expr.operands[1]).values()


def _plain_columns(tree: Tree, expr: Expr) -> dict[int, str]:
    """Columns that an expression hands on as they are, alone or in a struct: id to name."""
    if expr.kind == "AttributeReference":
        own = {expr.id: expr.name}
        for made in tree.made_from.get(expr.id, []):
            own |= _plain_columns(tree, made)
        return own
    if expr.kind == "CreateNamedStruct":
        return {key: name for each in expr.operands[1::2] for key, name in _plain_columns(tree, each).items()}
    if expr.kind in ("Alias", "KnownNotNull"):
        return _plain_columns(tree, expr.operands[0])
    return {}


def _follows_zone(expr: Expr) -> bool:
    if not expr.says.get("timeZoneId"):
        return False
    if expr.kind != "Cast":
        return True
    kinds = {expr.data_type(), expr.operands[0].data_type()}
    return "timestamp" in kinds and bool(kinds & {"string", "date", "timestamp_ntz"})
