"""Price multiplier of rides per zone and five minutes, from what is asked for, who is there, and the weather.

Requests and drivers are united and then aggregated, instead of joined: a zone where nobody drives, or nobody asks, has
a row too. Static table ``zone_weather``: one row per ``zone`` and ``hour`` (UTC), ``extra_percent`` by which rides are
dearer. With `updates` a price is there with the first event of its five minutes, and moves until they are over.
"""

from __future__ import annotations

from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from sources_rides import DRIVER_PINGS, RIDE_REQUESTS
from twinrun import Job, Table

WINDOW = "5 minutes"
LEAST, MOST = "1.00", "3.00"


def surge_prices(ride_requests: DataFrame, driver_pings: DataFrame, zone_weather: DataFrame) -> DataFrame:
    """Riders, drivers and multiplier per zone and window."""
    seen = ride_requests.select("zone", "at", "rider_id").unionByName(
        driver_pings.select("zone", "at", "driver_id"), allowMissingColumns=True
    )
    hourly = zone_weather.select("zone", "hour", "extra_percent")
    weathered = seen.withColumn("hour", F.date_trunc("hour", "at")).join(hourly, ["zone", "hour"], "left")
    per_zone = weathered.groupBy("zone", F.window("at", WINDOW)).agg(
        # Exact distinct counts that a stream can compute too: one who asks or tells twice counts once.
        F.size(F.collect_set("rider_id")).alias("riders"),
        F.size(F.collect_set("driver_id")).alias("drivers"),
        F.coalesce(F.max("extra_percent"), F.lit(0)).alias("extra_percent"),
    )
    riders, drivers = F.col("riders").cast("decimal(10,0)"), F.col("drivers").cast("decimal(10,0)")
    percent = F.col("extra_percent").cast("decimal(10,0)") + 100
    # Null where nobody drives: the most.
    asked = F.coalesce(F.try_divide(riders * percent, drivers * 100), F.lit(MOST).cast("decimal(3,2)"))
    bounded = F.least(F.greatest(asked, F.lit(LEAST).cast("decimal(3,2)")), F.lit(MOST).cast("decimal(3,2)"))
    return per_zone.select(
        "zone",
        F.col("window.start").alias("window_start"),
        F.col("window.end").alias("window_end"),
        *("riders", "drivers", "extra_percent"),
        bounded.try_cast("decimal(3,2)").alias("multiplier"),
    )


def expectations() -> list[Any]:
    """What a correct result satisfies. Imported here, since the library takes seconds to load."""
    import great_expectations.expectations as gxe

    return [
        gxe.ExpectColumnValuesToBeBetween(column="multiplier", min_value=1, max_value=3),
        gxe.ExpectColumnValuesToBeBetween(column="drivers", min_value=0),
    ]


JOB = Job(
    surge_prices,
    sources=[RIDE_REQUESTS, DRIVER_PINGS],
    tables=[Table("zone_weather")],
    keys=["zone", "window_start"],
    window=WINDOW,
    emit="updates",
    expect=expectations,
)
