"""Clicks under names that are made of their ids: no column of the result is a field of the event as it is."""

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


def named_clicks(clicks: DataFrame) -> DataFrame:
    """One row per click."""
    return clicks.select(F.concat(F.lit("click "), "id").alias("name"), F.upper("page").alias("page"))


JOB = Job(named_clicks, sources=[CLICKS], keys=["name"])
