"""Amounts times the price of their page, per minute."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from sessions_by_amount import CLICKS

from twinrun import Job, Table


def priced_minutes(clicks: DataFrame, prices: DataFrame) -> DataFrame:
    """Amounts times the price of their page, per minute."""
    priced = clicks.join(prices, "page").withColumn("cost", F.col("amount") * F.col("price"))
    minutes = priced.groupBy("page", F.window("at", "1 minute")).agg(F.sum("cost").alias("cost"))
    return minutes.select("page", F.col("window.start").alias("window_start"), "cost")


JOB = Job(priced_minutes, sources=[CLICKS], tables=[Table("prices")], keys=["page", "window_start"], window="1 minute")
