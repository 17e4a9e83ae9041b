"""Which events of a source count, and which of them the watermark follows: read from Spark's optimised streaming plan.

Spark moves filters, not only those that the function writes: one that stands above the watermark, or behind the
aggregate on what it groups by, or that a join or an explode implies, is evaluated before the watermark. What it leaves
out neither moves the watermark nor reaches a window. So the optimised plan is asked, not the function: which of its
operators stand between a source and the first operator that keeps something back, and which below the watermark. The
same operators are then run over events at rest, with every column of theirs carried along.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from py4j.protocol import Py4JError  # type: ignore[import-untyped]
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession

from twinrun.durations import spark_interval
from twinrun.events.decode import distinct_in_stream
from twinrun.events.source import PLACE, Source
from twinrun.job.job import Job
from twinrun.job.jvmplan import has_jvm, items
from twinrun.job.plan import seen_schema

_TYPED = re.compile(r"\b(\d+(?:\.\d+)?)(?:BD|[LSYDF])\b")
_STOPS = ("Aggregate", "FlatMapGroups", "FlatMapCoGroups", "MapGroups", "TransformWithState")
_MARK = "EventTimeWatermark"
_TAKES_NONE = ("Project", "Expand", "SubqueryAlias", "ResolvedHint", "CollectMetrics", "Repartition", "Rebalance")
_IGNORED = (_MARK, "Deduplicate")
"""Taken out of what is run at rest: neither decides what an event is worth to the result."""
_REPEATS = ("Generate", "Join", "Expand", "Union")
_CARRIES = ("Filter", *_TAKES_NONE, *_REPEATS, "ArrowEvalPython", "BatchEvalPython", "LocalRelation")
_STRICT = ("EqualTo", "GreaterThan", "GreaterThanOrEqual", "LessThan", "LessThanOrEqual", "In", "InSet", "StartsWith")


@dataclass(frozen=True)
class Passage:
    """The way of one source's events through the job.

    Attributes
    ----------
    all_reach, all_move : bool
        Every event reaches the first operator that keeps state (the result, where there is none); every event moves the
        watermark. Known from the plan alone.
    told : bool
        Whether it can be told event by event which of them reach the operator. False with functions over chunks of
        rows, limits, random numbers or clocks in the way, and on Spark Connect: then all are taken to.
    moves_if : str
        The condition below the watermark as Spark writes it; empty where every event moves it or it cannot be told.
    """

    all_reach: bool = True
    all_move: bool = True
    told: bool = True
    moves_if: str = ""
    _leaf: int = field(default=-1, repr=False)
    _reach: tuple[Any, ...] = field(default=(), repr=False)
    _move: tuple[Any, ...] = field(default=(), repr=False)

    def reaching(self, events: DataFrame) -> DataFrame:
        """The events that would have reached the first operator with state; all where that cannot be told. Lazy.

        Parameters
        ----------
        events : DataFrame
            The columns that the function sees, besides any others; each event once.
        """
        return events if self.all_reach or not self.told else _run(events, self._reach, self._leaf)

    def moving(self, events: DataFrame) -> DataFrame:
        """The events that move the watermark; all where that cannot be told. Lazy. ``events``: see `reaching`."""
        return _run(events, self._move, self._leaf) if self.moves_if else events

    @property
    def moves_told(self) -> bool:
        """Whether it is known which events move the watermark."""
        return self.all_move or bool(self.moves_if)


EVERY = Passage()
"""Nothing stands in the way of an event."""
NOT_TOLD = Passage(all_reach=False, all_move=False, told=False)


def passages(spark: SparkSession, job: Job, statics: Mapping[str, DataFrame]) -> dict[str, Passage]:
    """The passage of each source by name. Optimises the streaming plan once; no Spark job of its own.

    Parameters
    ----------
    statics : mapping of str to DataFrame
        The static tables as the stream joined them.
    """
    plan = stream_plan(spark, job, statics)
    if plan is None:  # what counts is then not known, which is said; it is no reason to fail
        return {source.name: NOT_TOLD for source in job.sources}
    jvm: Any = spark._jvm
    clock = bool(plan.analyzed.containsPattern(jvm.org.apache.spark.sql.catalyst.trees.TreePattern.CURRENT_LIKE()))
    return {source.name: _passage(plan.optimised, plan.leaves[source.name], source, clock) for source in job.sources}


@dataclass(frozen=True)
class StreamPlan:
    """A job's plan as a stream: Spark's, as analysed and as optimised, and by source the id of its leaf in both."""

    analyzed: Any
    optimised: Any
    leaves: Mapping[str, int]


def stream_plan(spark: SparkSession, job: Job, statics: Mapping[str, DataFrame]) -> StreamPlan | None:
    """Plan the job over streams without events; None where Spark shows or makes no plan. No Spark job of its own."""
    if not has_jvm(spark):
        return None
    streams = {source.name: _leaf_stream(spark, source) for source in job.sources}
    frames = {source.name: _as_stream(streams[source.name], source) for source in job.sources}
    try:
        analyzed = job.apply({**frames, **statics})._jdf.queryExecution().analyzed()
        optimised = spark._jsparkSession.sessionState().optimizer().execute(analyzed)
    except (Py4JError, PySparkException):
        return None
    leaves = {name: int(each._jdf.queryExecution().analyzed().rdd().id()) for name, each in streams.items()}
    return StreamPlan(analyzed, optimised, leaves)


def _leaf_stream(spark: SparkSession, source: Source) -> DataFrame:
    """A stream without events whose columns are those of the events, none of them computed from another."""
    empty = spark.createDataFrame([], seen_schema(source))._jdf
    session: Any = spark._jsparkSession
    return DataFrame(session.internalCreateDataFrame(empty.queryExecution().toRdd(), empty.schema(), True), spark)


def _as_stream(leaf: DataFrame, source: Source) -> DataFrame:
    """The same with the watermark and the de-duplication that the framework gives a source."""
    if source.lateness_ms is None:
        return leaf
    return distinct_in_stream(leaf.withWatermark(source.event_time, spark_interval(source.lateness_ms)), source)


def _passage(root: Any, leaf: int, source: Source, clock: bool) -> Passage:
    ways = _ways(root, leaf, root)
    if not ways:
        return NOT_TOLD  # the optimiser has shown that the source gives nothing, or has rewritten what it is
    reach = tuple({int(top.hashCode()): top for top in ways}.values())  # two ways that do the same are one
    move = tuple({int(mark.hashCode()): mark for top in reach for mark in _marks(top, leaf)}.values())
    all_reach = all(_takes_none(top, leaf) for top in reach)
    all_move = all(_takes_none(mark, leaf) for mark in move)
    told = all_reach or (not clock and all(_carried(top, leaf) for top in reach))
    # Several watermarks of one source count one by one, and the least of them for all.
    single = told and not all_move and len(move) == 1
    return Passage(all_reach, all_move, told, _condition(move[0], leaf, source) if single else "", leaf, reach, move)


def _ways(node: Any, leaf: int, top: Any) -> list[Any]:
    """The highest operator above each place where the source is read, up to the first that keeps state."""
    if _is_leaf(node, leaf):
        return [top]
    stop = _stops(node)
    return [way for child in items(node.children()) for way in _ways(child, leaf, child if stop else top)]


def _stops(node: Any) -> bool:
    kind = _kind(node)
    if not node.isStreaming():
        return False
    return kind.startswith(_STOPS) or (kind == "Join" and all(child.isStreaming() for child in items(node.children())))


def _marks(node: Any, leaf: int) -> list[Any]:
    """What lies below each watermark that is next to the source."""
    below = [child for child in items(node.children()) if _holds(child, leaf)]
    found = [mark for child in below for mark in _marks(child, leaf)]
    return found or (below if _kind(node) == _MARK else [])


def _takes_none(node: Any, leaf: int) -> bool:
    """Whether every event gets through, by the plan alone."""
    if _is_leaf(node, leaf):
        return True
    kind = _kind(node)
    below = [child for child in items(node.children()) if _holds(child, leaf)]
    keeps = kind.startswith((*_TAKES_NONE, *_IGNORED)) or kind in ("ArrowEvalPython", "BatchEvalPython")
    keeps = keeps or (kind == "Generate" and bool(node.outer()))
    keeps = keeps or (kind == "Join" and _keeps_all(node, leaf)) or (kind == "Union" and bool(below))
    return keeps and any(_takes_none(child, leaf) for child in below)


def _keeps_all(join: Any, leaf: int) -> bool:
    kind = str(join.joinType().toString())
    left, right = items(join.children())
    return (kind == "LeftOuter" and _holds(left, leaf)) or (kind == "RightOuter" and _holds(right, leaf))


def _carried(node: Any, leaf: int) -> bool:
    """Whether an event can be followed through this operator and all below it."""
    if _is_leaf(node, leaf):
        return True
    if not _kind(node).startswith((*_CARRIES, *_IGNORED)) or not _certain(node):
        return False
    return all(_carried(child, leaf) for child in items(node.children()) if _holds(child, leaf))


def _certain(node: Any) -> bool:
    return all(bool(each.deterministic()) for each in items(node.expressions()))


def _holds(node: Any, leaf: int) -> bool:
    return _is_leaf(node, leaf) or any(_holds(child, leaf) for child in items(node.children()))


def _is_leaf(node: Any, leaf: int) -> bool:
    return _kind(node) == "LogicalRDD" and int(node.rdd().id()) == leaf


def _kind(node: Any) -> str:
    return str(node.getClass().getSimpleName())


def _condition(node: Any, leaf: int, source: Source) -> str:
    """The filters below the watermark in Spark's words, without those that every event or another of them fulfils."""
    conjuncts: list[Any] = []
    python: dict[str, str] = {}
    while not _is_leaf(node, leaf):
        if _kind(node) == "Filter":
            conjuncts += _conjuncts(node.condition())
        elif _kind(node).endswith("EvalPython"):
            names = [str(each.name()) for each in items(node.resultAttrs())]
            python |= dict(zip(names, [str(udf.sql()) for udf in items(node.udfs())], strict=True))
        node = next(child for child in items(node.children()) if _holds(child, leaf))
    strict = {ref for each in conjuncts if _bare(each) in _STRICT for ref in _references(each)}
    never_null = {f.name for f in seen_schema(source) if not f.nullable}
    said = []
    for each in conjuncts:
        if _bare(each) == "IsNotNull" and set(_references(each)) <= strict | never_null:
            continue
        text = str(each.sql())
        for name, udf in python.items():
            text = text.replace(name, udf)
        said.append(_plain(_unwrapped(text)))
    return " AND ".join(said)


def _plain(sql: str) -> str:
    """Numbers without the letter that gives them a type, outside texts."""
    parts = sql.split("'")
    return "'".join(_TYPED.sub(r"\1", part) if place % 2 == 0 else part for place, part in enumerate(parts))


def _bare(condition: Any) -> str:
    """The kind of a condition, a NOT before it left out."""
    return _kind(condition.child()) if _kind(condition) == "Not" else _kind(condition)


def _references(condition: Any) -> list[str]:
    return [str(each.name()) for each in items(condition.references().toSeq())]


def _conjuncts(condition: Any) -> list[Any]:
    if _kind(condition) == "And":
        return [part for side in items(condition.children()) for part in _conjuncts(side)]
    return [condition]


def _unwrapped(text: str) -> str:
    if not (text.startswith("(") and text.endswith(")")):
        return text
    depth = 0
    for at, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if depth == 0 and at < len(text) - 1:
            return text
    return text[1:-1]


def _run(events: DataFrame, tops: tuple[Any, ...], leaf: int) -> DataFrame:
    """The events that come out of any of the operators, each once and with all of its columns."""
    spark = events.sparkSession
    jvm: Any = spark._jvm
    dataset = jvm.org.apache.spark.sql.classic.Dataset
    parts, repeated = [], len(tops) > 1
    for top in tops:
        surgery = _Surgery(jvm, events._jdf.queryExecution().analyzed(), leaf)
        while _kind(top).startswith((*_TAKES_NONE, *_IGNORED)):
            top = next(child for child in items(top.children()) if _holds(child, leaf))
        plan = surgery.project(surgery.carried, surgery.rebuilt(top))
        parts.append(DataFrame(dataset.ofRows(spark._jsparkSession, plan), spark))
        repeated = repeated or surgery.repeats
    found = parts[0]
    for part in parts[1:]:
        found = found.unionByName(part)
    return found.dropDuplicates(list(PLACE)) if repeated else found


class _Surgery:
    """Puts events at rest in the place of the stream below an operator, and carries their columns up through it."""

    def __init__(self, jvm: Any, events: Any, leaf: int) -> None:
        self.jvm, self.events, self.leaf = jvm, events, leaf
        self.carried = items(events.output())
        self.repeats = False

    def rebuilt(self, node: Any) -> Any:
        """The same operator over events at rest; what does not hold the stream stays as it is."""
        if _is_leaf(node, self.leaf):
            return self._in_place_of(node)
        if not _holds(node, self.leaf):
            return node
        kind = _kind(node)
        if kind.startswith(_IGNORED):
            return self.rebuilt(items(node.children())[0])
        self.repeats = self.repeats or kind in _REPEATS
        if kind == "Union":
            return self._union(node)
        children = [self.rebuilt(child) for child in items(node.children())]
        if kind == "Project":
            return self.project([*items(node.projectList()), *self.carried], children[0])
        logical = self.jvm.org.apache.spark.sql.catalyst.plans.logical
        if kind == "Expand":
            rows = self.seq([self.seq([*items(each), *self.carried]) for each in items(node.projections())])
            return logical.Expand(rows, self.seq([*items(node.output()), *self.carried]), children[0])
        if kind == "Generate":
            # Which of the columns below are not needed is said by their places, and those have changed.
            none = self.seq([])
            return logical.Generate(
                node.generator(), none, node.outer(), node.qualifier(), node.generatorOutput(), children[0]
            )
        return node.withNewChildren(self.seq(children))

    def project(self, expressions: list[Any], child: Any) -> Any:
        return self.jvm.org.apache.spark.sql.catalyst.plans.logical.Project(self.seq(expressions), child)

    def seq(self, values: list[Any]) -> Any:
        return self.jvm.org.apache.spark.api.python.PythonUtils.toSeq(self._list(values))

    def _list(self, values: list[Any]) -> Any:
        made = self.jvm.java.util.ArrayList()
        for value in values:
            made.add(value)
        return made

    def _in_place_of(self, leaf: Any) -> Any:
        by_name = {str(each.name()): each for each in self.carried}
        named = [self._alias(by_name[str(column.name())], column) for column in items(leaf.output())]
        return self.project([*named, *self.carried], self.events)

    def _alias(self, made_from: Any, column: Any) -> Any:
        nothing = self.jvm.scala.Option.empty()
        none = self.seq([])
        alias = self.jvm.org.apache.spark.sql.catalyst.expressions.Alias
        return alias(made_from, column.name(), column.exprId(), none, nothing, none)

    def _union(self, node: Any) -> Any:
        """The sides that hold the stream, under the ids of the union's own columns."""
        sides = []
        for child in items(node.children()):
            if not _holds(child, self.leaf):
                continue
            below = self.rebuilt(child)
            named = [self._alias(a, b) for a, b in zip(items(child.output()), items(node.output()), strict=True)]
            sides.append(self.project([*named, *self.carried], below))
        if len(sides) == 1:
            return sides[0]
        return self.jvm.org.apache.spark.sql.catalyst.plans.logical.Union(self.seq(sides), False, False)
