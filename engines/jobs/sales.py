"""Orders and cents per shop and minute: what every program below engines/ computes, as a job."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from twinrun import Job, Source

ORDERS = Source(
    "orders",
    schema="id STRING NOT NULL, at BIGINT NOT NULL, shop STRING NOT NULL, cents BIGINT NOT NULL",
    event_time="at",
    lateness="10 seconds",
    id=["id"],
)


def sales(orders: DataFrame) -> DataFrame:
    """Orders and cents per shop and minute of the order."""
    per_minute = orders.groupBy("shop", F.window("at", "1 minute")).agg(
        F.count(F.lit(1)).alias("orders"), F.sum("cents").alias("cents")
    )
    return per_minute.select("shop", F.col("window.start").alias("window_start"), "orders", "cents")


JOB = Job(sales, sources=[ORDERS], keys=["shop", "window_start"], window="1 minute")
