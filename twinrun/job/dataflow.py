"""What the stream of a job does to events: its stateful operators, which watermark reaches them, and what is late."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from twinrun.durations import spark_interval
from twinrun.events.decode import distinct_in_stream
from twinrun.events.source import Source
from twinrun.job.grain import find_windows
from twinrun.job.job import Job
from twinrun.job.jvmplan import Expr, Plan, has_jvm, items, parts, read_expr, read_plan, time_mode_of
from twinrun.job.passing import EVERY, Passage
from twinrun.job.plan import seen_schema

# Which watermark reaches which stateful operator, as Spark has it: read from the optimised plan of the stream.
#
# Spark marks a column when ``withWatermark`` is put on it, and a stateful operator drops late rows only if a column
# that reaches it has the mark. Four things decide that, and the function's text shows none of them: a union takes the
# marks of its first frame alone; an expression has no mark; a column that nothing uses is removed before it gets
# there; and the watermark itself is one for the whole query, the least of all sources. So the marks are read where
# Spark reads them.


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
        detail = time_mode_of(java)
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


# What the stream of a job does to events on their way: its stateful operators, and the rule by which events are late.
#
# Read from the plan of the function over streaming frames. Only the first stateful operator that an event meets drops
# it (tried over chains of two operators, see docs/how_it_works.md), and only if a watermark reaches it; each kind has
# a rule of its own. Where no rule tells what is dropped, none is claimed.


LateKind = Literal["window", "session", "time", "none", "unknown"]
_BY_TIME = ("Deduplicate", "DeduplicateWithinWatermark", "Join")
_OPAQUE = ("FlatMapGroups", "FlatMapCoGroups", "MapGroups", "TransformWithState")
_KEEPS = {
    "LeftOuter": frozenset({"left"}),
    "RightOuter": frozenset({"right"}),
    "FullOuter": frozenset({"left", "right"}),
}
"""Sides whose rows an outer join keeps when they find no partner."""
_PER_MICRO_BATCH = ("MapInPandas", "MapInArrow", "PythonMapInArrow", "GlobalLimit", "LocalLimit")


@dataclass(frozen=True)
class LateRule:
    """When the first stateful operator drops an event of a source.

    ``window``: the end of its window is at or before the watermark of the micro-batch before, for each window of
    ``window_us`` every ``slide_us`` that holds it. ``session``: event time + ``gap_us`` is. ``time``: the event time
    is (de-duplication, stream-stream joins, groups by the event time itself). ``none``: nothing is dropped.
    ``unknown``: something may be, but not by the event's own time alone, so that no event can be named. All times in
    microseconds, as Spark compares: only the watermark itself has whole milliseconds.
    """

    kind: LateKind
    window_us: int | None = None
    slide_us: int | None = None
    gap_us: int | None = None

    @classmethod
    def of_windows(cls, job: Job) -> LateRule:
        """The rule of a job whose first operator is the window that it declares."""
        return cls("window", (job.window_ms or 0) * 1000, (job.slide_ms or 0) * 1000)


@dataclass(frozen=True)
class Dataflow:
    """The stateful operators of a job's stream.

    Attributes
    ----------
    operators : tuple of str
        Kinds of the stateful operators, those next to the result first.
    rules : dict
        The rule of each source by name.
    closed_form : bool
        Whether the function over filtered events gives the stream's rows exactly; otherwise they are replayed.
    unpadded : tuple of str
        Sides (``left``, ``right``) of outer joins of streams that lose rows: a part of the condition looks at the side
        alone whose rows the join keeps. Spark 4.2 then pads those that fail it at once, and never emits those that pass
        it and find no partner (tried).
    passages : dict
        Which events of each source count and which move the watermark; read by `twinrun.job.passing.passages`, since
        that needs the static tables themselves.
    """

    operators: tuple[str, ...] = ()
    rules: dict[str, LateRule] = field(default_factory=dict)
    closed_form: bool = True
    unpadded: tuple[str, ...] = ()
    passages: dict[str, Passage] = field(default_factory=dict)

    def passage(self, source: str) -> Passage:
        """The way of a source's events; one that is not known lets every event through."""
        return self.passages.get(source, EVERY)

    @property
    def opaque(self) -> bool:
        """Whether an operator may look at each micro-batch by itself, so that one row tells nothing about the next."""
        return any(kind.startswith(_OPAQUE) or kind in _PER_MICRO_BATCH for kind in self.operators)

    @property
    def drops_late(self) -> bool:
        """Whether any source can lose events to lateness."""
        return any(rule.kind not in ("none", "unknown") for rule in self.rules.values())

    @property
    def unnamed(self) -> tuple[str, ...]:
        """Sources whose events may be dropped by the watermark though no rule tells which."""
        return tuple(name for name, rule in self.rules.items() if rule.kind == "unknown")


def dataflow(spark: SparkSession, job: Job, tables: dict[str, StructType]) -> Dataflow:
    """Read the dataflow of a sound job; no Spark job.

    On Spark Connect, which shows no plan, the declaration is trusted: one window operator where the job has a window.

    Parameters
    ----------
    tables : dict of str to StructType
        Schemas of its static tables.
    """
    declared = _declared(job)
    if not has_jvm(spark):
        return Dataflow((), {source.name: declared for source in job.sources}, closed_form=_closed_shape(job))
    streams = {source.name: probe_stream(spark, source, seen_schema(source)) for source in job.sources}
    statics = {table.name: probe_table(spark, tables[table.name]) for table in job.tables}
    made = job.apply({**streams, **statics})
    plan, root = read_plan(made), optimised_plan(spark, made)
    operators = tuple(_stateful(root))
    found = _rules(root, plan)
    rules = {source.name: _one_of(found.get(source.name, set())) for source in job.sources}
    # Another window than the declared one, or none where one is declared: nothing is taken for granted.
    as_declared = operators == ("Aggregate",) and all(rule == declared for rule in rules.values())
    closed = _closed_shape(job) and (not operators or as_declared)
    return Dataflow(operators, rules, closed, _unpadded(root))


def _unpadded(root: Op) -> tuple[str, ...]:
    sides: set[str] = set()
    for node in root.walk():
        if node.kind == "Join" and _is_stateful(node):
            sides |= node.alone & _KEEPS.get(node.detail, frozenset())
    return tuple(sorted(sides))


def _declared(job: Job) -> LateRule:
    if job.sources[0].lateness_ms is None or not job.windowed:
        return LateRule("none")
    return LateRule.of_windows(job)


def _closed_shape(job: Job) -> bool:
    return len(job.sources) == 1 and job.shape != "session"


def _stateful(node: Op) -> Iterator[str]:
    if _is_stateful(node) or (node.streaming and node.kind in _PER_MICRO_BATCH):
        yield node.kind
    for child in node.inputs:
        yield from _stateful(child)


def _is_stateful(node: Op) -> bool:
    if not node.streaming:
        return False
    if node.kind == "Join":
        return all(child.streaming for child in node.inputs)
    return node.kind in ("Aggregate", *_BY_TIME) or node.kind.startswith(_OPAQUE)


def _rules(node: Op, plan: Plan) -> dict[str, set[LateRule]]:
    """By source, the rules of the first operators that its rows meet, one for each way that they take."""
    found: dict[str, set[LateRule]] = {}
    below = [_rules(child, plan) for child in node.inputs]
    for child, rules in zip(node.inputs, below, strict=True):
        own = _own_rules(node, child, plan) if _is_stateful(node) else {}
        for name, each in rules.items():
            found.setdefault(name, set()).update(_first(rule, own.get(name)) for rule in each)
    if node.source:
        found[node.source] = {_UNTOUCHED}
    return found


_UNTOUCHED = LateRule("none")
_KEPT = LateRule("none", window_us=0)
"""What an operator without a watermark keeps, and may hand on when it is late for the next one."""


def _first(below: LateRule, here: LateRule | None) -> LateRule:
    """The rule of rows that came through ``below`` and meet an operator: only the first one drops what it gets.

    An operator that drops nothing, and holds rows back, can make them late for the next one: no rule tells which.
    """
    if here is None or below.kind not in ("none",):
        return below
    if below == _KEPT:
        return below if here.kind == "none" else LateRule("unknown")
    return _KEPT if here.kind == "none" else here


def _one_of(rules: set[LateRule]) -> LateRule:
    kinds = {_UNTOUCHED if rule.kind == "none" else rule for rule in rules}
    return kinds.pop() if len(kinds) == 1 else LateRule("unknown" if kinds else "none")


def _own_rules(node: Op, side: Op, plan: Plan) -> dict[str, LateRule]:
    """By source, the rule by which a stateful operator drops what comes from one side of it."""
    names = {leaf.source for leaf in node.walk() if leaf.source}
    if node.kind.startswith(_OPAQUE):
        by_time = node.kind.startswith("TransformWithState") and "EventTime" in node.detail and side.marked
        return dict.fromkeys(names, LateRule("unknown" if by_time else "none"))
    marked = set(node.groupings) & side.marked if node.kind == "Aggregate" else set(side.marked)
    if not marked:
        return dict.fromkeys(names, LateRule("none"))
    if len(marked) > 1:
        return dict.fromkeys(names, LateRule("unknown"))
    column = marked.pop()
    rule = _rule_of(node, column, plan)
    same = clock_sources(side, column)
    return {name: rule if same.get(name, False) else LateRule("unknown") for name in names}


def _rule_of(node: Op, column: int, plan: Plan) -> LateRule:
    if node.kind != "Aggregate":
        return LateRule("time")
    windows = find_windows(plan, Expr("AttributeReference", id=column))
    if not windows:
        return LateRule("time")
    window = windows.pop()
    # By a startTime windows end at other times than the rule knows.
    if windows or window.length_us is None or window.start_us:
        return LateRule("unknown")
    if window.session:
        return LateRule("session", gap_us=window.length_us)
    return LateRule("window", window.length_us, window.slide_us or window.length_us)
