"""The sum of amounts per session."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from twinrun import Job, Source

CLICKS = Source(
    "clicks",
    schema="id STRING NOT NULL, at BIGINT NOT NULL, page STRING NOT NULL, amount DECIMAL(10,2), weight DOUBLE",
    event_time="at",
    lateness="10 seconds",
    max_ahead="1 hour",
    id=["id"],
)


def per_session(clicks: DataFrame, value: Column) -> DataFrame:
    """A value per page and session."""
    visits = clicks.groupBy("page", F.session_window("at", "1 minute")).agg(value.alias("value"))
    return visits.select("page", F.col("session_window.start").alias("window_start"), "value")


def sessions_by_amount(clicks: DataFrame) -> DataFrame:
    """The sum of amounts per session."""
    return per_session(clicks, F.sum("amount"))


JOB = Job(sessions_by_amount, sources=[CLICKS], keys=["page", "window_start"], gap="1 minute")
