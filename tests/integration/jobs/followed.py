"""Clicks with each order that followed within 30 seconds: an inner join of two streams by key and time range."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from twinrun import Job, Source

SCHEMA = "id STRING NOT NULL, at BIGINT NOT NULL, page STRING NOT NULL, amount DECIMAL(10,2), weight DOUBLE"
CLICKS = Source("clicks", schema=SCHEMA, event_time="at", lateness="10 seconds", id=["id"])
ORDERS = Source("orders", schema=SCHEMA, event_time="at", lateness="10 seconds", id=["id"])


def followed(clicks: DataFrame, orders: DataFrame) -> DataFrame:
    """A row per click and order."""
    on = F.expr("c.page = o.page AND o.at BETWEEN c.at AND c.at + INTERVAL 30 SECONDS")
    joined = clicks.alias("c").join(orders.alias("o"), on, "inner")
    return joined.select(F.col("c.id").alias("click"), F.col("o.id").alias("order"), F.col("o.amount").alias("amount"))


JOB = Job(followed, sources=[CLICKS, ORDERS], keys=["click", "order"])
