"""Clicks with the order that followed within 30 seconds, if any: a left join of two streams by key and time range."""

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
ORDERS = Source(
    "orders",
    schema="id STRING NOT NULL, at BIGINT NOT NULL, page STRING NOT NULL, amount DECIMAL(10,2), weight DOUBLE",
    event_time="at",
    lateness="10 seconds",
    id=["id"],
)


def answered(clicks: DataFrame, orders: DataFrame) -> DataFrame:
    """A row per click; the amount of its order is null where none came in time."""
    on = F.expr("c.page = o.page AND o.at BETWEEN c.at AND c.at + INTERVAL 30 SECONDS")
    joined = clicks.alias("c").join(orders.alias("o"), on, "left")
    return joined.select(F.col("c.id").alias("id"), F.col("c.at").alias("at"), F.col("o.amount").alias("ordered"))


JOB = Job(answered, sources=[CLICKS, ORDERS], keys=["id"])
