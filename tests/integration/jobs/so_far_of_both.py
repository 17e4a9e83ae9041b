"""As `both_so_far`, the source without a lateness first: no watermark reaches the aggregate, and nothing is dropped."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from twinrun import Job, Source

SCHEMA = "id STRING NOT NULL, at BIGINT NOT NULL, page STRING NOT NULL, amount DECIMAL(10,2), weight DOUBLE"
CLICKS = Source("clicks", schema=SCHEMA, event_time="at", lateness="10 seconds", id=["id"])
ORDERS = Source("orders", schema=SCHEMA, event_time="at", id=["id"])


def so_far_of_both(clicks: DataFrame, orders: DataFrame) -> DataFrame:
    """Events of both per page and minute, as far as they are known."""
    grouped = orders.union(clicks).groupBy("page", F.window("at", "1 minute")).agg(F.count(F.lit(1)).alias("n"))
    return grouped.select("page", F.col("window.start").alias("window_start"), "n")


JOB = Job(so_far_of_both, sources=[CLICKS, ORDERS], keys=["page", "window_start"], window="1 minute", emit="updates")
