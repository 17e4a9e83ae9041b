"""A column that no second run repeats, and one that every run does."""

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


def noisy(clicks: DataFrame) -> DataFrame:
    """Clicks per page and minute, and a number that is drawn."""
    grouped = clicks.groupBy("page", F.window("at", "1 minute")).agg(F.count(F.lit(1)).alias("clicks"))
    return grouped.select("page", F.col("window.start").alias("window_start"), "clicks", F.rand().alias("drawn"))


JOB = Job(noisy, sources=[CLICKS], keys=["page", "window_start"], window="1 minute")
