"""What a page's clicks amount to by their weight: fails on a page that weighs nothing, once all is summed up."""

from __future__ import annotations

from in_cents import CLICKS
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from twinrun import Job


def amount_per_weight(clicks: DataFrame) -> DataFrame:
    """One row per page."""
    summed = clicks.groupBy("page").agg(F.sum("amount").alias("amount"), F.sum("weight").alias("weight"))
    return summed.select("page", (F.col("amount") / F.col("weight")).alias("amount_per_weight"))


JOB = Job(amount_per_weight, sources=[CLICKS], keys=["page"], emit="updates")
