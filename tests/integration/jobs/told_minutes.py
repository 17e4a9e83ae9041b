"""Per page and minute what `twinrun.aggregates` says of its clicks."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from twinrun import Job, Source
from twinrun.aggregates import earliest, latest, percentiles, top_with_ties

CLICKS = Source(
    "clicks",
    schema="id STRING NOT NULL, at BIGINT NOT NULL, page STRING NOT NULL, amount DECIMAL(10,2), weight DOUBLE",
    event_time="at",
    lateness="10 seconds",
    id=["id"],
)


def told_minutes(clicks: DataFrame) -> DataFrame:
    """One row per page and minute."""
    rows = clicks.groupBy("page", F.window("at", "1 minute")).agg(
        earliest("id", "at").alias("first"),
        latest("id", "at").alias("last"),
        percentiles("weight", [0.5, 0.95]).alias("weights"),
        top_with_ties("id", "weight", 2).alias("heaviest"),
    )
    return rows.select("page", F.col("window.start").alias("window_start"), "first", "last", "weights", "heaviest")


JOB = Job(told_minutes, sources=[CLICKS], keys=["page", "window_start"], window="1 minute")
