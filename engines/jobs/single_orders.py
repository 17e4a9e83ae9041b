"""Each order as a row of its own: nothing waits for a window, so that what is left is the engine's own time."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from twinrun import Job, Source

ORDERS = Source(
    "orders",
    schema="id STRING NOT NULL, at BIGINT NOT NULL, shop STRING NOT NULL, cents BIGINT NOT NULL",
    event_time="at",
    id=["id"],
)


def single_orders(orders: DataFrame) -> DataFrame:
    """Orders with their minute."""
    return orders.select("id", "shop", F.date_trunc("minute", "at").alias("minute"), "cents")


JOB = Job(single_orders, sources=[ORDERS], keys=["id"])
