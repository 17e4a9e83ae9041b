"""What each user did in the last hour, every hour: a tumbling window per user."""

from __future__ import annotations

from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from sources_web import WEB_EVENTS
from twinrun import Job

WINDOW = "1 hour"


def user_activity_hourly(web_events: DataFrame) -> DataFrame:
    """Views, clicks and pages per user and hour, and from when to when the user was there."""
    per_user = web_events.groupBy("user_id", F.window("at", WINDOW)).agg(
        F.count_if(F.col("kind") == "view").alias("views"),
        F.count_if(F.col("kind") == "click").alias("clicks"),
        # An exact distinct count that a stream can compute too.
        F.size(F.collect_set("page")).alias("pages"),
        F.min("at").alias("first_at"),
        F.max("at").alias("last_at"),
    )
    return per_user.select(
        "user_id",
        F.col("window.start").alias("window_start"),
        F.col("window.end").alias("window_end"),
        "views",
        "clicks",
        "pages",
        "first_at",
        "last_at",
    )


def expectations() -> list[Any]:
    """What a correct result satisfies. Imported here, since the library takes seconds to load."""
    import great_expectations.expectations as gxe

    return [
        gxe.ExpectColumnValuesToBeBetween(column="pages", min_value=1),
        gxe.ExpectColumnPairValuesAToBeGreaterThanB(column_A="last_at", column_B="first_at", or_equal=True),
    ]


JOB = Job(
    user_activity_hourly,
    sources=[WEB_EVENTS],
    keys=["user_id", "window_start"],
    window=WINDOW,
    emit="final",
    expect=expectations,
)
