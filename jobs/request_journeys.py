"""The journey of each request through the services: which of them in order, how long, and who failed first.

Each service has a log of its own. Their lines are united and merged by the id of the request, in a session that is
over after half a minute without a line of it: a request that a service never saw, or never logged, has a journey too.
"""

from __future__ import annotations

from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from sources_ops import BASKET_LINES, GATEWAY_LINES, PAYMENT_LINES
from twinrun import Job

GAP = "30 seconds"
FAILED_STATUS = 500
SERVICES = 3


def request_journeys(gateway_lines: DataFrame, basket_lines: DataFrame, payment_lines: DataFrame) -> DataFrame:
    """One row per request, or several where it paused for longer than the gap."""
    gateway = gateway_lines.withColumn("service", F.lit("gateway"))
    basket = basket_lines.withColumn("service", F.lit("basket"))
    payment = payment_lines.withColumn("service", F.lit("payment"))
    lines = gateway.unionByName(basket).unionByName(payment)
    # A set, sorted: a line that was sent twice counts once, and what arrives first does not matter.
    step = F.struct("at", "service", "line_id", "status")
    per_request = lines.groupBy("request_id", F.session_window("at", GAP)).agg(
        F.sort_array(F.collect_set(step)).alias("steps"),
        (F.unix_millis(F.max("at")) - F.unix_millis(F.min("at"))).alias("duration_ms"),
    )
    failed = F.filter("steps", lambda each: each["status"] >= FAILED_STATUS)
    visited = F.transform("steps", lambda each: each["service"])
    return per_request.select(
        "request_id",
        F.col("session_window.start").alias("window_start"),
        F.col("session_window.end").alias("window_end"),
        F.array_join(visited, " > ").alias("journey"),
        F.size("steps").alias("lines"),
        (F.size(F.array_distinct(visited)) == SERVICES).alias("complete"),
        "duration_ms",
        F.get(failed, 0)["service"].alias("failed_first"),
        F.get(failed, 0)["at"].alias("failed_at"),
    )


def expectations() -> list[Any]:
    """What a correct result satisfies. Imported here, since the library takes seconds to load."""
    import great_expectations.expectations as gxe

    return [
        gxe.ExpectColumnValuesToBeBetween(column="duration_ms", min_value=0),
        gxe.ExpectColumnValuesToBeBetween(column="lines", min_value=1),
    ]


JOB = Job(
    request_journeys,
    sources=[GATEWAY_LINES, BASKET_LINES, PAYMENT_LINES],
    keys=["request_id", "window_start"],
    gap=GAP,
    emit="final",
    expect=expectations,
)
