"""Clicks per page and 10 seconds, and those per minute: of the two windows, the inner one decides what is late."""

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


def peak_minutes(clicks: DataFrame) -> DataFrame:
    """All clicks, and the most in 10 seconds, per page and minute."""
    tens = clicks.groupBy("page", F.window("at", "10 seconds")).agg(F.count(F.lit(1)).alias("n"))
    grouped = tens.groupBy("page", F.window(F.window_time("window"), "1 minute")).agg(
        F.sum("n").alias("clicks"), F.max("n").alias("peak")
    )
    return grouped.select("page", F.col("window.start").alias("window_start"), "clicks", "peak")


JOB = Job(peak_minutes, sources=[CLICKS], keys=["page", "window_start"], window="1 minute")
