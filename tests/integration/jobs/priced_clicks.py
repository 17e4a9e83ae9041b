"""Clicks with the price of their page from a static table: a row per click, so that nothing is ever late."""

from __future__ import annotations

from pyspark.sql import DataFrame

from twinrun import Job, Source, Table

CLICKS = Source(
    "clicks",
    schema="id STRING NOT NULL, at BIGINT NOT NULL, page STRING NOT NULL, amount DECIMAL(10,2), weight DOUBLE",
    event_time="at",
    lateness="10 seconds",
    max_ahead="1 hour",
    id=["id"],
    ranges={"amount": (0, None)},
)


def priced_clicks(clicks: DataFrame, prices: DataFrame) -> DataFrame:
    """One row per click on a page that has a price."""
    return clicks.join(prices, "page").select("id", "page", "at", "price")


JOB = Job(priced_clicks, sources=[CLICKS], tables=[Table("prices")], keys=["id"])
