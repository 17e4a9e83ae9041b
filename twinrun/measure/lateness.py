"""What a stream would have kept at other latenesses: under the load, and where events come at their own pace."""

from __future__ import annotations

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from twinrun.config.model import Config
from twinrun.errors import JobError
from twinrun.job.job import Job
from twinrun.measure.arms import Arm
from twinrun.measure.freshness import due_events, newest_before_us
from twinrun.measure.results import AtLateness, Lateness
from twinrun.results.cut import window_starts
from twinrun.results.state import BatchState
from twinrun.whatif.whatif import what_if


def lateness_of(spark: SparkSession, cfg: Config, job: Job, batch: BatchState, arm: Arm) -> Lateness | None:
    """Completeness at each lateness of `twinrun.whatif`, of a stream that has ended. About a dozen Spark jobs.

    An event counts as lost where it is dropped from one of its windows at least.

    Returns
    -------
    Lateness or None
        None for a job whose stream drops nothing.
    """
    try:
        found = what_if(spark, cfg, job)
    except JobError:
        return None
    grid = [point.lateness_ms for point in found.points]
    alone: dict[int, int | None] = dict.fromkeys(grid)
    due = 0
    if job.windowed:
        needs = own_pace_needs(due_events(spark, cfg, job, batch), job)
        lost = [F.count_if(F.col("_need_us") >= F.lit(at * 1000)).alias(f"l{at}") for at in grid]
        row = needs.agg(F.count(F.lit(1)).alias("due"), *lost).collect()[0]
        due, alone = int(row["due"]), {at: int(row[f"l{at}"]) for at in grid}
    points = tuple(AtLateness(point.lateness_ms, point.lost, alone[point.lateness_ms]) for point in found.points)
    return Lateness(arm, found.events, due, found.recorded_ms, points)


def own_pace_needs(events: DataFrame, job: Job) -> DataFrame:
    """Add ``_need_us``: any lateness up to this drops the event from its first window, were it read alone. Lazy.

    As if each event were a micro-batch of its own, in the order of their due times; more of them lose no more.
    """
    starts = window_starts(job, job.sources[0].event_time or "")
    first_end_us = (F.array_min(starts) + F.lit(job.window_ms or 0)) * F.lit(1000)
    return events.withColumn("_need_us", newest_before_us(job) - first_end_us)
