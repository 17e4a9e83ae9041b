"""Amounts times the price of their page, per minute."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from twinrun import Job, Source, Table

CLICKS = Source(
    "clicks",
    schema="id STRING NOT NULL, at BIGINT NOT NULL, page STRING NOT NULL, amount DECIMAL(10,2), weight DOUBLE",
    event_time="at",
    lateness="10 seconds",
    max_ahead="1 hour",
    id=["id"],
)


def priced_minutes(clicks: DataFrame, prices: DataFrame) -> DataFrame:
    """Amounts times the price of their page, per minute."""
    priced = clicks.join(prices, "page").withColumn("cost", F.col("amount") * F.col("price"))
    minutes = priced.groupBy("page", F.window("at", "1 minute")).agg(F.sum("cost").alias("cost"))
    return minutes.select("page", F.col("window.start").alias("window_start"), "cost")


JOB = Job(priced_minutes, sources=[CLICKS], tables=[Table("prices")], keys=["page", "window_start"], window="1 minute")
