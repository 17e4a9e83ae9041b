"""Clicks per page and minute, updated while the minute is open; late clicks are dropped."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from twinrun import Job, Source

CLICKS = Source(
    "clicks",
    schema="id STRING NOT NULL, at BIGINT NOT NULL, page STRING NOT NULL, amount DECIMAL(10,2), weight DOUBLE",
    event_time="at",
    lateness="10 seconds",
    max_ahead="1 hour",
    id=["id"],
    ranges={"amount": (0, None)},
)


def minutes_so_far(clicks: DataFrame) -> DataFrame:
    """Clicks so far per page and minute."""
    grouped = clicks.groupBy("page", F.window("at", "1 minute")).agg(F.count(F.lit(1)).alias("clicks"))
    return grouped.select("page", F.col("window.start").alias("window_start"), "clicks")


JOB = Job(minutes_so_far, sources=[CLICKS], keys=["page", "window_start"], window="1 minute", emit="updates")
