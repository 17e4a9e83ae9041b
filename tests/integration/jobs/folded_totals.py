"""Totals per page, upper and lower case as one: the key has the name of a field, and other values."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from twinrun import Job, Source

CLICKS = Source(
    "clicks",
    schema="id STRING NOT NULL, at BIGINT NOT NULL, page STRING NOT NULL, amount DECIMAL(10,2), weight DOUBLE",
    event_time="at",
    lateness=None,
    max_ahead="1 hour",
    id=["id"],
    ranges={"amount": (0, None)},
)


def folded_totals(clicks: DataFrame) -> DataFrame:
    """Clicks so far per page."""
    totals = clicks.groupBy(F.lower("page").alias("page")).agg(F.count(F.lit(1)).alias("clicks"))
    return totals.select("page", "clicks")


JOB = Job(folded_totals, sources=[CLICKS], keys=["page"], emit="updates")
