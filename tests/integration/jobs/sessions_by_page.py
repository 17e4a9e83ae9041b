"""Sessions of clicks per page: a late event is dropped, or comes after the session that it belongs to was emitted."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from twinrun import Job, Source

CLICKS = Source(
    "clicks",
    schema="id STRING NOT NULL, at BIGINT NOT NULL, page STRING NOT NULL, amount DECIMAL(10,2), weight DOUBLE",
    event_time="at",
    lateness="20 seconds",
    id=["id"],
)


def sessions_by_page(clicks: DataFrame) -> DataFrame:
    """Clicks and amount per page and visit; a visit ends after 10 quiet seconds."""
    grouped = clicks.groupBy("page", F.session_window("at", "10 seconds")).agg(
        F.count(F.lit(1)).alias("clicks"), F.sum("amount").alias("amount")
    )
    return grouped.select(
        "page",
        F.col("session_window.start").alias("window_start"),
        F.col("session_window.end").alias("window_end"),
        "clicks",
        "amount",
    )


JOB = Job(sessions_by_page, sources=[CLICKS], keys=["page", "window_start"], gap="10 seconds")
