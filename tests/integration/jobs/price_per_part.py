"""What one part of a click costs, per minute and page: it divides by a field that may be 0."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from twinrun import Job, Source

CLICKS = Source(
    "clicks",
    schema="id STRING NOT NULL, at BIGINT NOT NULL, page STRING NOT NULL, cents BIGINT NOT NULL, parts INT NOT NULL",
    event_time="at",
    lateness="30 seconds",
    id=["id"],
)


def price_per_part(clicks: DataFrame) -> DataFrame:
    priced = clicks.withColumn(
        "each",
        F.col("cents") / F.col("parts"),
    )
    per_minute = priced.groupBy("page", F.window("at", "1 minute")).agg(
        F.count(F.lit(1)).alias("clicks"),
        F.max("each").alias("dearest"),
    )
    return per_minute.select("page", F.col("window.start").alias("window_start"), "clicks", "dearest")


JOB = Job(price_per_part, sources=[CLICKS], keys=["page", "window_start"], window="1 minute")
