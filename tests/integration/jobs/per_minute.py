"""Events per key and minute: the smallest windowed job, with an exact and a tolerated column."""

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


def per_minute(clicks: DataFrame) -> DataFrame:
    """Clicks, amount and mean weight per page and minute."""
    grouped = clicks.groupBy("page", F.window("at", "1 minute")).agg(
        F.count(F.lit(1)).alias("clicks"),
        F.sum("amount").alias("amount"),
        F.avg("weight").alias("weight"),
    )
    return grouped.select("page", F.col("window.start").alias("window_start"), "clicks", "amount", "weight")


JOB = Job(per_minute, sources=[CLICKS], keys=["page", "window_start"], window="1 minute", tolerances={"weight": 1e-9})
