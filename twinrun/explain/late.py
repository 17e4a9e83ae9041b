"""Events that the stream dropped as late: named one by one, with the watermark that closed their window."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from twinrun.events.json_ import quoted
from twinrun.events.source import Source
from twinrun.explain.differing import EXACT_TIMES
from twinrun.job.dataflow import LateRule
from twinrun.results.touched import floor_ms, starts_us_of

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
        Events with ``_micro_batch`` and ``_late_ms`` (see `twinrun.explain.assign`); those that the stream did not
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
