"""Events that the stream dropped as late: named one by one, with the watermark that closed their window."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from twinrun.events.json_ import quoted
from twinrun.job.job import Job
from twinrun.results.touched import window_starts


def drops_late(job: Job) -> bool:
    """Whether the stream of this job drops late events at all: only windowed operators under a watermark do."""
    return job.windowed and job.sources[0].lateness_ms is not None


def is_dropped(window_end_ms: Column) -> Column:
    """The rule: the window had ended at or before the watermark of the previous micro-batch."""
    return window_end_ms <= F.col("_late_ms")


def late_rows(events: DataFrame, job: Job, query_id: str) -> DataFrame:
    """One row per dropped (event, window): the rows of the ``late_events`` table. Lazy.

    Parameters
    ----------
    events : DataFrame
        Events with ``_micro_batch`` and ``_late_ms`` (see `twinrun.explain.assign`); those that the stream did not
        read are left out.

    Returns
    -------
    DataFrame
        ``late_ms`` is how long the window had been closed, in milliseconds, 0 or more.
    """
    source = job.sources[0]
    pairs = events.filter(F.col("_micro_batch").isNotNull()).withColumn(
        "_start_ms", F.explode(window_starts(job, source.event_time))
    )
    end_ms = F.col("_start_ms") + F.lit(job.window_ms)
    named = [F.col(quoted(name)) for name in source.id]
    return pairs.filter(is_dropped(end_ms)).select(
        F.lit(query_id).alias("query_id"),
        F.lit(job.job_name).alias("job"),
        F.lit(source.name).alias("source"),
        (F.to_json(F.struct(*named)) if named else F.lit("{}")).alias("id"),
        F.col("_topic").alias("topic"),
        F.col("_partition").alias("partition"),
        F.col("_offset").alias("offset"),
        F.unix_millis(F.col(quoted(source.event_time))).alias("event_time_ms"),
        F.unix_millis("_kafka_timestamp").alias("known_at_ms"),
        F.col("_start_ms").alias("window_start_ms"),
        end_ms.alias("window_end_ms"),
        F.col("_late_ms").alias("watermark_ms"),
        F.col("_micro_batch").alias("micro_batch"),
        (F.col("_late_ms") - end_ms).alias("late_ms"),
    )
