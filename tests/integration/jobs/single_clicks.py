"""A row per click."""

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
)


def single_clicks(clicks: DataFrame) -> DataFrame:
    """A row per click."""
    return clicks.select("id", "page", F.date_trunc("minute", "at").alias("minute"))


JOB = Job(single_clicks, sources=[CLICKS], keys=["id"])
