"""Give each row that differs from an external result its proven causes; what no recomputation proves is unexplained."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import reduce
from operator import add

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from twinrun.comparator.rows import DUPLICATE_IN_STREAM
from twinrun.config.model import Config
from twinrun.config.sections import ExternalBinding
from twinrun.events.exact import EXACT_TIMES
from twinrun.events.source import Source
from twinrun.explain.closed_form import NOTHING_LATE
from twinrun.explain.differing import KEY_ID, ByName, Sides, anything, split, waits_for_close
from twinrun.explain.evidence import (
    Statics,
    blamed_events,
    causes_of,
    count_causes,
    events_by_cause,
    events_of,
    keep,
    proof_inputs_of,
    requeued,
    with_blamed,
)
from twinrun.explain.explain import Explained as Judged
from twinrun.explain.rerun import explain_floats, explain_unstable, rest_of, still_open, with_more
from twinrun.explain.tables import late_samples
from twinrun.explain.used import USED, late_rows
from twinrun.external.causes import (
    Hypothesis,
    explain_copies,
    explain_events,
    late_windows,
    rule_refuted,
    rules_of,
    with_lateness,
)
from twinrun.external.mark import Rules, mark_declared
from twinrun.external.rules import EngineRule, rule_named
from twinrun.external.side import without_copies
from twinrun.external.written import Clocks, clock_ends, explain_written, writings, written_unexpectedly
from twinrun.job.dataflow import Dataflow, LateRule
from twinrun.job.job import Job
from twinrun.results.cut import StreamCut, TimeRange, events_in, join_ranges
from twinrun.results.verdict import LateEvent

TABLE = "external_differences"


@dataclass(frozen=True)
class Case:
    """What the proofs of one verify stand on.

    ``job`` has tolerances for compared columns only; ``ready_ms``: windows that end by then are compared;
    ``appended``: a repeated key means that a row was written twice. ``left_out``: by source, events that the job leaves
    out of the batch (`twinrun.results.records`) and that lie between the declared offsets: whether the other engine
    counted them nobody knows. ``no_rule``: why nothing can be put down to the declared rule; empty where something can.
    """

    job: Job
    flow: Dataflow
    binding: ExternalBinding
    cut: StreamCut
    events: dict[str, DataFrame]
    statics: dict[str, DataFrame]
    sides: Sides
    ready_ms: int
    appended: bool
    left_out: dict[str, DataFrame] = field(default_factory=dict)
    no_rule: str = ""

    @property
    def rule(self) -> EngineRule | None:
        """The declared rule, where this job's late events can be told by it."""
        usable = self.flow.closed_form and self.job.windowed and not self.no_rule
        return rule_named(self.binding.late_rule) if usable else None

    @property
    def by_rule(self) -> bool:
        """Whether a rule is declared by which this job's late events can be told."""
        return self.rule is not None

    def rules(self, *, refuse: bool = False) -> Rules:
        """What marks go by where the rule holds."""
        rule, source = self.rule, self.job.sources[0].name
        if rule is None:
            return Rules(refuse=refuse)
        keys = [key for key in self.job.keys if key != self.job.window_column] if rule.clock == "key" else []
        marks = tuple(dict(mark) for mark in self.binding.restarts.get(source, []))
        return Rules(self.binding.lateness_ms, refuse, rule, tuple(keys), marks, self.flow.passage(source))


@dataclass(frozen=True)
class Explained:
    """Differing rows as `twinrun.explain` gives them, late events by name, and how the rule fared.

    ``refuted``: rows that agree although the declared rule drops events that change them; then it is not used.
    ``unexpected``: rows in windows that by the rule were never written; then no missing row is called pending.
    """

    judged: Judged
    late: tuple[LateEvent, ...] = ()
    refuted: int = 0
    unexpected: int = 0


def explain_external(
    spark: SparkSession, cfg: Config, case: Case, verify_id: str, found: DataFrame, gone: ByName, *, untried: str = ""
) -> Explained:
    """Judge the differing rows and keep them in the table ``external_differences``. About twenty small Spark jobs.

    With a declared rule, every ready window in which it drops something is recomputed, differing or not: rows that
    agree against the rule refute it, and then no event is called late. What nothing explains of the rows to which an
    event may belong that the job leaves out is ``input_behind``: the batch lacks events of them.

    Parameters
    ----------
    found : DataFrame
        The differing rows, as `twinrun.explain.differing.compare_sides` gives them.
    gone : dict
        What expired or was erased, by source: rows that need it are ``evidence_expired``.
    untried : str
        The verdict of all rows where there is nothing to explain by, such as ``input_behind``; by default causes are
        looked for.
    """
    job = case.job
    found = found.withColumn(KEY_ID, F.to_json("key", EXACT_TIMES))
    if untried:
        judged = _unproven(found).withColumn("verdict", F.lit(untried))
        return Explained(Judged(keep(spark, cfg, job, verify_id, judged, TABLE)))
    parts = split(job, found, gone) if anything(gone) else None
    if parts is not None:
        found = parts.others.localCheckpoint()
    refuted = unexpected = 0
    hypothesis, ranges = _world(spark, cfg, case, found, case.rules())
    if case.by_rule:
        refuted = rule_refuted(hypothesis, found, ranges)
        if refuted:
            hypothesis, _ = _world(spark, cfg, case, found, Rules())
    when, proven = None, []
    if case.by_rule and not refuted and waits_for_close(job):
        when, unexpected = _when_written(spark, cfg, case, found, hypothesis)
    if when is not None:
        proven.append(_named(when, hypothesis))
        found = found.join(when.select(KEY_ID).distinct(), KEY_ID, "left_anti").localCheckpoint()
    copies = F.col("kind") == DUPLICATE_IN_STREAM if case.appended else F.lit(False)
    judged = explain_events(hypothesis.inputs.matching.of_rows(found.filter(~copies), job), hypothesis)
    proven.append(_named(judged, hypothesis))
    told = judged if when is None else judged.unionByName(when, allowMissingColumns=True)
    late = _late(cfg, case, told, hypothesis) if case.by_rule and not refuted else ()
    left = still_open(judged)
    if left and _any_requeued(spark, cfg, job):
        rules = Rules(refuse=True) if refuted else case.rules(refuse=True)
        other, _ = _world(spark, cfg, case, found, rules)
        again = explain_events(other.inputs.matching.of_rows(rest_of(judged).drop("place"), job), other)
        proven.append(_named(again, other))
        judged = with_more(judged, again)
        left = still_open(judged)
    if left and hypothesis.closed_form:
        judged = with_more(judged, explain_floats(hypothesis.job, rest_of(judged), hypothesis.inputs))
        left = still_open(judged)
    if left:
        judged = with_more(judged, explain_unstable(hypothesis.job, rest_of(judged), hypothesis.inputs))
    if case.appended:
        surplus = explain_copies(found.filter(copies), hypothesis)
        judged = judged.unionByName(surplus, allowMissingColumns=True).localCheckpoint()
    if when is not None:
        judged = judged.unionByName(when, allowMissingColumns=True).localCheckpoint()
    if case.left_out and still_open(judged):
        judged = not_judged(judged, case, hypothesis).localCheckpoint()
    if parts is not None:
        judged = _with_expired(
            judged,
            parts.lost,
            by_window=job.windowed and case.flow.closed_form and not any(each.lost for each in gone.values()),
        )
    kept = Judged(
        rows=keep(spark, cfg, job, verify_id, judged, TABLE),
        events=reduce(add, (Counter(each.events) for each in proven)),
        blamed=_union([each.blamed for each in proven if each.blamed is not None]),
        events_of=proven[0].events_of,
        expired=0 if parts is None else judged.filter(F.col("verdict") == "evidence_expired").count(),
    )
    return Explained(kept, late, refuted, unexpected)


def not_judged(judged: DataFrame, case: Case, hypothesis: Hypothesis) -> DataFrame:
    """Call rows ``input_behind`` that nothing explains and to which a left-out event may belong. Lazy.

    By window or session and by the keys that are fields of the events, as far as the job has them. The function does
    not see the events: it may fail on them.
    """
    evidence = [
        count_causes(
            _as_left_out(frame, source, case.cut), hypothesis.job, source, LateRule("none"), hypothesis.inputs.matching
        )
        for source in hypothesis.job.sources
        if (frame := case.left_out.get(source.name)) is not None
    ]
    placed = (
        hypothesis.inputs.matching.of_rows(judged.drop("place"), hypothesis.job)
        if "place" not in judged.columns
        else judged
    )
    touched = causes_of(placed.drop("causes"), evidence).select(KEY_ID, (F.size("causes") > 0).alias("_touched"))
    marked = judged.join(touched.filter("_touched").distinct(), KEY_ID, "left")
    open_ = (F.col("verdict") == "unexplained") & F.col("_touched").isNotNull()
    return marked.withColumn("verdict", F.when(open_, "input_behind").otherwise(F.col("verdict"))).drop("_touched")


def _as_left_out(events: DataFrame, source: Source, cut: StreamCut) -> DataFrame:
    marked = mark_declared(events, None, source, cut, Rules())
    return marked.withColumns({"_cause": F.lit("quarantined"), USED: F.lit(False)})


def _with_expired(judged: DataFrame, lost: DataFrame, *, by_window: bool) -> DataFrame:
    """Add the rows whose windows lost events; without windows any row that is left may have lost one. Lazy."""
    if not by_window:
        judged = judged.replace("unexplained", "evidence_expired", ["verdict"])
    expired = _unproven(lost).withColumn("verdict", F.lit("evidence_expired"))
    return judged.unionByName(expired, allowMissingColumns=True)


def _world(
    spark: SparkSession, cfg: Config, case: Case, found: DataFrame, rules: Rules
) -> tuple[Hypothesis, list[TimeRange]]:
    """Mark the events under these rules; the windows that differ, and those in which the rule drops something."""
    job, flow = case.job, case.flow
    by_rule = rules.lateness_ms is not None
    marked = _marked(spark, cfg, case, rules)
    twin = with_lateness(job, case.binding.lateness if by_rule else None) if flow.closed_form else job
    ranges: list[TimeRange] = []
    if flow.closed_form and job.windowed:
        starts = found.select(F.unix_millis("window").alias("s")).filter(F.col("s").isNotNull())
        if by_rule:
            starts = starts.unionByName(late_windows(job, marked[job.sources[0].name], case.ready_ms, rules.rule))
        ranges = join_ranges(starts.distinct(), job.slide_ms or 1)
        marked = {name: events_in(frame, job, ranges) for name, frame in marked.items()}
    # Cut off from its plan: many later plans stand on it, and planning them anew costs more than their data.
    marked = {name: frame.localCheckpoint() for name, frame in marked.items()}
    single = without_copies(job, case.sides.stream) if case.appended else case.sides.stream
    statics = Statics(case.statics, case.statics)
    sides = Sides(case.sides.batch, single)
    rule_by_source = rules_of(job, flow, rules.rule if by_rule else None)
    inputs = proof_inputs_of(twin, rule_by_source, marked, statics, sides, ranges, flow.passages)
    return Hypothesis(twin, flow.closed_form, inputs), ranges


def _marked(spark: SparkSession, cfg: Config, case: Case, rules: Rules) -> dict[str, DataFrame]:
    return {
        source.name: mark_declared(case.events[source.name], requeued(spark, cfg, source.name), source, case.cut, rules)
        for source in case.job.sources
    }


def _when_written(
    spark: SparkSession, cfg: Config, case: Case, found: DataFrame, hypothesis: Hypothesis
) -> tuple[DataFrame | None, int]:
    """Rows that are explained by when the rule has their window written; and rows that contradict what is pending.

    Pending by rule is asked only where nothing else is declared that says up to where windows have been handed on. A
    clock of a whole partition, moved by all of its events, has closed every window that is compared: nothing to ask.
    """
    rule, rules, job = case.rule, case.rules(), case.job
    assert rule is not None
    by_record = rule.by_record and case.binding.ready_until is None
    as_compared = rule.clock != "key" and (rule.all_move or rules.passage.all_reach)
    if not rules.restarts and (as_compared or not by_record):
        return None, 0
    name = job.sources[0].name
    every = _marked(spark, cfg, case, rules)[name]
    ends = None
    if rules.restarts:
        lateness_ms = (rules.lateness_ms or 0) - rule.ahead_ms
        ends = clock_ends(every, job, lateness_ms, case.binding.retention_ms).localCheckpoint()
    clocks = Clocks(case.appended, len(rules.restarts), ends, case.flow.passage(name))
    written = writings(hypothesis, hypothesis.inputs.marked[name], clocks)
    if written is None:
        return None, 0
    written = written.localCheckpoint()
    unexpected = 0
    if by_record and written.filter((F.size("_lives") == 0) & F.col("_waits")).limit(1).count():
        of_all = writings(hypothesis, every, clocks)
        assert of_all is not None
        unexpected = written_unexpectedly(hypothesis, of_all, case.sides.stream)
    rows = hypothesis.inputs.matching.of_rows(found, job)
    waiting = by_record and not unexpected
    return explain_written(rows, hypothesis, written, case.sides.stream, clocks, waiting=waiting), unexpected


def _named(judged: DataFrame, hypothesis: Hypothesis) -> Judged:
    """The rows that events explain, with counts and names of the events; no micro-batch is known of them."""
    evidence = hypothesis.inputs.evidence
    proven = judged.filter(F.col("verdict") == "explained")
    blamed = blamed_events(proven, evidence)
    counts = events_by_cause(blamed)
    if blamed is not None:
        watermark = F.nullif("_late_ms", F.lit(NOTHING_LATE))
        blamed = blamed.withColumns({"_micro_batch": F.lit(None).cast("bigint"), "_late_ms": watermark})
    return Judged(proven, counts, blamed=blamed, events_of=events_of(hypothesis.job, evidence))


def _union(frames: list[DataFrame]) -> DataFrame | None:
    return reduce(DataFrame.unionByName, frames) if frames else None


def _late(cfg: Config, case: Case, judged: DataFrame, hypothesis: Hypothesis) -> tuple[LateEvent, ...]:
    """The events that the rule drops and that a proven row lacks, at most ``verify.max_late_samples``."""
    source = hypothesis.job.sources[0]
    inputs = hypothesis.inputs
    proven = judged.filter(F.col("verdict") == "explained")
    blamed = with_blamed(proven, inputs.evidence[0]).filter(F.col("_why") == "late_dropped")
    by_event = case.rule is not None and case.rule.by_event
    start = F.lit(None).cast("bigint") if by_event else F.unix_millis("place")
    named = blamed.select("_topic", "_partition", "_offset", start.alias("_start")).distinct()
    rule = rules_of(case.job, case.flow, case.rule)[source.name]
    rows = late_rows(inputs.marked[source.name], case.job.job_name, source, rule, "")
    same = (
        (rows["topic"] == named["_topic"])
        & (rows["partition"] == named["_partition"])
        & (rows["offset"] == named["_offset"])
        & rows["window_start_ms"].eqNullSafe(named["_start"])
    )
    return late_samples(rows.join(named, same, "left_semi"), cfg.verify.max_late_samples).answer()


def _any_requeued(spark: SparkSession, cfg: Config, job: Job) -> bool:
    frames = [requeued(spark, cfg, source.name) for source in job.sources]
    return any(frame is not None and frame.limit(1).count() > 0 for frame in frames)


def _unproven(rows: DataFrame) -> DataFrame:
    none = F.create_map().cast("map<string,bigint>")
    return rows.withColumns({"verdict": F.lit("unexplained"), "causes": none})
