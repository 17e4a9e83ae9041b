"""What the stream of a job does to events on their way: its stateful operators, and the rule by which events are late.

Read from the plan of the function over streaming frames. Only the first stateful operator that an event meets drops it
(tried over chains of two operators, see docs/how_it_works.md), and only if a watermark reaches it; each kind has a rule
of its own. Where no rule tells what is dropped, none is claimed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from pyspark.sql import SparkSession
from pyspark.sql.types import StructType

from twinrun.job.grain import find_windows
from twinrun.job.job import Job
from twinrun.job.jvmplan import Expr, Plan, has_jvm, read_plan
from twinrun.job.marks import Op, clock_sources, optimised_plan, probe_stream, probe_table
from twinrun.job.passing import EVERY, Passage
from twinrun.job.plan import seen_schema

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
    if windows or window.length_us is None:
        return LateRule("unknown")
    if window.session:
        return LateRule("session", gap_us=window.length_us)
    return LateRule("window", window.length_us, window.slide_us or window.length_us)
