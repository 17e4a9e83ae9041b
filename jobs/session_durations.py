"""Visits of each user: how long, over how many pages, where they began and ended, and whether something was bought.

A visit is over after half an hour without any event of the user.
"""

from __future__ import annotations

from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from sources_web import PATIENT_WEB_EVENTS
from twinrun import Job
from twinrun.aggregates import earliest, latest

GAP = "30 minutes"
CONVERSION = "buy"


def session_durations(web_events: DataFrame) -> DataFrame:
    """Duration in milliseconds, pages and outcome per user and visit."""
    per_visit = web_events.groupBy("user_id", F.session_window("at", GAP)).agg(
        F.count(F.lit(1)).alias("events"),
        (F.unix_millis(F.max("at")) - F.unix_millis(F.min("at"))).alias("duration_ms"),
        F.size(F.collect_set("page")).alias("pages"),
        earliest("page", "at").alias("entry_page"),
        latest("page", "at").alias("exit_page"),
        (F.count_if(F.col("button") == CONVERSION) > 0).alias("converted"),
    )
    return per_visit.select(
        "user_id",
        F.col("session_window.start").alias("window_start"),
        # The gap after the last event belongs to the session.
        F.col("session_window.end").alias("window_end"),
        "events",
        "duration_ms",
        "pages",
        "entry_page",
        "exit_page",
        "converted",
    )


def expectations() -> list[Any]:
    """What a correct result satisfies. Imported here, since the library takes seconds to load."""
    import great_expectations.expectations as gxe

    return [
        gxe.ExpectColumnValuesToBeBetween(column="duration_ms", min_value=0),
        gxe.ExpectColumnPairValuesAToBeGreaterThanB(column_A="events", column_B="pages", or_equal=True),
    ]


JOB = Job(
    session_durations,
    sources=[PATIENT_WEB_EVENTS],
    keys=["user_id", "window_start"],
    gap=GAP,
    emit="final",
    expect=expectations,
)
