"""A window over windows: the busiest 10 seconds of each minute. The inner window decides what is late."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from twinrun import Job, Source

CLICKS = Source(
    "clicks",
    schema="id STRING NOT NULL, at BIGINT NOT NULL, page STRING NOT NULL, amount DECIMAL(10,2), weight DOUBLE",
    event_time="at",
    lateness="10 seconds",
    id=["id"],
)


def busiest_minutes(clicks: DataFrame) -> DataFrame:
    """Most clicks in 10 seconds, and all clicks, per page and minute."""
    tens = clicks.groupBy("page", F.window("at", "10 seconds")).agg(F.count(F.lit(1)).alias("n"))
    grouped = tens.groupBy("page", F.window(F.window_time("window"), "1 minute")).agg(
        F.max("n").alias("most"), F.sum("n").alias("clicks")
    )
    return grouped.select("page", F.col("window.start").alias("window_start"), "most", "clicks")


JOB = Job(busiest_minutes, sources=[CLICKS], keys=["page", "window_start"], window="1 minute")
