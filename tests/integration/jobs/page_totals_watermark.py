"""Running totals per page under a watermark: no window, so nothing is dropped."""

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


def page_totals_watermark(clicks: DataFrame) -> DataFrame:
    """Clicks so far per page."""
    totals = clicks.groupBy("page").agg(F.count(F.lit(1)).alias("clicks"))
    return totals.select("page", "clicks")


JOB = Job(page_totals_watermark, sources=[CLICKS], keys=["page"], emit="updates")
