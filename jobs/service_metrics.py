"""Metrics of all services every ten seconds: how many requests, how many failed, mean, 99th percentile and maximum."""

from __future__ import annotations

from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from sources_ops import SERVICE_REQUESTS
from twinrun import Job

WINDOW = "10 seconds"
FAILED_STATUS = 500


def service_metrics(service_requests: DataFrame) -> DataFrame:
    """Requests and their latency in microseconds per service and window."""
    # A mean of whole numbers as a decimal: exact, whatever the order in which they are added.
    total, count = F.try_sum("latency_us").cast("decimal(20,0)"), F.count(F.lit(1)).cast("decimal(18,0)")
    per_service = service_requests.groupBy("service", F.window("served_at", WINDOW)).agg(
        F.count(F.lit(1)).alias("requests"),
        F.count_if(F.col("status") >= FAILED_STATUS).alias("failed"),
        F.size(F.collect_set("instance")).alias("instances"),
        F.try_divide(total, count).try_cast("decimal(18,3)").alias("mean_us"),
        F.percentile("latency_us", 0.99).alias("p99_us"),
        F.max("latency_us").alias("max_us"),
    )
    return per_service.select(
        "service",
        F.col("window.start").alias("window_start"),
        F.col("window.end").alias("window_end"),
        "requests",
        "failed",
        "instances",
        "mean_us",
        "p99_us",
        "max_us",
    )


def expectations() -> list[Any]:
    """What a correct result satisfies. Imported here, since the library takes seconds to load."""
    import great_expectations.expectations as gxe

    return [
        gxe.ExpectColumnPairValuesAToBeGreaterThanB(column_A="requests", column_B="failed", or_equal=True),
        gxe.ExpectColumnPairValuesAToBeGreaterThanB(column_A="max_us", column_B="p99_us", or_equal=True),
    ]


JOB = Job(
    service_metrics,
    sources=[SERVICE_REQUESTS],
    keys=["service", "window_start"],
    window=WINDOW,
    emit="final",
    expect=expectations,
)
