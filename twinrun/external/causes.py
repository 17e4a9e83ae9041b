"""Causes that can be proven without a checkpoint: each a recomputation over the batch's events, marked as declared."""

from __future__ import annotations

from dataclasses import dataclass, replace

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from twinrun.explain.closed_form import BY_OFFSET, explain_closed_form, only_needed
from twinrun.explain.differing import KEY_ID, differing_keys
from twinrun.explain.evidence import ProofInputs, causes_of
from twinrun.explain.used import USED, batch_rows, dropped_pairs, stream_rows
from twinrun.external.rules import EngineRule
from twinrun.job.dataflow import Dataflow, LateRule
from twinrun.job.job import Job
from twinrun.results.cut import TimeRange, window_starts


@dataclass(frozen=True)
class Hypothesis:
    """One hypothesis about what the other engine used: marked events, and the function over them."""

    job: Job
    closed_form: bool
    inputs: ProofInputs

    def rows(self, marked: dict[str, DataFrame]) -> DataFrame:
        """What an engine that uses these events must have written. Lazy; sessions are materialised."""
        if self.closed_form:
            return stream_rows(self.job, marked[self.job.sources[0].name], self.inputs.stream_static)
        used = {name: frame.filter(F.col(USED)) for name, frame in marked.items()}
        rows = batch_rows(self.job, used, self.inputs.stream_static)
        # Spark pushes filters below the merging of sessions, which undoes it.
        return rows.localCheckpoint() if self.job.shape == "session" else rows


def explain_events(rows: DataFrame, hypothesis: Hypothesis) -> DataFrame:
    """Add ``verdict`` and ``causes`` to differing rows; a cause that does not change its row is withdrawn. Lazy.

    Parameters
    ----------
    rows : DataFrame
        Differing rows with `KEY_ID` and ``place``.
    """
    if hypothesis.closed_form:
        return explain_closed_form(hypothesis.job, rows, hypothesis.inputs)
    return only_needed(hypothesis.job, _whole(rows, hypothesis).localCheckpoint(), hypothesis.inputs, hypothesis.rows)


def rule_refuted(hypothesis: Hypothesis, found: DataFrame, ranges: list[TimeRange]) -> int:
    """Rows that are the same on both sides although the declared rule drops events that change them. One Spark job.

    Any such row means that the engine does not follow the rule, so that nothing may be put down to it.

    Parameters
    ----------
    found : DataFrame
        The differing rows, with `KEY_ID`.
    ranges : list of TimeRange
        Windows in which the rule drops something; all of them ready.
    """
    if not ranges:
        return 0
    expected = hypothesis.rows(hypothesis.inputs.marked)
    wrong = differing_keys(hypothesis.job, expected, hypothesis.inputs.sides.stream, "_wrong", ranges)
    return wrong.join(found.select(KEY_ID).distinct(), KEY_ID, "left_anti").count()


def late_windows(job: Job, marked: DataFrame, ready_ms: int, rule: EngineRule) -> DataFrame:
    """Starts (column ``s``, epoch ms) of the ready windows in which the declared rule drops an event. Lazy."""
    source = job.sources[0]
    pairs = dropped_pairs(marked.filter(F.col("_cause").isNull()), source, rule.spark_rule(job))
    if rule.by_event:  # out of all of its windows at once
        pairs = pairs.withColumn("_start_ms", F.explode(window_starts(job, source.event_time)))
    ends = F.col("_start_ms") + F.lit(job.window_ms)
    return pairs.filter(ends <= F.lit(ready_ms)).select(F.col("_start_ms").alias("s")).distinct()


def rules_of(job: Job, flow: Dataflow, rule: EngineRule | None) -> dict[str, LateRule]:
    """By source: what the declared rule judges an event by, in a job of one window operator; none for all else."""
    found = rule.spark_rule(job) if rule is not None and flow.closed_form else LateRule("none")
    return {source.name: found for source in job.sources}


def with_lateness(job: Job, lateness: str | None) -> Job:
    """The job as the other engine is declared to run it."""
    return replace(job, sources=[replace(source, lateness=lateness) for source in job.sources])


def explain_copies(rows: DataFrame, hypothesis: Hypothesis) -> DataFrame:
    """Judge surplus rows: ``sink_duplicate`` where the result holds nothing but exact copies of the right row. Lazy.

    Right is the batch's row, or that of an engine that used what ``hypothesis`` says.

    Parameters
    ----------
    rows : DataFrame
        Differing rows of kind ``duplicate_in_stream``, with `KEY_ID`.
    """
    job, inputs = hypothesis.job, hypothesis.inputs
    batch, single, ranges = inputs.sides.batch, inputs.sides.stream, inputs.ranges
    flags = [
        differing_keys(job, batch, single, "_not_batch", ranges),
        differing_keys(job, hypothesis.rows(inputs.marked), single, "_not_world", ranges),
        differing_keys(job, inputs.whole, batch, "_batch_wrong", ranges),
    ]
    judged = rows
    for flag in flags:
        judged = judged.join(flag, KEY_ID, "left")
    # The batch's own table must be right too: what the function gives twice would be no copy.
    right = F.col("_batch_wrong").isNull() & (F.col("_not_batch").isNull() | F.col("_not_world").isNull())
    return _judged(judged, rows.columns, right, F.create_map(F.lit("sink_duplicate"), F.lit(0).cast("bigint")))


def _whole(rows: DataFrame, hypothesis: Hypothesis) -> DataFrame:
    """For jobs without a closed form: events left out as a whole, in the job's own function over all the others."""
    job, inputs = hypothesis.job, hypothesis.inputs
    wrong = differing_keys(job, hypothesis.rows(inputs.marked), inputs.sides.stream, "_wrong")
    wrong = wrong.unionByName(differing_keys(job, inputs.whole, inputs.sides.batch, "_wrong")).distinct()
    judged = causes_of(rows, inputs.evidence).join(wrong, KEY_ID, "left")
    found = F.map_filter("causes", lambda cause, _: cause.isin(*BY_OFFSET))
    return _judged(judged, rows.columns, F.col("_wrong").isNull() & (F.size(found) > 0), found)


def _judged(frame: DataFrame, columns: list[str], proven: Column, found: Column) -> DataFrame:
    none = F.create_map().cast("map<string,bigint>")
    done = frame.withColumn("_proven", F.coalesce(proven, F.lit(False)))
    verdict = F.when(F.col("_proven"), F.lit("explained")).otherwise(F.lit("unexplained"))
    causes = F.when(F.col("_proven"), found).otherwise(none)
    kept = [F.col(f"`{name}`") for name in columns if name != "causes"]
    return done.select(*kept, verdict.alias("verdict"), causes.alias("causes"))
