"""A running tally of orders by department over the past 15 minutes: sliding windows, shown while they fill."""

from __future__ import annotations

from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from sources_shop import ORDERS
from twinrun import Job

WINDOW = "15 minutes"
SLIDE = "5 minutes"


def department_tally(orders: DataFrame) -> DataFrame:
    """Orders, pieces and cents per department and sliding window."""
    per_department = orders.groupBy("department", F.window("ordered_at", WINDOW, SLIDE)).agg(
        F.count(F.lit(1)).alias("orders"),
        F.sum("pieces").alias("pieces"),
        F.try_sum("cents").alias("cents"),
    )
    return per_department.select(
        "department",
        F.col("window.start").alias("window_start"),
        F.col("window.end").alias("window_end"),
        "orders",
        "pieces",
        "cents",
    )


def expectations() -> list[Any]:
    """What a correct result satisfies. Imported here, since the library takes seconds to load."""
    import great_expectations.expectations as gxe

    return [
        gxe.ExpectColumnValuesToBeBetween(column="orders", min_value=1),
        gxe.ExpectColumnPairValuesAToBeGreaterThanB(column_A="pieces", column_B="orders", or_equal=True),
    ]


JOB = Job(
    department_tally,
    sources=[ORDERS],
    keys=["department", "window_start"],
    window=WINDOW,
    slide=SLIDE,
    emit="updates",
    expect=expectations,
)
