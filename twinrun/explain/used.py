"""Which events the stream used and which it dropped as late, and the batch's function over exactly those it used."""

from __future__ import annotations

from functools import reduce

from pyspark.sql import Column, DataFrame, Window, WindowSpec
from pyspark.sql import functions as F

from twinrun.comparator.digest import sent
from twinrun.events.decode import distinct_in_batch, event_schema
from twinrun.events.exact import EXACT_TIMES, quoted
from twinrun.events.source import Source
from twinrun.job.dataflow import LateRule
from twinrun.job.job import Job
from twinrun.job.passing import EVERY, Passage
from twinrun.results.cut import Context, StreamCut, floor_ms, starts_us_of
from twinrun.results.state import read_events
from twinrun.tables.checkpoint import Offsets

# Which micro-batch read an event, and the watermark that it was judged by.
#
# The rules are those of Spark's watermark (tried over 16 operators): micro-batch b drops by the watermark of micro-
# batch b - 1, micro-batches without data included, and 0 before the first. Watermarks come from the log, never from
# event times.


_BIN_OFFSETS = 1_000


def dropping_watermark(in_order: WindowSpec) -> Column:
    """The watermark by which a micro-batch drops: that of the one before it, 0 before the first."""
    return F.coalesce(F.lag("watermark_ms").over(in_order), F.lit(0))


def intervals(cut: StreamCut, topic: str, start: Offsets) -> DataFrame:
    """Offsets that each micro-batch read, per partition of one topic: half-open, empty ones left out.

    Columns: ``_p`` (partition), ``_from``, ``_to``, ``_micro_batch``, ``_late_ms`` (watermark that it dropped by),
    ``_read_at_ms``.
    """
    in_order = Window.orderBy("micro_batch")
    # In a step of its own: next to an explode, lag would count the exploded rows.
    lagged = cut.micro_batches.withColumn("_late_ms", dropping_watermark(in_order))
    judged = lagged.select(
        "micro_batch",
        "_late_ms",
        F.col("started_at_ms").alias("_read_at_ms"),
        F.explode(F.filter("end_offsets", lambda end: end["topic"] == topic)).alias("end"),
    )
    first = F.coalesce(*[F.when(F.col("end.partition") == p, F.lit(offset)) for p, offset in start.items()], F.lit(0))
    per_partition = Window.partitionBy("end.partition").orderBy("micro_batch")
    reached = judged.select(
        F.col("end.partition").alias("_p"),
        F.coalesce(F.lag("end.offset").over(per_partition), first.cast("bigint")).alias("_from"),
        F.col("end.offset").alias("_to"),
        F.col("micro_batch").alias("_micro_batch"),
        "_late_ms",
        "_read_at_ms",
    )
    return reached.filter(F.col("_to") > F.col("_from"))


def with_micro_batch(events: DataFrame, cut: StreamCut, topic: str, start: Offsets) -> DataFrame:
    """Add ``_micro_batch``, ``_late_ms`` and ``_read_at_ms`` to events; null for those that the stream did not read.

    A range join, made an equality join by cutting offsets into bins. Lazy.
    """
    bins = F.sequence(F.floor(F.col("_from") / _BIN_OFFSETS), F.floor((F.col("_to") - 1) / _BIN_OFFSETS))
    read = intervals(cut, topic, start).withColumn("_bin", F.explode(bins))
    inside = (F.col("_offset") >= F.col("_from")) & (F.col("_offset") < F.col("_to"))
    same = (F.col("_partition") == F.col("_p")) & (F.floor(F.col("_offset") / _BIN_OFFSETS) == F.col("_bin"))
    # Known without a job: a row for each micro-batch and partition, and one more for each bin that it reaches into.
    ends = [end for partitions in cut.end.values() for end in partitions.values()]
    most = (cut.committed.micro_batch + 1) * len(ends) + sum(ends) // _BIN_OFFSETS
    return events.join(sent(read, most), same & inside, "left").drop("_p", "_from", "_to", "_bin")


def newest_events(ctx: Context, source: Source, passage: Passage = EVERY) -> DataFrame:
    """Newest event time of a source by micro-batch, null for events that the stream did not read. Lazy.

    Columns: ``micro_batch``, ``newest_ms`` (epoch ms). Only events count that move the watermark.
    """
    events = passage.moving(read_events(ctx.spark, ctx.cfg, source.name, ctx.batch))
    read = with_micro_batch(events, ctx.cut, ctx.cfg.source(source.name).topic, ctx.cut.start[source.name])
    newest = F.max(F.unix_millis(F.col(quoted(source.event_time)))).alias("newest_ms")
    return read.groupBy(F.col("_micro_batch").alias("micro_batch")).agg(newest)


# Events that the stream dropped as late: named one by one, with the watermark that closed their window.


PASSED_FROM = "_passed_from_ms"
"""Beside the table's columns: the first whole millisecond, as a watermark has them, that had passed a window's end."""


def is_dropped(end_us: Column) -> Column:
    """The rule: what the event belongs to had ended at or before the watermark of the previous micro-batch.

    In microseconds, as event times have them (tried in steps of one, per operator): an event half a millisecond after
    the watermark is not late.
    """
    return end_us <= F.col("_late_ms") * F.lit(1000)


def end_us_of(source: Source, rule: LateRule) -> Column:
    """When (epoch µs) the first of what the event belongs to ends, by its first stateful operator; null for ``none``.

    An event that is in time for that is in time for all of it.
    """
    moment = F.unix_micros(F.col(quoted(source.event_time)))
    if rule.kind == "window":
        starts = starts_us_of(source.event_time, rule.window_us or 0, rule.slide_us or 1)
        return F.array_min(starts) + F.lit(rule.window_us)
    if rule.kind == "session":
        return moment + F.lit(rule.gap_us)
    return moment if rule.kind == "time" else F.lit(None).cast("bigint")


def event_dropped(source: Source, rule: LateRule) -> Column:
    """Whether the first stateful operator dropped the event, from one of its windows at least; never null."""
    return F.coalesce(is_dropped(end_us_of(source, rule)), F.lit(False))


def dropped_pairs(events: DataFrame, source: Source, rule: LateRule) -> DataFrame:
    """One row per dropped event, per window where the rule goes by windows; lazy.

    Parameters
    ----------
    events : DataFrame
        Events with ``_late_ms``; null there means not read by the stream, which is not dropped.

    Returns
    -------
    DataFrame
        The events with ``_start_ms`` and ``_end_ms`` of what they came too late for, in whole milliseconds at or before
        it (``_start_ms`` is null where the operator goes by the event time alone).
    """
    start, end = F.lit(None).cast("bigint"), end_us_of(source, rule)
    if rule.kind == "window":
        starts = starts_us_of(source.event_time, rule.window_us or 0, rule.slide_us or 1)
        events = events.withColumn("_start_us", F.explode(starts))
        start, end = F.col("_start_us"), F.col("_start_us") + F.lit(rule.window_us)
    elif rule.kind == "session":
        start = F.unix_micros(F.col(quoted(source.event_time)))
    dropped = events.filter(is_dropped(end))
    ends = {"_start_ms": floor_ms(start), "_end_ms": floor_ms(end), PASSED_FROM: floor_ms(end + F.lit(999))}
    return dropped.withColumns(ends).drop("_start_us")


def event_id(source: Source) -> Column:
    """The fields that name an event, as JSON text with times to the microsecond; ``{}`` where none is declared."""
    named = [F.col(quoted(name)) for name in source.id]
    return F.to_json(F.struct(*named), EXACT_TIMES) if named else F.lit("{}")


def late_rows(events: DataFrame, job_name: str, source: Source, rule: LateRule, query_id: str) -> DataFrame:
    """One row per dropped (event, window): the rows of the ``late_events`` table, and `PASSED_FROM`. Lazy.

    Parameters
    ----------
    events : DataFrame
        Events with ``_micro_batch`` and ``_late_ms`` (see `twinrun.explain.used`); those that the stream did not
        read are left out.

    Returns
    -------
    DataFrame
        ``late_ms`` is how long the window (session, or event time) had been passed, rounded up to milliseconds: 0 where
        it ended exactly with the watermark.
    """
    dropped = dropped_pairs(events.filter(F.col("_micro_batch").isNotNull()), source, rule)
    return dropped.select(
        F.lit(query_id).alias("query_id"),
        F.lit(job_name).alias("job"),
        F.lit(source.name).alias("source"),
        event_id(source).alias("id"),
        F.col("_topic").alias("topic"),
        F.col("_partition").alias("partition"),
        F.col("_offset").alias("offset"),
        F.unix_millis(F.col(quoted(source.event_time))).alias("event_time_ms"),
        F.unix_millis("_kafka_timestamp").alias("known_at_ms"),
        F.col("_start_ms").alias("window_start_ms"),
        F.col("_end_ms").alias("window_end_ms"),
        F.col("_late_ms").alias("watermark_ms"),
        F.col("_micro_batch").alias("micro_batch"),
        (F.col("_late_ms") - F.col("_end_ms")).alias("late_ms"),
        PASSED_FROM,
    )


# The proof: the batch's own function over exactly the events that the stream used must give the stream's rows.
#
# Tumbling and sliding windows need no look into the function. The windows whose index leaves the same remainder when
# divided by (window / slide, rounded up) do not overlap, so for those alone an event lies in at most one window, and
# the rule "drop the pair (event, window)" becomes a filter on events. The function runs once per remainder (once for
# tumbling windows) and only the rows of its windows are taken.


USED = "_stream_used"
"""Boolean column of marked events: inside the stream's offsets and not refused by its decoder."""


def declared(events: DataFrame, names: list[str]) -> DataFrame:
    """Exactly the columns that the job's function sees."""
    return events.select(*[F.col(quoted(name)) for name in names])


def stream_rows(job: Job, marked: DataFrame, statics: dict[str, DataFrame]) -> DataFrame:
    """What the stream must have emitted, computed by the job's function in batch. Lazy.

    Only for a job of one source whose dataflow has a closed form, see `twinrun.job.dataflow`.

    Parameters
    ----------
    marked : DataFrame
        Events with `USED` and ``_late_ms``.
    """
    source = job.sources[0]
    names = seen_names(source)
    used = marked.filter(F.col(USED))
    if not job.windowed:
        return without_deleted(job, job.apply({source.name: declared(used, names), **statics}))
    parts = []
    for phase in range(phases(job)):
        start_ms = phase_start(job, source.event_time, phase)
        end_ms = start_ms + F.lit(job.window_ms)
        in_window = F.unix_millis(F.col(quoted(source.event_time))) < end_ms
        late = is_dropped(end_ms * F.lit(1000)) if source.lateness_ms is not None else F.lit(False)
        kept = used.filter(in_window & ~late)
        rows = job.apply({source.name: declared(kept, names), **statics})
        index = F.floor(F.unix_millis(F.col(quoted(job.window_column))) / (job.slide_ms or 1))
        parts.append(rows.filter(F.pmod(index, F.lit(phases(job))) == phase))
    return without_deleted(job, reduce(DataFrame.unionByName, parts))


def batch_rows(job: Job, events: dict[str, DataFrame], statics: dict[str, DataFrame]) -> DataFrame:
    """What the batch must have written from all of its events, by source. Lazy."""
    frames = {
        source.name: distinct_in_batch(declared(events[source.name], seen_names(source)), source)
        for source in job.sources
    }
    return without_deleted(job, job.apply({**frames, **statics}))


def seen_names(source: Source) -> list[str]:
    """Names of the columns that the function sees of a source."""
    return [field.name for field in event_schema(source)]


def phases(job: Job) -> int:
    """How many sets of windows that do not overlap make up all windows: 1 for tumbling."""
    return -(-(job.window_ms or 1) // (job.slide_ms or 1))


def phase_start(job: Job, event_time: str, phase: int) -> Column:
    """Start (epoch ms) of the one window of this phase that could hold the event."""
    index = F.floor(F.unix_millis(F.col(quoted(event_time))) / (job.slide_ms or 1))
    return (index - F.pmod(index - phase, F.lit(phases(job)))) * F.lit(job.slide_ms)


def without_deleted(job: Job, rows: DataFrame) -> DataFrame:
    """Rows that ``delete_when`` does not remove. Lazy."""
    return rows.filter(~F.coalesce(F.expr(job.delete_when), F.lit(False))) if job.delete_when else rows
