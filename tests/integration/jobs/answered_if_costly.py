"""Clicks with the order that answered them, for costly clicks alone: a left join whose condition looks at one side."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from twinrun import Job, Source

SCHEMA = "id STRING NOT NULL, at BIGINT NOT NULL, page STRING NOT NULL, amount DECIMAL(10,2), weight DOUBLE"
CLICKS = Source("clicks", schema=SCHEMA, event_time="at", lateness="10 seconds", id=["id"])
ORDERS = Source("orders", schema=SCHEMA, event_time="at", lateness="10 seconds", id=["id"])


def answered_if_costly(clicks: DataFrame, orders: DataFrame) -> DataFrame:
    """The first order for the click's page within 30 seconds; no order where the click costs 5 or less."""
    within = "c.page = o.page AND o.at BETWEEN c.at AND c.at + INTERVAL 30 SECONDS AND c.amount > 5"
    pairs = clicks.alias("c").join(orders.alias("o"), F.expr(within), "left")
    return pairs.select(F.col("c.id").alias("click"), F.col("o.id").alias("answer"))


JOB = Job(answered_if_costly, sources=[CLICKS, ORDERS], keys=["click"])
