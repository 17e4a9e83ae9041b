"""Clicks with the price of their page from a static table that a running stream looks at again each second."""

from __future__ import annotations

from pyspark.sql import DataFrame

from twinrun import Job, Source, Table

CLICKS = Source(
    "clicks",
    schema="id STRING NOT NULL, at BIGINT NOT NULL, page STRING NOT NULL",
    event_time="at",
    max_ahead="1 hour",
    id=["id"],
)


def priced(clicks: DataFrame, prices: DataFrame) -> DataFrame:
    """One row per click on a page that has a price."""
    return clicks.join(prices, "page").select("id", "page", "price")


JOB = Job(priced, sources=[CLICKS], tables=[Table("prices", refresh="1 second")], keys=["id"])
