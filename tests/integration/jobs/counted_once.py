"""Clicks per page and minute from a source that drops copies: at rest all of them, in motion those it remembers."""

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
    distinct=["id"],
    ranges={"amount": (0, None)},
)


def counted_once(clicks: DataFrame) -> DataFrame:
    """Clicks per page and minute."""
    grouped = clicks.groupBy("page", F.window("at", "1 minute")).agg(F.count(F.lit(1)).alias("clicks"))
    return grouped.select("page", F.col("window.start").alias("window_start"), "clicks")


JOB = Job(counted_once, sources=[CLICKS], keys=["page", "window_start"], window="1 minute")
