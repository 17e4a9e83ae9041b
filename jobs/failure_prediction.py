"""Risk that a service fails soon, every two minutes, from its errors, its latency and its restarts.

The model is a logistic regression that was fitted in batch on what had happened before; its weights are a static table,
so that both modes apply the same version of it. Static table ``risk_model``: one row per ``service``, weights of the
features below and ``bias``. Requests and restarts are united: a service that only restarts has a row too.
"""

from __future__ import annotations

from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from sources_ops import SERVICE_REQUESTS, SERVICE_RESTARTS
from twinrun import Job, Table

WINDOW = "2 minutes"
FAILED_STATUS = 500
WEIGHTS = ("bias", "per_error_percent", "per_latency_ms", "per_restart")


def failure_prediction(service_requests: DataFrame, service_restarts: DataFrame, risk_model: DataFrame) -> DataFrame:
    """Error rate, mean latency, restarts, and the risk from 0 to 1 per service and window."""
    answered = service_requests.select(
        "service", F.col("served_at").alias("at"), "latency_us", (F.col("status") >= FAILED_STATUS).alias("failed")
    )
    restarted = service_restarts.select("service", "at", "restart_id")
    seen = answered.unionByName(restarted, allowMissingColumns=True).join(
        risk_model.select("service", *WEIGHTS), "service", "left"
    )
    count = F.count("latency_us").cast("decimal(12,0)")
    failed, total_us = F.count_if("failed").cast("decimal(12,0)"), F.try_sum("latency_us").cast("decimal(20,0)")
    per_service = seen.groupBy("service", F.window("at", WINDOW)).agg(
        F.count("latency_us").alias("requests"),
        F.try_divide(failed * 100, count).try_cast("decimal(5,2)").alias("error_percent"),
        F.try_divide(total_us, count * 1_000).try_cast("decimal(12,3)").alias("mean_ms"),
        F.size(F.collect_set("restart_id")).alias("restarts"),
        *[F.max(weight).alias(weight) for weight in WEIGHTS],
    )
    features = {"per_error_percent": "error_percent", "per_latency_ms": "mean_ms", "per_restart": "restarts"}
    score = F.col("bias")
    for weight, feature in features.items():
        # What is not known, as of a service without requests, adds nothing.
        score += F.coalesce(F.col(weight) * F.col(feature).try_cast("decimal(12,3)"), F.lit(0))
    risk = F.try_divide(F.lit(1), 1 + F.exp(-score.cast("double")))
    return per_service.select(
        "service",
        F.col("window.start").alias("window_start"),
        F.col("window.end").alias("window_end"),
        *("requests", "error_percent", "mean_ms", "restarts"),
        risk.try_cast("decimal(4,3)").alias("risk"),
    )


def expectations() -> list[Any]:
    """What a correct result satisfies. Imported here, since the library takes seconds to load."""
    import great_expectations.expectations as gxe

    return [
        gxe.ExpectColumnValuesToBeBetween(column="risk", min_value=0, max_value=1),
        gxe.ExpectColumnValuesToBeBetween(column="error_percent", min_value=0, max_value=100),
    ]


JOB = Job(
    failure_prediction,
    sources=[SERVICE_REQUESTS, SERVICE_RESTARTS],
    tables=[Table("risk_model")],
    keys=["service", "window_start"],
    window=WINDOW,
    emit="final",
    expect=expectations,
)
