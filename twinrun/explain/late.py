"""Events that the stream dropped as late: named one by one, with the watermark that closed their window."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from twinrun.events.json_ import quoted
from twinrun.events.source import Source
from twinrun.job.dataflow import LateRule
from twinrun.results.touched import starts_of


def is_dropped(end_ms: Column) -> Column:
    """The rule: what the event belongs to had ended at or before the watermark of the previous micro-batch."""
    return end_ms <= F.col("_late_ms")


def dropped_pairs(events: DataFrame, source: Source, rule: LateRule) -> DataFrame:
    """One row per dropped event, per window where the rule goes by windows; lazy.

    Parameters
    ----------
    events : DataFrame
        Events with ``_late_ms``; null there means not read by the stream, which is not dropped.

    Returns
    -------
    DataFrame
        The events with ``_start_ms`` and ``_end_ms`` of what they came too late for (``_start_ms`` is null where the
        operator goes by the event time alone).
    """
    moment = F.unix_millis(F.col(quoted(source.event_time)))
    if rule.kind == "window":
        starts = starts_of(source.event_time, rule.window_ms or 0, rule.slide_ms or 1)
        pairs = events.withColumn("_start_ms", F.explode(starts))
        pairs = pairs.withColumn("_end_ms", F.col("_start_ms") + F.lit(rule.window_ms))
    elif rule.kind == "session":
        pairs = events.withColumns({"_start_ms": moment, "_end_ms": moment + F.lit(rule.gap_ms)})
    else:
        pairs = events.withColumns({"_start_ms": F.lit(None).cast("bigint"), "_end_ms": moment})
    return pairs.filter(F.lit(rule.kind != "none") & is_dropped(F.col("_end_ms")))


def late_rows(events: DataFrame, job_name: str, source: Source, rule: LateRule, query_id: str) -> DataFrame:
    """One row per dropped (event, window): the rows of the ``late_events`` table. Lazy.

    Parameters
    ----------
    events : DataFrame
        Events with ``_micro_batch`` and ``_late_ms`` (see `twinrun.explain.assign`); those that the stream did not
        read are left out.

    Returns
    -------
    DataFrame
        ``late_ms`` is how long the window (session, or event time) had been passed, in milliseconds, 0 or more.
    """
    named = [F.col(quoted(name)) for name in source.id]
    dropped = dropped_pairs(events.filter(F.col("_micro_batch").isNotNull()), source, rule)
    return dropped.select(
        F.lit(query_id).alias("query_id"),
        F.lit(job_name).alias("job"),
        F.lit(source.name).alias("source"),
        (F.to_json(F.struct(*named)) if named else F.lit("{}")).alias("id"),
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
    )
