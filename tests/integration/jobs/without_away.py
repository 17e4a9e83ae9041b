"""Clicks per page and minute but for pages that are away: as late as they may be, nobody misses them."""

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


def without_away(clicks: DataFrame) -> DataFrame:
    """Clicks per page and minute."""
    here = clicks.filter(~F.col("page").endswith(".away"))
    grouped = here.groupBy("page", F.window("at", "1 minute")).agg(F.count(F.lit(1)).alias("clicks"))
    return grouped.select("page", F.col("window.start").alias("window_start"), "clicks")


JOB = Job(without_away, sources=[CLICKS], keys=["page", "window_start"], window="1 minute")
