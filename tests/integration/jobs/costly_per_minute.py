"""Clicks that cost something, per page and minute: Spark moves the filter in front of the watermark."""

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


def costly_per_minute(clicks: DataFrame) -> DataFrame:
    """Costly clicks per page and minute."""
    costly = clicks.filter(F.col("amount") >= 4)
    grouped = costly.groupBy("page", F.window("at", "1 minute")).agg(F.count(F.lit(1)).alias("clicks"))
    return grouped.select("page", F.col("window.start").alias("window_start"), "clicks")


JOB = Job(costly_per_minute, sources=[CLICKS], keys=["page", "window_start"], window="1 minute", max_late_share=0.1)
