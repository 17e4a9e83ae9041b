"""Visits of clicks per page: sessions under the lateness that all scenarios share."""

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


def visits(clicks: DataFrame) -> DataFrame:
    """Clicks per page and visit; a visit ends after 10 quiet seconds."""
    grouped = clicks.groupBy("page", F.session_window("at", "10 seconds")).agg(F.count(F.lit(1)).alias("clicks"))
    span = F.col("session_window")
    return grouped.select("page", span["start"].alias("window_start"), span["end"].alias("window_end"), "clicks")


JOB = Job(visits, sources=[CLICKS], keys=["page", "window_start"], gap="10 seconds")
