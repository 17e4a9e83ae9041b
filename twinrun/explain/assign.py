"""Which micro-batch read an event, and the watermark that it was judged by.

The rules are those of Spark's watermark (tried over 16 operators): micro-batch b drops by the watermark of micro-batch
b - 1, micro-batches without data included, and 0 before the first. Watermarks come from the log, never from event
times.
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame, SparkSession, Window, WindowSpec
from pyspark.sql import functions as F

from twinrun.comparator.frame import sent
from twinrun.config.model import Config
from twinrun.events.json_ import quoted
from twinrun.events.source import Source
from twinrun.job.passing import EVERY, Passage
from twinrun.results.cut import StreamCut
from twinrun.results.state import BatchState, read_events
from twinrun.tables.offsets import Offsets

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


def newest_events(
    spark: SparkSession, cfg: Config, cut: StreamCut, batch: BatchState, source: Source, passage: Passage = EVERY
) -> DataFrame:
    """Newest event time of a source by micro-batch, null for events that the stream did not read. Lazy.

    Columns: ``micro_batch``, ``newest_ms`` (epoch ms). Only events count that move the watermark.
    """
    events = passage.moving(read_events(spark, cfg, source.name, batch))
    read = with_micro_batch(events, cut, cfg.source(source.name).topic, cut.start[source.name])
    newest = F.max(F.unix_millis(F.col(quoted(source.event_time)))).alias("newest_ms")
    return read.groupBy(F.col("_micro_batch").alias("micro_batch")).agg(newest)
