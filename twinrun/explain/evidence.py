"""Each event of the differing rows marked (used by the stream, or not and why), and where the findings are kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import DateType, DecimalType, TimestampNTZType, TimestampType

from twinrun.config.model import Config
from twinrun.events.decode import copies_kept
from twinrun.events.exact import EXACT_TIMES, quoted
from twinrun.events.source import PLACE, Source
from twinrun.explain.differing import KEY_ID, Matching, Sides, matching_of
from twinrun.explain.used import (
    USED,
    batch_rows,
    declared,
    end_us_of,
    event_dropped,
    event_id,
    is_dropped,
    seen_names,
    with_micro_batch,
)
from twinrun.job.dataflow import LateRule
from twinrun.job.job import Job
from twinrun.job.jvmplan import unchanged_fields
from twinrun.job.passing import EVERY, Passage
from twinrun.results.cut import Context, StreamCut, TimeRange, events_in, floor_ms, window_starts
from twinrun.results.records import refusals_of, unused_by
from twinrun.results.state import read_events
from twinrun.tables.checkpoint import at_or_after, before
from twinrun.tables.delta import append, read_table, table_exists
from twinrun.tables.static import read_static

if TYPE_CHECKING:
    from twinrun.explain.replay import Steps
    from twinrun.explain.scope import Scope

# The table ``differences``: every differing row of every verify, with its verdict and causes.


def keep(
    spark: SparkSession, cfg: Config, job: Job, verify_id: str, judged: DataFrame, table: str = "differences"
) -> DataFrame:
    """Append judged rows and return them as they were written, at hand. One Spark job.

    ``verify_id`` is new for each verify: its rows are nobody else's.
    """
    ref = cfg.table(table)
    rows = judged.select(
        F.lit(verify_id).alias("verify_id"),
        F.lit(job.job_name).alias("job"),
        KEY_ID,
        (F.col("window") if job.windowed else F.lit(None)).cast("timestamp").alias("window_start"),
        "kind",
        "copy",
        "columns",
        as_text(judged, "batch").alias("batch"),
        as_text(judged, "stream").alias("stream"),
        "verdict",
        F.col("causes").cast("map<string,bigint>").alias("causes"),
    )
    rows = rows.localCheckpoint(eager=False)
    append(rows, ref, fenced=False)
    return rows


def as_text(frame: DataFrame, side: str) -> Column:
    """A side's row as JSON: decimals and times as text, so that no digit is lost; null where the side has no row."""
    struct = frame.select(f"{side}.*").schema
    exact = (DecimalType, TimestampType, TimestampNTZType, DateType)
    names = [field.name for field in struct if isinstance(field.dataType, exact)]
    cells = [
        (F.col(side)[field.name].cast("string") if field.name in names else F.col(side)[field.name]).alias(field.name)
        for field in struct
    ]
    return F.when(F.col(side).isNotNull(), F.to_json(F.struct(*cells), EXACT_TIMES))


# Mark each event of the differing windows: did the stream use it, and if not, for which cause.


EVENT_CAUSES = ("before_start", "beyond_cut", "quarantined", "late_dropped", "duplicate_event")
"""Causes about events, in the order in which an event is given to the first that holds."""
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
        later = requeued.select(*PLACE, F.unix_millis("_requeued_at").alias("_requeued_ms"))
        read = read.join(later, [*PLACE], "left")
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
    return marked.join(copies, [*PLACE], "left").withColumn("_copy", F.coalesce("_copy", F.lit(False)))


def count_causes(
    marked: DataFrame, job: Job, source: Source, rule: LateRule, matching: Matching, passage: Passage = EVERY
) -> Evidence:
    """Blamed events of one source per place and per key that is a field of the events; lazy.

    Only those that would have reached the result: what the job filters away makes no difference. The counts say which
    events are blamed; the proof is the recomputation, not the count.
    """
    marked = passage.reaching(marked)
    shared = [key for key in job.keys if key in matching.fields[source.name] - {source.event_time}]
    dropped = event_dropped(source, rule)
    pairs, on = marked, [*shared]
    if job.windowed:
        pairs = marked.withColumn("_start_ms", F.explode(window_starts(job, source.event_time)))
        pairs = pairs.withColumn("_place", F.timestamp_millis("_start_ms"))
        if rule == LateRule.of_windows(job):
            dropped = is_dropped((F.col("_start_ms") + F.lit(job.window_ms)) * F.lit(1000))
    elif matching.sessions is not None:
        pairs = matching.of_events(marked, source)
    if job.windowed or matching.sessions is not None:
        on.append("_place")
    late = F.when(F.coalesce(dropped, F.lit(False)), F.lit("late_dropped"))
    cause = F.coalesce(F.col("_cause"), late, F.when(F.col("_copy"), F.lit("duplicate_event")))
    keys = [F.col(quoted(key)).alias(f"_by_{key}") for key in shared]
    by = [*[f"_by_{key}" for key in shared], *(["_place"] if "_place" in on else [])]
    blamed = pairs.withColumn("_why", cause).filter(F.col("_why").isNotNull())
    end = F.when(F.col("_why") == "late_dropped", _end_ms(job, source, rule, pairs)).alias("_end_ms")
    facts = [F.unix_millis(quoted(source.event_time)).alias("_event_ms"), event_id(source).alias("_id"), end]
    place_column = ["_place"] if "_place" in on else []
    blamed = blamed.select(*keys, *place_column, "_why", *PLACE, *_READ, *facts)
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
        Rows with ``key`` and ``place`` (see `twinrun.explain.differing`).
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
    counted = blamed.groupBy("_why").agg(F.count_distinct("_source", *PLACE).alias("events"))
    return {row["_why"]: row["events"] for row in counted.collect()}


def blamed_events(explained: DataFrame, evidence: Sequence[Evidence]) -> DataFrame | None:
    """The events that proven rows blame, named, with the row's `KEY_ID`; None where there is no evidence. Lazy."""
    parts = []
    for each in evidence:
        columns = ["_why", "_id", "_event_ms", "_end_ms", *PLACE, *_READ]
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


# What every proof of one verify stands on: the marked events, the static tables of both modes, and how they meet.


_NEVER_MS = 253_402_300_799_000  # the last second of the year 9999


@dataclass(frozen=True)
class ProofInputs:
    """Events by source with `USED`, ``_cause``, ``_micro_batch`` and ``_late_ms``; and what is read from them.

    ``whole`` is the batch's result, recomputed from all events; ``ranges`` the windows that it was limited to.
    """

    marked: dict[str, DataFrame]
    ranges: list[TimeRange]
    stream_static: dict[str, DataFrame]
    batch_static: dict[str, DataFrame]
    static_differs: bool
    whole: DataFrame
    matching: Matching
    evidence: tuple[Evidence, ...]
    sides: Sides


def gather(ctx: Context, sides: Sides, ranges: list[TimeRange], needed: Needed | None = None) -> ProofInputs:
    """Mark the events of the given windows, those that rows need, or all events. One Spark job per source.

    With ``needed`` three more, two of them small.
    """
    marked = {}
    for source in ctx.job.sources:
        events = read_events(ctx.spark, ctx.cfg, source.name, ctx.batch)
        if ranges:
            events = events_in(events, ctx.job, ranges)
        if needed is not None:
            events = needed.scope.of_events(events, source.name)
        # Cut off from its plan: many later plans stand on it, and planning them anew costs more than their data.
        marked[source.name] = with_copies(_marked(ctx, source, events), source).localCheckpoint()
    if needed is not None and needed.span_us is not None:
        from twinrun.explain.scope import only_their_time

        theirs = only_their_time(ctx.job, marked, needed.scope, needed.rows, needed.span_us)
        marked = {name: frame.localCheckpoint() for name, frame in theirs.items()}
    batch_static = read_static(ctx.spark, ctx.cfg, ctx.batch.static)
    return proof_inputs_of(
        ctx.job,
        ctx.flow.rules,
        marked,
        Statics(
            batch_static,
            read_static(ctx.spark, ctx.cfg, ctx.cut.static),
            bool(ctx.job.tables) and ctx.cut.static != ctx.batch.static,
        ),
        sides,
        ranges,
        ctx.flow.passages,
    )


def marked_by_step(ctx: Context, steps: Steps) -> dict[str, DataFrame]:
    """By source under a watermark, all events as `mark_events` marks them, by steps as micro-batches. Lazy."""
    from twinrun.explain.scope import placed

    log = (
        ctx.cut.micro_batches.join(steps.places, "micro_batch")
        .groupBy("place")
        .agg(*[F.max_by(name, "micro_batch").alias(name) for name in ("watermark_ms", "started_at_ms", "end_offsets")])
    )
    cut = replace(
        ctx.cut,
        micro_batches=log.withColumnRenamed("place", "micro_batch").localCheckpoint(),
        committed=replace(ctx.cut.committed, micro_batch=len(steps.each) - 1),
    )
    by_step = replace(ctx, cut=cut)
    found = {}
    for source in ctx.job.sources:
        if source.lateness_ms is None:
            continue
        events = read_events(ctx.spark, ctx.cfg, source.name, ctx.batch)
        if refused_by_stream(ctx, source.name) is None:
            found[source.name] = _marked(by_step, source, events)
        else:  # what the stream had refused depends on when the micro-batch itself began
            found[source.name] = placed(_marked(ctx, source, events), steps)
    return found


def _marked(ctx: Context, source: Source, events: DataFrame) -> DataFrame:
    refused = refused_by_stream(ctx, source.name)
    return mark_events(events, refused, source.name, ctx.cut, ctx.cfg.source(source.name).topic)


@dataclass(frozen=True)
class Needed:
    """Which events rows need: those of a scope, and where ``span_us`` is known only those near them in time.

    ``rows``: with ``key``. See `twinrun.explain.scope`.
    """

    scope: Scope
    rows: DataFrame
    span_us: int | None


@dataclass(frozen=True)
class Statics:
    """The static tables that each mode joined, and whether their versions differ."""

    batch: dict[str, DataFrame]
    stream: dict[str, DataFrame]
    differ: bool = False


def proof_inputs_of(
    job: Job,
    rules: dict[str, LateRule],
    marked: dict[str, DataFrame],
    statics: Statics,
    sides: Sides,
    ranges: list[TimeRange],
    passages: Mapping[str, Passage] = MappingProxyType({}),
) -> ProofInputs:
    """Put together what stands on marked events; lazy but for sessions, which are materialised."""
    batch_static = statics.batch
    whole = batch_rows(job, marked, batch_static)
    seen = {source.name: declared(marked[source.name], seen_names(source)) for source in job.sources}
    plain = job.apply({**seen, **batch_static})
    fields = {name: unchanged_fields(plain, frame, job.keys) for name, frame in marked.items()}
    if job.shape == "session":
        # Materialised: Spark pushes filters, and even a distinct, below the merging of sessions, which undoes it.
        whole = whole.localCheckpoint()
    matching = matching_of(job, fields, whole)
    evidence = tuple(
        count_causes(marked[s.name], job, s, rules[s.name], matching, passages.get(s.name, EVERY)) for s in job.sources
    )
    return ProofInputs(
        marked=marked,
        ranges=ranges,
        stream_static=statics.stream,
        batch_static=batch_static,
        static_differs=statics.differ,
        whole=whole,
        matching=matching,
        evidence=evidence,
        sides=sides,
    )


def refused_by_stream(ctx: Context, source: str) -> DataFrame | None:
    """What the stream did not use though it read it: `requeued`, and what the job left out when it was read.

    Of the latter ``_requeued_at`` lies after every micro-batch, whenever the user took it back: an entry that was not
    passed by this query is not among them. Lazy but for one small Spark job.
    """
    found = requeued(ctx.spark, ctx.cfg, source)
    entries = refusals_of(ctx.spark, ctx.cfg, ctx.job.job_name)
    places = unused_by(ctx.cfg, ctx.job, entries, ctx.cut.query_id).get(source, [])
    if not places:
        return found
    topic = ctx.cfg.source(source).topic
    rows = [(topic, partition, offset) for partition, offset in places]
    frame = ctx.spark.createDataFrame(rows, "_topic STRING, _partition INT, _offset BIGINT")
    mine = frame.withColumn("_requeued_at", F.timestamp_millis(F.lit(_NEVER_MS)))
    if found is None:
        return mine
    both = found.select(*mine.columns).unionByName(mine)
    return both.groupBy("_topic", "_partition", "_offset").agg(F.max("_requeued_at").alias("_requeued_at"))


def requeued(spark: SparkSession, cfg: Config, source: str) -> DataFrame | None:
    """Records that left quarantine later than they were refused; None where nothing ever was. Lazy."""
    ref = cfg.table("quarantine", source=source)
    if not table_exists(spark, ref):
        return None
    return read_table(spark, ref).filter(F.col("_requeued_at").isNotNull())
