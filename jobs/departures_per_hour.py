"""Departures per airport and scheduled hour, with the weather of that hour.

Static table ``weather``: one row per ``origin`` and ``hour`` (UTC), ``wind_speed`` in miles per hour, ``precip``
in inches. A cancelled flight has no delay: it counts as a flight, never as one that left on time.
"""

from __future__ import annotations

from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from sources import FLIGHTS
from twinrun import Job, Table

WINDOW = "1 hour"
DELAYED_MINUTES = 15


def departures_per_hour(flights: DataFrame, weather: DataFrame) -> DataFrame:
    """Flights, delays and weather per origin and hour of scheduled departure; delays in minutes."""
    hourly = weather.select("origin", "hour", "wind_speed", "precip")
    with_hour = flights.withColumn("hour", F.date_trunc("hour", "scheduled_departure"))
    observed = with_hour.join(hourly, on=["origin", "hour"], how="left")
    # Counts as decimals: the share is then exact, and null where no flight left.
    left = F.count("dep_delay").cast("decimal(18,0)")
    delayed = F.count_if(F.col("dep_delay") > DELAYED_MINUTES).cast("decimal(18,0)")
    per_hour = observed.groupBy("origin", F.window("scheduled_departure", WINDOW)).agg(
        F.count(F.lit(1)).alias("flights"),
        F.count_if("cancelled").alias("cancelled"),
        F.avg("dep_delay").alias("mean_delay"),
        F.max("dep_delay").alias("max_delay"),
        F.try_divide(delayed, left).try_cast("decimal(5,4)").alias("share_delayed_15"),
        F.sum("distance").alias("total_distance"),
        F.max("wind_speed").alias("wind"),
        F.max("precip").try_cast("decimal(5,2)").alias("rain"),
    )
    return per_hour.select(
        "origin",
        F.col("window.start").alias("window_start"),
        F.col("window.end").alias("window_end"),
        "flights",
        "cancelled",
        "mean_delay",
        "max_delay",
        "share_delayed_15",
        "total_distance",
        "wind",
        "rain",
    )


def expectations() -> list[Any]:
    """What a correct result satisfies. Imported here, since the library takes seconds to load."""
    import great_expectations.expectations as gxe

    return [
        gxe.ExpectColumnValuesToBeInSet(column="origin", value_set=["EWR", "JFK", "LGA"]),
        gxe.ExpectColumnValuesToBeBetween(column="flights", min_value=1),
        gxe.ExpectColumnValuesToBeBetween(column="share_delayed_15", min_value=0, max_value=1),
    ]


JOB = Job(
    departures_per_hour,
    sources=[FLIGHTS],
    tables=[Table("weather")],
    keys=["origin", "window_start"],
    window=WINDOW,
    emit="final",
    tolerances={"mean_delay": 1e-9},
    expect=expectations,
)
