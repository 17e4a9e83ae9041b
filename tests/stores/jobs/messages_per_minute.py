"""Messages of a queue per minute, each once however often it was delivered."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from twinrun import Job, Source

MESSAGES = Source(
    "messages",
    schema="""
        message_id STRING NOT NULL,
        redelivered BOOLEAN NOT NULL COMMENT 'the queue had delivered it before',
        at BIGINT NOT NULL COMMENT 'UTC epoch milliseconds',
        points BIGINT""",
    event_time="at",
    lateness="10 minutes",
    id=["message_id"],
    distinct=["message_id"],
    max_ahead=None,
)


def messages_per_minute(messages: DataFrame) -> DataFrame:
    """Number and sum per minute."""
    counted = messages.groupBy(F.window("at", "1 minute").alias("w")).agg(
        F.count(F.lit(1)).alias("messages"), F.sum("points").alias("points")
    )
    return counted.select(F.col("w.start").alias("window_start"), "messages", "points")


JOB = Job(messages_per_minute, sources=[MESSAGES], keys=["window_start"], window="1 minute")
