"""Running totals per page, without any watermark."""

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


def page_totals(clicks: DataFrame) -> DataFrame:
    """Clicks, amount and newest click so far per page."""
    totals = clicks.groupBy("page").agg(
        F.count(F.lit(1)).alias("clicks"),
        F.sum("amount").alias("amount"),
        F.max("at").alias("newest"),
    )
    return totals.select("page", "clicks", "amount", "newest")


JOB = Job(page_totals, sources=[CLICKS], keys=["page"], emit="updates")
