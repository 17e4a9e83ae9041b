"""An alert as soon as an application has logged five errors within five minutes, looked at every minute.

With ``updates`` the row is there with the micro-batch that crosses the threshold, and counts on. All lines are
aggregated and the errors counted, instead of filtered: then every line moves the watermark, and a time without errors
holds no window open. `error_alerts_audit` is the same function with ``final``.
"""

from __future__ import annotations

from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from sources_ops import SERVICE_LOGS
from twinrun import Job

WINDOW = "5 minutes"
SLIDE = "1 minute"
AT_LEAST = 5


def error_alerts(service_logs: DataFrame) -> DataFrame:
    """Errors per application and sliding window, where there are enough of them."""
    is_error = F.col("level") == "ERROR"
    per_application = service_logs.groupBy("application", F.window("logged_at", WINDOW, SLIDE)).agg(
        F.count_if(is_error).alias("errors"),
        F.count(F.lit(1)).alias("lines"),
        F.min(F.when(is_error, F.col("logged_at"))).alias("first_error_at"),
        F.max(F.when(is_error, F.col("logged_at"))).alias("last_error_at"),
    )
    # A count only grows: a row that is there once stays right.
    alerts = per_application.filter(F.col("errors") >= AT_LEAST)
    return alerts.select(
        "application",
        F.col("window.start").alias("window_start"),
        F.col("window.end").alias("window_end"),
        "errors",
        "lines",
        "first_error_at",
        "last_error_at",
    )


def expectations() -> list[Any]:
    """What a correct result satisfies. Imported here, since the library takes seconds to load."""
    import great_expectations.expectations as gxe

    return [
        gxe.ExpectColumnValuesToBeBetween(column="errors", min_value=AT_LEAST),
        gxe.ExpectColumnPairValuesAToBeGreaterThanB(column_A="lines", column_B="errors", or_equal=True),
    ]


JOB = Job(
    error_alerts,
    sources=[SERVICE_LOGS],
    keys=["application", "window_start"],
    window=WINDOW,
    slide=SLIDE,
    emit="updates",
    expect=expectations,
)
