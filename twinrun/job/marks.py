"""Which watermark reaches which stateful operator, as Spark has it: read from the optimised plan of the stream.

Spark marks a column when ``withWatermark`` is put on it, and a stateful operator drops late rows only if a column that
reaches it has the mark. Four things decide that, and the function's text shows none of them: a union takes the marks of
its first frame alone; an expression has no mark; a column that nothing uses is removed before it gets there; and the
watermark itself is one for the whole query, the least of all sources. So the marks are read where Spark reads them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from twinrun.durations import spark_interval
from twinrun.events.distinct import distinct_in_stream
from twinrun.events.source import Source
from twinrun.job.jvmplan import Expr, items, parts, read_expr

_DELAY = "spark.watermarkDelayMs"
_SOURCE = "twinrunsource"
_CLOCK = "timestamp"


@dataclass(frozen=True)
class Op:
    """One operator of the optimised plan.

    Attributes
    ----------
    output : tuple of int
        Ids of what comes out of it.
    marked : frozenset of int
        Those of them that hold a watermark.
    groupings : tuple of int
        Ids of what an Aggregate groups by.
    made : dict of int to Expr
        What it makes itself, by id.
    source : str
        Name of the source, for the leaf that reads it.
    clock : int
        Id of the event time, for such a leaf.
    detail : str
        The time mode of a transformWithState; of a Join what kind it is.
    alone : frozenset of str
        ``left`` and ``right``: sides of a Join on which a part of its condition looks alone.
    """

    kind: str
    streaming: bool
    inputs: tuple[Op, ...] = ()
    output: tuple[int, ...] = ()
    marked: frozenset[int] = frozenset()
    groupings: tuple[int, ...] = ()
    made: dict[int, Expr] = field(default_factory=dict)
    source: str = ""
    clock: int = -1
    detail: str = ""
    alone: frozenset[str] = frozenset()

    def walk(self) -> Iterator[Op]:
        """This operator and all below it."""
        yield self
        for child in self.inputs:
            yield from child.walk()


def optimised_plan(spark: SparkSession, frame: DataFrame) -> Op:
    """Read what Spark makes of a streaming frame when it runs it. No Spark job; a classic session only.

    Parameters
    ----------
    frame : DataFrame
        Made of `probe_stream` and `probe_table` frames: of constants or of tables that are known to be empty the
        optimiser would leave nothing.
    """
    session: Any = spark._jsparkSession
    return _read(session.sessionState().optimizer().execute(frame._jdf.queryExecution().analyzed()))


def probe_stream(spark: SparkSession, source: Source, schema: StructType) -> DataFrame:
    """An unstarted stream with the columns of the events, which the optimiser can tell nothing about."""
    clock = spark.readStream.format("rate").option(_SOURCE, source.name).load()
    made = F.from_json(F.col("value").cast("string"), schema)
    columns = [
        (F.col(_CLOCK) if field.name == source.event_time else made[field.name]).alias(field.name) for field in schema
    ]
    frame = clock.select(*columns)
    if source.lateness_ms is None:
        return frame
    return distinct_in_stream(frame.withWatermark(source.event_time, spark_interval(source.lateness_ms)), source)


def probe_table(spark: SparkSession, schema: StructType) -> DataFrame:
    """A static table without rows, which the optimiser does not know to be empty."""
    return spark.createDataFrame(spark.sparkContext.emptyRDD(), schema)


def clock_sources(node: Op, column: int) -> dict[str, bool]:
    """The sources that a column of an operator comes from, and whether it is their event time and nothing else."""
    found: dict[str, bool] = {}
    for name, same in _origins(node, column):
        found[name] = found.get(name, True) and same
    return found


def made_of(node: Op, column: int) -> Expr | None:
    """The expression that makes a column of an operator, through whatever hands it on; None for a column of a leaf."""
    while True:
        if column in node.made:
            made = node.made[column]
            if made.kind != "AttributeReference":
                return made
            column = made.id
        below = [child for child in node.inputs if column in child.output]
        if node.kind == "Union" and not below:
            below = [node.inputs[0]]
            column = below[0].output[node.output.index(column)]
        if not below:
            return None
        node = below[0]


def _origins(node: Op, column: int) -> Iterator[tuple[str, bool]]:
    if not node.inputs:
        if node.source:
            yield node.source, column == node.clock
    elif column in node.made:
        moment = time_of(node.made[column])
        yield from _derived(node) if moment is None else _below(node, moment)
    elif node.kind == "Union":
        place = node.output.index(column)
        for child in node.inputs:
            yield from _origins(child, child.output[place])
    else:
        yield from _below(node, column)


def _below(node: Op, column: int) -> Iterator[tuple[str, bool]]:
    holders = [child for child in node.inputs if column in child.output]
    for child in holders:
        yield from _origins(child, column)
    if not holders:
        yield from _derived(node)


def _derived(node: Op) -> Iterator[tuple[str, bool]]:
    return ((leaf.source, False) for leaf in node.walk() if leaf.source)


def time_of(expr: Expr) -> int | None:
    """Id of the one column that an expression hands on, or makes a window of; None for any other expression."""
    while expr.kind in ("Alias", "KnownNotNull"):
        expr = expr.operands[0]
    if expr.kind == "AttributeReference":
        return expr.id
    if expr.kind != "CreateNamedStruct" or [each.value for each in expr.operands[::2]] != ["start", "end"]:
        return None
    start = expr.operands[1]
    converted = [part for part in parts(start) if part.kind == "PreciseTimestampConversion"]
    times = {operand.id for part in converted for operand in part.operands if operand.kind == "AttributeReference"}
    return times.pop() if len(times) == 1 else None


def _read(java: Any) -> Op:
    kind = java.getClass().getSimpleName()
    inputs = tuple(_read(child) for child in items(java.children()))
    output = items(java.output())
    ids = tuple(int(column.exprId().id()) for column in output)
    marked = frozenset(i for i, column in zip(ids, output, strict=True) if column.metadata().contains(_DELAY))
    made: dict[int, Expr] = {}
    groupings: tuple[int, ...] = ()
    source, clock, detail, alone = "", -1, "", frozenset[str]()
    if kind == "Project":
        made = _made(java.projectList())
    elif kind == "Aggregate":
        groupings = tuple(read_expr(each).id for each in items(java.groupingExpressions()))
        made = _made(java.aggregateExpressions())
    elif kind == "Expand":
        first = (read_expr(each) for each in items(java.projections().head()))
        made = {i: expr for i, expr in zip(ids, first, strict=True) if expr.id != i}
    elif kind == "Join":
        detail, alone = str(java.joinType().toString()), _alone(java, inputs)
    elif kind.startswith("TransformWithState"):
        detail = str(java.timeMode().toString())
    elif not inputs and bool(java.isStreaming()):
        source = str(java.extraOptions().get(_SOURCE) or "")
        clock = next((i for i, column in zip(ids, output, strict=True) if column.name() == _CLOCK), -1)
    return Op(kind, bool(java.isStreaming()), inputs, ids, marked, groupings, made, source, clock, detail, alone)


def _made(expressions: Any) -> dict[int, Expr]:
    read = [read_expr(each) for each in items(expressions) if each.getClass().getSimpleName() == "Alias"]
    return {expr.id: expr.operands[0] for expr in read}


def _alone(java: Any, inputs: tuple[Op, ...]) -> frozenset[str]:
    found = set()
    for part in _conjuncts(read_expr(java.condition().get())) if java.condition().isDefined() else ():
        used = {each.id for each in parts(part) if each.kind == "AttributeReference"}
        for name, side in zip(("left", "right"), inputs, strict=True):
            if used and used <= set(side.output):
                found.add(name)
    return frozenset(found)


def _conjuncts(expr: Expr) -> Iterator[Expr]:
    if expr.kind == "And":
        for operand in expr.operands:
            yield from _conjuncts(operand)
    else:
        yield expr
