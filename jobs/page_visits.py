"""Visits of each page in the last 15 minutes, moved on every five: a sliding window that is shown while it fills.

With ``updates`` a window is there from its first visit on and grows with every micro-batch. `page_visits_final` is the
same function with ``final``: each window once, when it is over.
"""

from __future__ import annotations

from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from sources_web import WEB_EVENTS
from twinrun import Job

WINDOW = "15 minutes"
SLIDE = "5 minutes"


def page_visits(web_events: DataFrame) -> DataFrame:
    """Views and visitors per page and sliding window."""
    views = web_events.filter(F.col("kind") == "view")
    per_page = views.groupBy("page", F.window("at", WINDOW, SLIDE)).agg(
        F.count(F.lit(1)).alias("visits"),
        # An exact distinct count that a stream can compute too.
        F.size(F.collect_set("user_id")).alias("visitors"),
    )
    return per_page.select(
        "page",
        F.col("window.start").alias("window_start"),
        F.col("window.end").alias("window_end"),
        "visits",
        "visitors",
    )


def expectations() -> list[Any]:
    """What a correct result satisfies. Imported here, since the library takes seconds to load."""
    import great_expectations.expectations as gxe

    return [
        gxe.ExpectColumnValuesToBeBetween(column="visitors", min_value=1),
        gxe.ExpectColumnPairValuesAToBeGreaterThanB(column_A="visits", column_B="visitors", or_equal=True),
    ]


JOB = Job(
    page_visits,
    sources=[WEB_EVENTS],
    keys=["page", "window_start"],
    window=WINDOW,
    slide=SLIDE,
    emit="updates",
    expect=expectations,
)
