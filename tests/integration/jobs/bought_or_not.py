"""Clicks with the order that followed within 30 seconds, if any: a left join of two streams."""

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


def bought_or_not(clicks: DataFrame, orders: DataFrame) -> DataFrame:
    """A row per click; the price is 0 where no order came in time."""
    on = F.expr("c.id = o.id AND o.at BETWEEN c.at AND c.at + INTERVAL 30 SECONDS")
    joined = clicks.alias("c").join(orders.alias("o"), on, "left")
    return joined.select(
        F.col("c.id").alias("id"), F.col("c.at").alias("at"), F.coalesce("o.price", F.lit(0)).alias("price")
    )


JOB = Job(bought_or_not, sources=[CLICKS, ORDERS], keys=["id"])
