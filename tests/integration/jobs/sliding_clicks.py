"""Clicks per page in the last minute, every 20 seconds: each event lies in three windows."""

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


def sliding_clicks(clicks: DataFrame) -> DataFrame:
    """Clicks and amount per page and sliding window."""
    grouped = clicks.groupBy("page", F.window("at", "1 minute", "20 seconds")).agg(
        F.count(F.lit(1)).alias("clicks"),
        F.sum("amount").alias("amount"),
    )
    return grouped.select("page", F.col("window.start").alias("window_start"), "clicks", "amount")


JOB = Job(sliding_clicks, sources=[CLICKS], keys=["page", "window_start"], window="1 minute", slide="20 seconds")
