"""Clicks on page a in cents: a filter and a projection, under a watermark that must not drop anything."""

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


def cents_of_a(clicks: DataFrame) -> DataFrame:
    """One row per click on page a."""
    on_a = clicks.filter(F.col("page") == "a")
    return on_a.select("id", "at", (F.col("amount") * 100).cast("bigint").alias("cents"))


JOB = Job(cents_of_a, sources=[CLICKS], keys=["id"])
