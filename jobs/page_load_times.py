"""Load time per page, every ten minutes: the exact median and 95th percentile, and the share over two seconds.

The percentiles count each value and sort the counts, so that they are exact and do not depend on the order in which
events arrive: they are alike in both modes. What lies between two values is interpolated.
"""

from __future__ import annotations

from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from sources_web import WEB_EVENTS
from twinrun import Job
from twinrun.aggregates import percentiles

WINDOW = "10 minutes"
SLOW_MS = 2_000


def page_load_times(web_events: DataFrame) -> DataFrame:
    """Views and load times in milliseconds per page and window of viewing."""
    views = web_events.filter(F.col("kind") == "view")
    slow = F.count_if(F.col("load_ms") > SLOW_MS).cast("decimal(18,0)")
    measured = F.count("load_ms").cast("decimal(18,0)")
    per_page = views.groupBy("page", F.window("at", WINDOW)).agg(
        F.count(F.lit(1)).alias("views"),
        percentiles("load_ms", [0.5, 0.95]).alias("marks"),
        F.max("load_ms").alias("max_ms"),
        F.try_divide(slow, measured).try_cast("decimal(5,4)").alias("share_slow"),
    )
    return per_page.select(
        "page",
        F.col("window.start").alias("window_start"),
        F.col("window.end").alias("window_end"),
        "views",
        F.get("marks", 0).alias("p50_ms"),
        F.get("marks", 1).alias("p95_ms"),
        "max_ms",
        "share_slow",
    )


def expectations() -> list[Any]:
    """What a correct result satisfies. Imported here, since the library takes seconds to load."""
    import great_expectations.expectations as gxe

    return [
        gxe.ExpectColumnPairValuesAToBeGreaterThanB(column_A="p95_ms", column_B="p50_ms", or_equal=True),
        gxe.ExpectColumnValuesToBeBetween(column="share_slow", min_value=0, max_value=1),
    ]


JOB = Job(
    page_load_times,
    sources=[WEB_EVENTS],
    keys=["page", "window_start"],
    window=WINDOW,
    emit="final",
    expect=expectations,
)
