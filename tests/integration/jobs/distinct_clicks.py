"""Clicks per page and minute, each click once: declared at the source, and done by each mode in its own way."""

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
    distinct=["id"],
)


def distinct_clicks(clicks: DataFrame) -> DataFrame:
    """Clicks and amount per page and minute."""
    grouped = clicks.groupBy("page", F.window("at", "1 minute")).agg(
        F.count(F.lit(1)).alias("clicks"), F.sum("amount").alias("amount")
    )
    return grouped.select("page", F.col("window.start").alias("window_start"), "clicks", "amount")


JOB = Job(distinct_clicks, sources=[CLICKS], keys=["page", "window_start"], window="1 minute")
