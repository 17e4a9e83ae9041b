"""Rules TR2.. on operators: rows that differ between modes, and what the framework takes care of."""

from __future__ import annotations

from collections.abc import Iterator

from twinrun.job.dataflow import Dataflow
from twinrun.job.job import Job
from twinrun.job.jvmplan import time_mode_of
from twinrun.lint.flow import ancestors, column_expr, deciding, everything_under, ids_below
from twinrun.lint.refused import Found
from twinrun.lint.tree import Expr, Node, Tree

_GROUPS = ("FlatMapGroupsInPandas", "FlatMapGroupsInArrow", "FlatMapCoGroupsInPandas", "FlatMapCoGroupsInArrow")
_CHUNKS = ("MapInPandas", "MapInArrow", "PythonMapInArrow")
_STATEFUL = ("Aggregate", "Deduplicate", "DeduplicateWithinWatermark", "Distinct", "FlatMapGroupsInPandasWithState")
_TABLES = ("LogicalRelation", "DataSourceV2Relation", "DataSourceV2ScanRelation", "HiveTableRelation", "View")
_TRANSPARENT = ("Project", "Filter", "SubqueryAlias", "Join", "Aggregate", "Expand")
_ABOVE, _BELOW = ("GreaterThan", "GreaterThanOrEqual"), ("LessThan", "LessThanOrEqual")
_GROWS = ("Count", "CountIf", "Max")
_DAY_MS = 86_400_000


def rows_that_differ(job: Job, tree: Tree, mode: str) -> Iterator[Found]:
    """Operators whose rows depend on micro-batches or on arrival, and notes on open windows.

    Parameters
    ----------
    mode : str
        ``append`` or ``update``.
    """
    for node in tree.root.own():
        if node.kind.startswith(_GROUPS) and not node.kind.endswith("WithState"):
            yield Found("TR220", node.line)
        elif node.kind in _CHUNKS:
            yield Found("TR221", node.line)
        elif node.kind.startswith("TransformWithState"):
            yield Found("TR224" if "EventTime" in time_mode_of(node.java) else "TR223", node.line)
        elif node.kind in _TABLES:
            yield Found("TR251", node.line)
        if node.streaming:
            yield from _in_stream(job, tree, node, mode)
    yield from _about_time(job, tree)


def is_stateful(node: Node) -> bool:
    """Whether a stream keeps state for this operator, and so drops late events at it."""
    if not node.streaming:
        return False
    if node.kind == "Join":
        return all(child.streaming for child in node.inputs)
    return node.kind in _STATEFUL or node.kind.startswith("TransformWithState")


def _in_stream(job: Job, tree: Tree, node: Node, mode: str) -> Iterator[Found]:
    if node.kind == "GlobalLimit" and mode == "append":
        yield Found("TR260", node.line)
    elif node.kind in ("Deduplicate", "Distinct"):
        yield from _in_deduplicate(tree, node)
    elif node.kind == "Join" and is_stateful(node):
        yield Found("TR263", node.line)
    elif node.kind == "Filter":
        if mode == "update" and _filters_totals(tree, node):
            yield Found("TR264", node.line)
        if job.shape != "stateless" and _holds_back(tree, node):
            yield Found("TR203", node.line)


def losses(job: Job, flow: Dataflow, tree: Tree) -> Iterator[Found]:
    """What each source can lose by the watermark, as it reaches the first operator that keeps a state."""
    stateful = [node for node in tree.root.own() if is_stateful(node)]
    if not stateful:
        return
    line = stateful[0].line
    if flow.unpadded:
        joins = [node.line for node in stateful if node.kind == "Join"]
        yield Found("TR265", joins[0], f"on the {' and the '.join(flow.unpadded)} side alone")
    timed = [source.name for source in job.sources if source.lateness is not None]
    for source in job.sources:
        rule = flow.rules[source.name]
        own = f"source {source.name}, lateness {source.lateness}"
        if rule.kind == "unknown":
            yield Found("TR207", line, f"source {source.name}")
        elif rule.kind == "none":
            if source.lateness is not None and not flow.opaque:
                yield Found("TR209", line, own)
        elif source.lateness is None:
            others = f", by the watermark of {' and '.join(timed)}" if timed else ""
            yield Found("TR201", line, f"source {source.name}{others} though it has no lateness of its own")
        else:
            yield Found("TR201", line, own)
            if source.lateness_ms == 0 and rule.kind == "time":
                yield Found("TR208", line, own)


def _about_time(job: Job, tree: Tree) -> Iterator[Found]:
    stateful = [node for node in tree.root.own() if is_stateful(node)]
    windows = [node for node in stateful if node.kind == "Aggregate"]
    if windows and job.emit == "final":
        yield Found("TR202", windows[0].line)
    if windows and job.window_ms is not None and job.window_ms % _DAY_MS == 0:
        yield Found("TR205", windows[0].line, f"window {job.window}")


def _in_deduplicate(tree: Tree, node: Node) -> Iterator[Found]:
    columns = {column: name for name, column in node.inputs[0].columns()}
    keys = {expr.id for expr in node.expressions} if node.kind == "Deduplicate" else set(columns)
    others = frozenset(columns)
    used = {column for _, column in tree.output if column in others}
    roots = [made for _, column in tree.output if column not in others for made in column_expr(tree, column)]
    roots += [expr for above in ancestors(tree.root, node) for expr in deciding(above)]
    for root in roots:
        used |= ids_below(tree, root, others)
    chosen = sorted(columns[column] for column in used - keys)
    if chosen:
        yield Found("TR261", node.line, f"{', '.join(chosen)} of the row that is kept")
    times = {int(each.java.eventTime().exprId().id()) for each in node.walk() if each.kind == "EventTimeWatermark"}
    if not keys & times:
        yield Found("TR262", node.line)


def _filters_totals(tree: Tree, node: Node) -> bool:
    """Whether a row that passes the filter now may not pass after the next micro-batch, since a total has changed."""
    if not any(each.kind == "Aggregate" and each.streaming for each in node.walk()):
        return False
    return any(
        each.kind == "AggregateExpression"
        for expr in node.expressions
        for part in _conjuncts(expr)
        if not _stays_true(tree, part)
        for each in everything_under(tree, part)
    )


def _stays_true(tree: Tree, part: Expr) -> bool:
    """Whether a condition that held once holds for ever: a count or maximum above a constant, a minimum below one."""
    if part.kind not in _ABOVE + _BELOW:
        return False
    high, low = part.operands if part.kind in _ABOVE else part.operands[::-1]
    above, below = _total(tree, high), _total(tree, low)
    return (above in _GROWS and below == "Literal") or (above == "Literal" and below == "Min")


def _total(tree: Tree, expr: Expr) -> str:
    """The function behind a column, or ``Literal``."""
    while expr.kind in ("Cast", "Alias", "AggregateExpression") or len(tree.made_from.get(expr.id, [])) == 1:
        expr = tree.made_from[expr.id][0] if expr.kind == "AttributeReference" else expr.operands[0]
    return expr.kind


def _holds_back(tree: Tree, node: Node) -> bool:
    """Whether Spark moves part of a filter below the watermark: it may not look at the event time or at aggregates."""
    mark = _watermark_below(node)
    if mark is None:
        return False
    stop = frozenset(column for _, column in mark.columns())
    time = int(mark.java.eventTime().exprId().id())
    return any(_moves(tree, part, stop, time) for expr in node.expressions for part in _conjuncts(expr))


def _moves(tree: Tree, part: Expr, stop: frozenset[int], time: int) -> bool:
    under = list(everything_under(tree, part, stop))
    if any(each.kind == "AggregateExpression" for each in under) or not part.java().deterministic():
        return False
    leaves = {each.id for each in under if each.kind == "AttributeReference" and not tree.made_from.get(each.id)}
    columns = {each.id for each in under if each.kind == "AttributeReference" and each.id in stop}
    return bool(columns) and time not in columns and leaves <= stop


def _watermark_below(node: Node) -> Node | None:
    """The watermark under an operator, where Spark moves filters through all that lies between."""
    if node.kind == "EventTimeWatermark":
        return node
    streams = [child for child in node.inputs if child.streaming]
    if node.kind not in _TRANSPARENT or len(streams) != 1:
        return None
    return _watermark_below(streams[0])


def _conjuncts(expr: Expr) -> Iterator[Expr]:
    if expr.kind == "And":
        for operand in expr.operands:
            yield from _conjuncts(operand)
    else:
        yield expr
