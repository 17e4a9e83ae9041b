"""Orders and revenue per regional market and day, each market by its own days.

``F.window`` counts days in UTC (lint says so: TR205). A market's day is worked out from the instant and the market's
zone instead, so that days of 23 and 25 hours and zones such as +05:45 and +14:00 are right, and it is a key like any
other: nothing is dropped, and the latest row per market and day stands.
"""

from __future__ import annotations

from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from sources_shop import ORDERS_OF_ANY_AGE
from twinrun import Job

ZONES = {
    "berlin": "Europe/Berlin",
    "sydney": "Australia/Sydney",
    "kathmandu": "Asia/Kathmandu",
    "kiritimati": "Pacific/Kiritimati",
    "new_york": "America/New_York",
}
"""A market that is not here has days in UTC."""


def market_orders_daily(orders: DataFrame) -> DataFrame:
    """Orders, cents and largest order in cents per market and local date."""
    zones = F.create_map(*[F.lit(text) for pair in ZONES.items() for text in pair])
    zone = F.coalesce(zones[F.col("market")], F.lit("UTC"))
    local = F.date_format(F.from_utc_timestamp("ordered_at", zone), "yyyy-MM-dd")
    dated = orders.withColumn("local_date", local)
    per_day = dated.groupBy("market", "local_date").agg(
        F.count(F.lit(1)).alias("orders"),
        F.try_sum("cents").alias("cents"),
        F.max("cents").alias("largest_cents"),
        F.min("ordered_at").alias("first_at"),
        F.max("ordered_at").alias("last_at"),
    )
    return per_day.select("market", "local_date", "orders", "cents", "largest_cents", "first_at", "last_at")


def expectations() -> list[Any]:
    """What a correct result satisfies. Imported here, since the library takes seconds to load."""
    import great_expectations.expectations as gxe

    return [
        gxe.ExpectColumnValuesToMatchRegex(column="local_date", regex=r"^\d{4}-\d{2}-\d{2}$"),
        gxe.ExpectColumnValuesToBeBetween(column="orders", min_value=1),
    ]


JOB = Job(
    market_orders_daily,
    sources=[ORDERS_OF_ANY_AGE],
    keys=["market", "local_date"],
    emit="updates",
    expect=expectations,
)
