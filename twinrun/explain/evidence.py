"""Mark each event of the differing windows: did the stream use it, and if not, for which cause."""

from __future__ import annotations

from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from twinrun.events.decode import event_schema
from twinrun.events.json_ import quoted
from twinrun.explain.assign import with_micro_batch
from twinrun.explain.counterfactual import USED
from twinrun.explain.late import drops_late, is_dropped
from twinrun.job.job import Job
from twinrun.results.cut import StreamCut
from twinrun.results.touched import window_starts
from twinrun.tables.offsets import at_or_after, before

EVENT_CAUSES = ("before_start", "beyond_cut", "quarantined", "late_dropped")
"""Causes about events, in the order in which an event is given to the first that holds."""
_COORDINATES = ["_topic", "_partition", "_offset"]


@dataclass(frozen=True)
class Evidence:
    """Where counts of blamed events come from: by window, by key fields, or for all rows together."""

    counts: DataFrame
    on: tuple[str, ...]


def mark_events(events: DataFrame, requeued: DataFrame | None, job: Job, cut: StreamCut, topic: str) -> DataFrame:
    """Add `USED`, ``_cause`` (before_start, beyond_cut or quarantined; else null), ``_micro_batch`` and ``_late_ms``.

    Parameters
    ----------
    requeued : DataFrame, optional
        Coordinates and ``_requeued_at`` of records that came out of quarantine later: a stream that read them earlier
        had refused them.
    """
    name = job.sources[0].name
    read = with_micro_batch(events, cut, topic, cut.start[name])
    refused: Column = F.lit(False)
    if requeued is not None:
        later = requeued.select(*_COORDINATES, F.unix_millis("_requeued_at").alias("_requeued_ms"))
        read = read.join(later, _COORDINATES, "left")
        refused = F.coalesce(F.col("_read_at_ms") < F.col("_requeued_ms"), F.lit(False))
    cause = (
        F.when(~at_or_after(cut.start[name]), F.lit("before_start"))
        .when(~before(cut.end[name]), F.lit("beyond_cut"))
        .when(refused, F.lit("quarantined"))
    )
    return read.withColumn("_cause", cause).withColumn(USED, F.col("_cause").isNull())


def count_causes(marked: DataFrame, job: Job) -> Evidence:
    """Blamed events per window and per key field that events carry under the same name; lazy.

    The counts say which events are blamed; the proof is the recomputation, not the count.
    """
    source = job.sources[0]
    fields = {field.name for field in event_schema(source)} - {source.event_time}
    shared = [key for key in job.keys if key in fields]
    cause = F.col("_cause")
    pairs = marked
    on = list(shared)
    if job.windowed:
        pairs = marked.withColumn("_start_ms", F.explode(window_starts(job, source.event_time)))
        if drops_late(job):
            late = is_dropped(F.col("_start_ms") + F.lit(job.window_ms))
            cause = F.coalesce(cause, F.when(late, F.lit("late_dropped")))
        pairs = pairs.withColumn("_window", F.timestamp_millis("_start_ms"))
        on.append("_window")
    counts = [F.count_if(F.col("_why") == name).alias(f"_n_{name}") for name in EVENT_CAUSES]
    blamed = pairs.withColumn("_why", cause).filter(F.col("_why").isNotNull())
    keys = [F.col(quoted(key)).alias(f"_by_{key}") for key in shared]
    window = ["_window"] if job.windowed else []
    return Evidence(blamed.groupBy(*keys, *window).agg(*counts), tuple(on))


def causes_of(differences: DataFrame, evidence: Evidence) -> DataFrame:
    """Add ``causes`` (cause to number of blamed events, zeros left out) to differing rows."""
    condition = F.lit(True)
    for name in evidence.on:
        side = F.col("window") if name == "_window" else F.col("key")[name]
        condition = condition & side.eqNullSafe(F.col("_window" if name == "_window" else quoted(f"_by_{name}")))
    joined = differences.join(evidence.counts, condition, "left")
    entries = [F.struct(F.lit(name), F.coalesce(F.col(f"_n_{name}"), F.lit(0))) for name in EVENT_CAUSES]
    found = F.map_filter(F.map_from_entries(F.array(*entries)), lambda _, count: count > 0)
    return joined.withColumn("causes", found).drop(*evidence.counts.columns)
