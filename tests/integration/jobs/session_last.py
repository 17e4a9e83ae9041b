"""The amount of the last click of a session, in the order in which rows come."""

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
)


def session_last(clicks: DataFrame) -> DataFrame:
    """The amount of the last click of a session, in the order in which rows come."""
    visits = clicks.groupBy("page", F.session_window("at", "1 minute")).agg(F.last("amount").alias("value"))
    return visits.select("page", F.col("session_window.start").alias("window_start"), "value")


JOB = Job(session_last, sources=[CLICKS], keys=["page", "window_start"], gap="1 minute")
