"""Clicks with the order that followed within 30 seconds: an inner join of two streams by key and time range."""

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
ORDERS = Source(
    "orders",
    schema="order_id STRING NOT NULL, at BIGINT NOT NULL, id STRING NOT NULL, price BIGINT NOT NULL",
    event_time="at",
    lateness="10 seconds",
    id=["order_id"],
)


def bought(clicks: DataFrame, orders: DataFrame) -> DataFrame:
    """A row per click that was followed by its order in time."""
    on = F.expr("c.id = o.id AND o.at BETWEEN c.at AND c.at + INTERVAL 30 SECONDS")
    joined = clicks.alias("c").join(orders.alias("o"), on)
    return joined.select(F.col("c.id").alias("id"), F.col("c.at").alias("at"), F.col("o.price").alias("price"))


JOB = Job(bought, sources=[CLICKS, ORDERS], keys=["id"])
