"""What every proof of one verify stands on: the marked events, the static tables of both modes, and how they meet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from twinrun.config.model import Config
from twinrun.events.source import Source
from twinrun.explain.counterfactual import batch_rows, declared, seen_names
from twinrun.explain.evidence import Evidence, count_causes, mark_events, with_copies
from twinrun.explain.place import Place, place_of
from twinrun.explain.recording import Steps
from twinrun.explain.scope import Scope, only_their_time, placed
from twinrun.explain.sides import Sides
from twinrun.job.dataflow import Dataflow, LateRule
from twinrun.job.job import Job
from twinrun.job.lineage import unchanged_fields
from twinrun.job.passing import EVERY, Passage
from twinrun.results.cut import StreamCut
from twinrun.results.refusals import refusals_of, unused_by
from twinrun.results.state import BatchState, read_events
from twinrun.results.touched import TimeRange, events_of
from twinrun.tables.delta import read_table, table_exists
from twinrun.tables.static import read_static

_NEVER_MS = 253_402_300_799_000  # the last second of the year 9999


@dataclass(frozen=True)
class Material:
    """Events by source with `USED`, ``_cause``, ``_micro_batch`` and ``_late_ms``; and what is read from them.

    ``whole`` is the batch's result, recomputed from all events; ``ranges`` the windows that it was limited to.
    """

    marked: dict[str, DataFrame]
    ranges: list[TimeRange]
    stream_static: dict[str, DataFrame]
    batch_static: dict[str, DataFrame]
    static_differs: bool
    whole: DataFrame
    place: Place
    evidence: tuple[Evidence, ...]
    sides: Sides


def gather(
    spark: SparkSession,
    cfg: Config,
    job: Job,
    flow: Dataflow,
    cut: StreamCut,
    batch: BatchState,
    sides: Sides,
    ranges: list[TimeRange],
    needed: Needed | None = None,
) -> Material:
    """Mark the events of the given windows, those that rows need, or all events. One Spark job per source.

    With ``needed`` three more, two of them small.
    """
    marked = {}
    for source in job.sources:
        events = read_events(spark, cfg, source.name, batch)
        if ranges:
            events = events_of(events, job, ranges)
        if needed is not None:
            events = needed.scope.of_events(events, source.name)
        # Cut off from its plan: many later plans stand on it, and planning them anew costs more than their data.
        marked[source.name] = with_copies(_marked(spark, cfg, job, cut, source, events), source).localCheckpoint()
    if needed is not None and needed.span_us is not None:
        theirs = only_their_time(job, marked, needed.scope, needed.rows, needed.span_us)
        marked = {name: frame.localCheckpoint() for name, frame in theirs.items()}
    batch_static = read_static(spark, cfg, batch.static)
    return material_of(
        job,
        flow.rules,
        marked,
        Statics(batch_static, read_static(spark, cfg, cut.static), bool(job.tables) and cut.static != batch.static),
        sides,
        ranges,
        flow.passages,
    )


def marked_by_step(
    spark: SparkSession, cfg: Config, job: Job, cut: StreamCut, batch: BatchState, steps: Steps
) -> dict[str, DataFrame]:
    """By source under a watermark, all events as `mark_events` marks them, by steps as micro-batches. Lazy."""
    log = (
        cut.micro_batches.join(steps.places, "micro_batch")
        .groupBy("place")
        .agg(*[F.max_by(name, "micro_batch").alias(name) for name in ("watermark_ms", "started_at_ms", "end_offsets")])
    )
    by_step = replace(
        cut,
        micro_batches=log.withColumnRenamed("place", "micro_batch").localCheckpoint(),
        committed=replace(cut.committed, micro_batch=len(steps.each) - 1),
    )
    found = {}
    for source in job.sources:
        if source.lateness_ms is None:
            continue
        events = read_events(spark, cfg, source.name, batch)
        if refused_by_stream(spark, cfg, job, source.name, cut) is None:
            found[source.name] = _marked(spark, cfg, job, by_step, source, events)
        else:  # what the stream had refused depends on when the micro-batch itself began
            found[source.name] = placed(_marked(spark, cfg, job, cut, source, events), steps)
    return found


def _marked(spark: SparkSession, cfg: Config, job: Job, cut: StreamCut, source: Source, events: DataFrame) -> DataFrame:
    refused = refused_by_stream(spark, cfg, job, source.name, cut)
    return mark_events(events, refused, source.name, cut, cfg.source(source.name).topic)


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


def material_of(
    job: Job,
    rules: dict[str, LateRule],
    marked: dict[str, DataFrame],
    statics: Statics,
    sides: Sides,
    ranges: list[TimeRange],
    passages: Mapping[str, Passage] = MappingProxyType({}),
) -> Material:
    """Put together what stands on marked events; lazy but for sessions, which are materialised."""
    batch_static = statics.batch
    whole = batch_rows(job, marked, batch_static)
    seen = {source.name: declared(marked[source.name], seen_names(source)) for source in job.sources}
    plain = job.apply({**seen, **batch_static})
    fields = {name: unchanged_fields(plain, frame, job.keys) for name, frame in marked.items()}
    if job.shape == "session":
        # Materialised: Spark pushes filters, and even a distinct, below the merging of sessions, which undoes it.
        whole = whole.localCheckpoint()
    place = place_of(job, fields, whole)
    evidence = tuple(
        count_causes(marked[s.name], job, s, rules[s.name], place, passages.get(s.name, EVERY)) for s in job.sources
    )
    return Material(
        marked=marked,
        ranges=ranges,
        stream_static=statics.stream,
        batch_static=batch_static,
        static_differs=statics.differ,
        whole=whole,
        place=place,
        evidence=evidence,
        sides=sides,
    )


def refused_by_stream(spark: SparkSession, cfg: Config, job: Job, source: str, cut: StreamCut) -> DataFrame | None:
    """What the stream did not use though it read it: `requeued`, and what the job left out when it was read.

    Of the latter ``_requeued_at`` lies after every micro-batch, whenever the user took it back: an entry that was not
    passed by this query is not among them. Lazy but for one small Spark job.
    """
    found = requeued(spark, cfg, source)
    entries = refusals_of(spark, cfg, job.job_name)
    places = unused_by(cfg, job, entries, cut.query_id).get(source, [])
    if not places:
        return found
    topic = cfg.source(source).topic
    rows = [(topic, partition, offset) for partition, offset in places]
    frame = spark.createDataFrame(rows, "_topic STRING, _partition INT, _offset BIGINT")
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
