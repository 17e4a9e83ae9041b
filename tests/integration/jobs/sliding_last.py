"""The amount of the last click per page and sliding window, in the order in which rows come."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from twinrun import Job, Source

CLICKS = Source(
    "clicks",
    schema="id STRING NOT NULL, at BIGINT NOT NULL, page STRING NOT NULL, amount DECIMAL(10,2), pad STRING",
    event_time="at",
    lateness="10 seconds",
    max_ahead="1 hour",
    id=["id"],
)


def sliding_last(clicks: DataFrame) -> DataFrame:
    """The amount of the last click per page and sliding window, in the order in which rows come."""
    minutes = clicks.groupBy("page", F.window("at", "2 minutes", "1 minute"))
    found = minutes.agg(F.last("amount", ignorenulls=True).alias("value"), F.max("pad").alias("pad"))
    return found.select("page", F.col("window.start").alias("window_start"), "value", F.length("pad").alias("pad"))


JOB = Job(sliding_last, sources=[CLICKS], keys=["page", "window_start"], window="2 minutes", slide="1 minute")
