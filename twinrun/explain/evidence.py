"""Mark each event of the differing windows: did the stream use it, and if not, for which cause."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Literal

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from twinrun.events.distinct import copies_kept
from twinrun.events.json_ import quoted
from twinrun.events.source import Source
from twinrun.explain.assign import with_micro_batch
from twinrun.explain.counterfactual import USED
from twinrun.explain.differing import KEY_ID
from twinrun.explain.late import end_us_of, event_dropped, event_id, is_dropped
from twinrun.explain.place import Place
from twinrun.job.dataflow import LateRule
from twinrun.job.job import Job
from twinrun.job.passing import EVERY, Passage
from twinrun.results.cut import StreamCut
from twinrun.results.touched import floor_ms, window_starts
from twinrun.tables.offsets import at_or_after, before

EVENT_CAUSES = ("before_start", "beyond_cut", "quarantined", "late_dropped", "duplicate_event")
"""Causes about events, in the order in which an event is given to the first that holds."""
_COORDINATES = ["_topic", "_partition", "_offset"]
_READ = ["_kafka_timestamp", "_micro_batch", "_late_ms"]


@dataclass(frozen=True)
class Evidence:
    """Where counts of blamed events of one source come from: by place (window, session), by key fields, or neither.

    ``blamed`` has a row per event and place, with ``_why`` and what there is to say about it; ``counts`` counts them.
    """

    source: str
    blamed: DataFrame
    counts: DataFrame
    on: tuple[str, ...]


def mark_events(events: DataFrame, requeued: DataFrame | None, source: str, cut: StreamCut, topic: str) -> DataFrame:
    """Add `USED`, ``_cause`` (before_start, beyond_cut or quarantined; else null), ``_micro_batch`` and ``_late_ms``.

    Parameters
    ----------
    requeued : DataFrame, optional
        Coordinates and ``_requeued_at`` of records that came out of quarantine later: a stream that read them earlier
        had refused them.
    """
    read = with_micro_batch(events, cut, topic, cut.start[source])
    refused: Column = F.lit(False)
    if requeued is not None:
        later = requeued.select(*_COORDINATES, F.unix_millis("_requeued_at").alias("_requeued_ms"))
        read = read.join(later, _COORDINATES, "left")
        refused = F.coalesce(F.col("_read_at_ms") < F.col("_requeued_ms"), F.lit(False))
    cause = (
        F.when(~at_or_after(cut.start[source]), F.lit("before_start"))
        .when(~before(cut.end[source]), F.lit("beyond_cut"))
        .when(refused, F.lit("quarantined"))
    )
    return read.withColumn("_cause", cause).withColumn(USED, F.col("_cause").isNull())


def with_copies(marked: DataFrame, source: Source) -> DataFrame:
    """Add ``_copy``: the stream took this further copy of an event, which the batch drops. Lazy."""
    if not source.distinct:
        return marked.withColumn("_copy", F.lit(False))
    read = marked.filter(F.col(USED) & F.col("_micro_batch").isNotNull())
    copies = copies_kept(read, source).withColumn("_copy", F.lit(True))
    return marked.join(copies, _COORDINATES, "left").withColumn("_copy", F.coalesce("_copy", F.lit(False)))


def count_causes(
    marked: DataFrame, job: Job, source: Source, rule: LateRule, place: Place, passage: Passage = EVERY
) -> Evidence:
    """Blamed events of one source per place and per key that is a field of the events; lazy.

    Only those that would have reached the result: what the job filters away makes no difference. The counts say which
    events are blamed; the proof is the recomputation, not the count.
    """
    marked = passage.reaching(marked)
    shared = [key for key in job.keys if key in place.fields[source.name] - {source.event_time}]
    dropped = event_dropped(source, rule)
    pairs, on = marked, [*shared]
    if job.windowed:
        pairs = marked.withColumn("_start_ms", F.explode(window_starts(job, source.event_time)))
        pairs = pairs.withColumn("_place", F.timestamp_millis("_start_ms"))
        if rule == LateRule.of_windows(job):
            dropped = is_dropped((F.col("_start_ms") + F.lit(job.window_ms)) * F.lit(1000))
    elif place.sessions is not None:
        pairs = place.of_events(marked, source)
    if job.windowed or place.sessions is not None:
        on.append("_place")
    late = F.when(F.coalesce(dropped, F.lit(False)), F.lit("late_dropped"))
    cause = F.coalesce(F.col("_cause"), late, F.when(F.col("_copy"), F.lit("duplicate_event")))
    keys = [F.col(quoted(key)).alias(f"_by_{key}") for key in shared]
    by = [*[f"_by_{key}" for key in shared], *(["_place"] if "_place" in on else [])]
    blamed = pairs.withColumn("_why", cause).filter(F.col("_why").isNotNull())
    end = F.when(F.col("_why") == "late_dropped", _end_ms(job, source, rule, pairs)).alias("_end_ms")
    facts = [F.unix_millis(quoted(source.event_time)).alias("_event_ms"), event_id(source).alias("_id"), end]
    place_column = ["_place"] if "_place" in on else []
    blamed = blamed.select(*keys, *place_column, "_why", *_COORDINATES, *_READ, *facts)
    counts = [F.count_if(F.col("_why") == name).alias(f"_n_{name}") for name in EVENT_CAUSES]
    return Evidence(source.name, blamed, blamed.groupBy(*[quoted(name) for name in by]).agg(*counts), tuple(on))


def _end_ms(job: Job, source: Source, rule: LateRule, pairs: DataFrame) -> Column:
    """When what the event came too late for had ended, as `dropped_pairs` has it; null where nothing is late."""
    if rule == LateRule.of_windows(job) and "_start_ms" in pairs.columns:
        return F.col("_start_ms") + F.lit(job.window_ms)
    return floor_ms(end_us_of(source, rule))


def causes_of(differences: DataFrame, evidence: Sequence[Evidence]) -> DataFrame:
    """Add ``causes`` (cause to number of blamed events, zeros left out) to differing rows.

    Parameters
    ----------
    differences : DataFrame
        Rows with ``key`` and ``place`` (see `twinrun.explain.place`).
    """
    joined = differences
    for index, each in enumerate(evidence):
        joined = joined.join(each.counts, _of_row(each), "left")
        renamed = {f"_n_{name}": f"_n{index}_{name}" for name in EVENT_CAUSES}
        joined = joined.withColumnsRenamed(renamed).drop(*[c for c in each.counts.columns if c not in renamed])
    total = {
        name: sum((F.coalesce(f"_n{i}_{name}", F.lit(0)) for i in range(len(evidence))), F.lit(0))
        for name in EVENT_CAUSES
    }
    entries = [F.struct(F.lit(name), count.cast("bigint")) for name, count in total.items()]
    found = F.map_filter(F.map_from_entries(F.array(*entries)), lambda _, count: count > 0)
    used = [f"_n{index}_{name}" for index in range(len(evidence)) for name in EVENT_CAUSES]
    return joined.withColumn("causes", found).drop(*used)


def events_by_cause(blamed: DataFrame | None) -> dict[str, int]:
    """How many events proven rows blame, by cause; each counts once, in however many windows or rows it lies.

    Parameters
    ----------
    blamed : DataFrame, optional
        See `blamed_events`. One Spark job; none without it.
    """
    if blamed is None:
        return {}
    counted = blamed.groupBy("_why").agg(F.count_distinct("_source", *_COORDINATES).alias("events"))
    return {row["_why"]: row["events"] for row in counted.collect()}


def blamed_events(explained: DataFrame, evidence: Sequence[Evidence]) -> DataFrame | None:
    """The events that proven rows blame, named, with the row's `KEY_ID`; None where there is no evidence. Lazy."""
    parts = []
    for each in evidence:
        columns = ["_why", "_id", "_event_ms", "_end_ms", *_COORDINATES, *_READ]
        parts.append(with_blamed(explained, each).select(KEY_ID, F.lit(each.source).alias("_source"), *columns))
    return reduce(DataFrame.unionByName, parts) if parts else None


def events_of(job: Job, evidence: Sequence[Evidence]) -> Literal["row", "window", "any"]:
    """To what blamed events can be told to belong: a row, the window of a row, or neither."""
    keys = len([key for key in job.keys if key != job.window_column])
    placed = all("_place" in each.on for each in evidence) or not (job.windowed or job.shape == "session")
    if placed and all(len([name for name in each.on if name != "_place"]) == keys for each in evidence):
        return "row"
    return "window" if job.windowed else "any"


def with_blamed(explained: DataFrame, evidence: Evidence) -> DataFrame:
    """The rows once per event of one source that their causes blame, with ``_why`` and its coordinates. Lazy."""
    joined = explained.join(evidence.blamed, _of_row(evidence))
    return joined.filter(F.map_contains_key("causes", F.col("_why")))


def _of_row(evidence: Evidence) -> Column:
    """Condition: the blamed event belongs to the differing row, as far as its place and key fields tell."""
    condition = F.lit(True)
    for name in evidence.on:
        side = F.col("place") if name == "_place" else F.col("key")[name]
        condition = condition & side.eqNullSafe(F.col("_place" if name == "_place" else quoted(f"_by_{name}")))
    return condition
