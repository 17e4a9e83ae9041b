"""What the stream of a job does to events on their way: its stateful operators, and the rule by which events are late.

Read from the plan of the function over streaming frames. Only the first stateful operator that an event meets drops it
(tried over chains of two operators, see docs/how_it_works.md); each kind has a rule of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from pyspark.sql import SparkSession
from pyspark.sql.types import StructType

from twinrun.job.grain import find_windows
from twinrun.job.job import Job
from twinrun.job.jvmplan import Node, Plan, has_jvm, read_plan
from twinrun.job.plan import seen_schema, stream_frame

LateKind = Literal["window", "session", "time", "none"]
_BY_TIME = ("Deduplicate", "DeduplicateWithinWatermark", "Join")
_OPAQUE = ("FlatMapGroups", "FlatMapCoGroups", "MapGroups", "TransformWithState")
_PER_MICRO_BATCH = ("MapInPandas", "MapInArrow", "PythonMapInArrow", "GlobalLimit", "LocalLimit")


@dataclass(frozen=True)
class LateRule:
    """When the first stateful operator drops an event of a source.

    ``window``: the end of its window is at or before the watermark of the micro-batch before, for each window of
    ``window_us`` every ``slide_us`` that holds it. ``session``: event time + ``gap_us`` is. ``time``: the event time
    is (de-duplication, stream-stream joins). ``none``: nothing is dropped. In microseconds, as Spark compares: only the
    watermark itself has whole milliseconds.
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
    """

    operators: tuple[str, ...] = ()
    rules: dict[str, LateRule] = field(default_factory=dict)
    closed_form: bool = True

    @property
    def opaque(self) -> bool:
        """Whether an operator may look at each micro-batch by itself, so that one row tells nothing about the next."""
        return any(kind.startswith(_OPAQUE) or kind in _PER_MICRO_BATCH for kind in self.operators)

    @property
    def drops_late(self) -> bool:
        """Whether any source can lose events to lateness."""
        return any(rule.kind != "none" for rule in self.rules.values())


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
    streams = {source.name: stream_frame(spark, source, seen_schema(source)) for source in job.sources}
    statics = {table.name: spark.createDataFrame([], tables[table.name]) for table in job.tables}
    plan = read_plan(job.apply({**streams, **statics}))
    operators = tuple(_stateful(plan.root))
    rules = {}
    for source in job.sources:
        if source.lateness_ms is None:
            rules[source.name] = LateRule("none")
            continue
        event_time = dict(read_plan(streams[source.name]).output)[source.event_time]
        first = _first_stateful(plan.root, event_time, None)
        rules[source.name] = LateRule("none") if first is None else _rule_of(first, plan)
    # Another window than the declared one, or none where one is declared: nothing is taken for granted.
    as_declared = operators == ("Aggregate",) and all(rule == declared for rule in rules.values())
    closed = _closed_shape(job) and (not operators or as_declared)
    return Dataflow(operators, rules, closed)


def _declared(job: Job) -> LateRule:
    if job.sources[0].lateness_ms is None or not job.windowed:
        return LateRule("none")
    return LateRule.of_windows(job)


def _closed_shape(job: Job) -> bool:
    return len(job.sources) == 1 and job.shape != "session"


def _stateful(node: Node) -> Iterator[str]:
    if _is_stateful(node) or (node.streaming and node.kind in _PER_MICRO_BATCH):
        yield node.kind
    for child in node.inputs:
        yield from _stateful(child)


def _is_stateful(node: Node) -> bool:
    if not node.streaming:
        return False
    if node.kind == "Join":
        return all(child.streaming for child in node.inputs)
    return node.kind in ("Aggregate", *_BY_TIME) or node.kind.startswith(_OPAQUE)


def _first_stateful(node: Node, event_time: int, last: Node | None) -> Node | None:
    """The stateful operator next to the watermark of the source whose event time has this id."""
    if node.kind == "EventTimeWatermark" and event_time in node.columns:
        return last
    here = node if _is_stateful(node) else last
    for child in node.inputs:
        found = _first_stateful(child, event_time, here)
        if found is not None:
            return found
    return None


def _rule_of(node: Node, plan: Plan) -> LateRule:
    if node.kind in _BY_TIME:
        return LateRule("time")
    if node.kind != "Aggregate":
        return LateRule("none")
    windows = {window for grouping in node.groupings for window in find_windows(plan, grouping)}
    if len(windows) != 1:
        return LateRule("none")
    window = windows.pop()
    if window.length_us is None:
        return LateRule("none")
    if window.session:
        return LateRule("session", gap_us=window.length_us)
    return LateRule("window", window.length_us, window.slide_us or window.length_us)
