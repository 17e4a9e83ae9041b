"""Running totals per route: the latest row per origin and destination, updated with every micro-batch."""

from __future__ import annotations

from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from sources import FLIGHTS_OF_ANY_AGE
from twinrun import Job


def route_totals(flights: DataFrame) -> DataFrame:
    """Flights so far, the worst delay in minutes, and the flight scheduled last, per route."""
    # Several flights may be scheduled at one instant, and one may be sent twice: only the coordinates make the
    # order total, so that every order of arrival has the same latest flight.
    order = F.struct("scheduled_departure", "flight_id", "_topic", "_partition", "_offset")
    per_route = flights.groupBy("origin", "dest").agg(
        F.count(F.lit(1)).alias("flights"),
        F.count_if("cancelled").alias("cancelled"),
        F.max("dep_delay").alias("worst_delay"),
        F.max_by(F.struct("flight_id", "scheduled_departure", "dep_delay"), order).alias("latest"),
    )
    return per_route.select(
        "origin",
        "dest",
        "flights",
        "cancelled",
        "worst_delay",
        F.col("latest.flight_id").alias("latest_flight"),
        F.col("latest.scheduled_departure").alias("latest_scheduled"),
        F.col("latest.dep_delay").alias("latest_delay"),
    )


def expectations() -> list[Any]:
    """What a correct result satisfies. Imported here, since the library takes seconds to load."""
    import great_expectations.expectations as gxe

    return [
        gxe.ExpectColumnValuesToBeBetween(column="flights", min_value=1),
        gxe.ExpectColumnPairValuesAToBeGreaterThanB(column_A="flights", column_B="cancelled", or_equal=True),
        gxe.ExpectColumnValuesToNotBeNull(column="latest_flight"),
    ]


JOB = Job(
    route_totals,
    sources=[FLIGHTS_OF_ANY_AGE],
    keys=["origin", "dest"],
    emit="updates",
    expect=expectations,
)
