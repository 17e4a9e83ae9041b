"""Clicks in cents: a projection, under a watermark that must not drop anything."""

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


def in_cents(clicks: DataFrame) -> DataFrame:
    """One row per click."""
    return clicks.select("id", "at", "page", (F.col("amount") * 100).cast("bigint").alias("cents"))


JOB = Job(in_cents, sources=[CLICKS], keys=["id"])
