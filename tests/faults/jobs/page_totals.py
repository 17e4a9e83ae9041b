"""Events per key so far: a job that emits updates, so that the stream writes by MERGE and not by Delta's own sink."""

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
    """Clicks and amount per page."""
    grouped = clicks.groupBy("page").agg(F.count(F.lit(1)).alias("clicks"), F.sum("amount").alias("amount"))
    return grouped.select("page", "clicks", "amount")


JOB = Job(page_totals, sources=[CLICKS], keys=["page"], emit="updates")
