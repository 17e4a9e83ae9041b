"""Mark each event of the differing windows: did the stream use it, and if not, for which cause."""

from __future__ import annotations

from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

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
    """Where counts of blamed events come from: by window, by key fields, or for all rows together.

    ``blamed`` has a row per event and window, with ``_why``; ``counts`` counts them.
    """

    blamed: DataFrame
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


def count_causes(marked: DataFrame, job: Job, fields: frozenset[str]) -> Evidence:
    """Blamed events per window and per key that is a field of the events; lazy.

    The counts say which events are blamed; the proof is the recomputation, not the count.

    Parameters
    ----------
    fields : frozenset of str
        Keys that the function takes over from the event's field of the same name.
    """
    source = job.sources[0]
    shared = [key for key in job.keys if key in fields - {source.event_time}]
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
    keys = [F.col(quoted(key)).alias(f"_by_{key}") for key in shared]
    by = [*[f"_by_{key}" for key in shared], *(["_window"] if job.windowed else [])]
    blamed = pairs.withColumn("_why", cause).filter(F.col("_why").isNotNull())
    blamed = blamed.select(*keys, *(["_window"] if job.windowed else []), "_why", *_COORDINATES)
    return Evidence(blamed, blamed.groupBy(*[quoted(name) for name in by]).agg(*counts), tuple(on))


def causes_of(differences: DataFrame, evidence: Evidence) -> DataFrame:
    """Add ``causes`` (cause to number of blamed events, zeros left out) to differing rows."""
    joined = differences.join(evidence.counts, _of_row(evidence), "left")
    entries = [F.struct(F.lit(name), F.coalesce(F.col(f"_n_{name}"), F.lit(0))) for name in EVENT_CAUSES]
    found = F.map_filter(F.map_from_entries(F.array(*entries)), lambda _, count: count > 0)
    return joined.withColumn("causes", found).drop(*evidence.counts.columns)


def events_by_cause(explained: DataFrame, evidence: Evidence) -> dict[str, int]:
    """How many events the causes of these rows blame; each counts once, in however many windows or rows it lies.

    Parameters
    ----------
    explained : DataFrame
        ``key`` and ``window`` of rows. One Spark job.
    """
    joined = explained.join(evidence.blamed, _of_row(evidence))
    counted = joined.groupBy("_why").agg(F.count_distinct(*_COORDINATES).alias("events"))
    return {row["_why"]: row["events"] for row in counted.collect()}


def _of_row(evidence: Evidence) -> Column:
    """Condition: the blamed event belongs to the differing row, as far as its window and key fields tell."""
    condition = F.lit(True)
    for name in evidence.on:
        side = F.col("window") if name == "_window" else F.col("key")[name]
        condition = condition & side.eqNullSafe(F.col("_window" if name == "_window" else quoted(f"_by_{name}")))
    return condition
