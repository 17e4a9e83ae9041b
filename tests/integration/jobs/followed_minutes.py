"""Orders that followed a click within 30 seconds, per minute of the click: a join of two streams, then a window."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from twinrun import Job, Source

SCHEMA = "id STRING NOT NULL, at BIGINT NOT NULL, page STRING NOT NULL, amount DECIMAL(10,2), weight DOUBLE"
CLICKS = Source("clicks", schema=SCHEMA, event_time="at", lateness="10 seconds", id=["id"])
ORDERS = Source("orders", schema=SCHEMA, event_time="at", lateness="10 seconds", id=["id"])


def followed_minutes(clicks: DataFrame, orders: DataFrame) -> DataFrame:
    """Pairs of click and order per minute."""
    on = F.expr("c.page = o.page AND o.at BETWEEN c.at AND c.at + INTERVAL 30 SECONDS")
    pairs = clicks.alias("c").join(orders.alias("o"), on, "inner").select("c.at", F.col("o.amount").alias("amount"))
    counted = pairs.groupBy(F.window("at", "1 minute")).agg(
        F.count(F.lit(1)).alias("pairs"), F.sum("amount").alias("amount")
    )
    return counted.select(F.col("window.start").alias("window_start"), "pairs", "amount")


JOB = Job(followed_minutes, sources=[CLICKS, ORDERS], keys=["window_start"], window="1 minute")
