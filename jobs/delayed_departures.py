"""Every flight that left more than an hour late: a record job, one result row per event that qualifies."""

from __future__ import annotations

from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from sources import FLIGHTS_OF_ANY_AGE
from twinrun import Job

DELAYED_MINUTES = 60
LONG_MINUTES = 180
EXTREME_MINUTES = 720
CLASSES = ["delayed", "long", "extreme"]


def delayed_departures(flights: DataFrame) -> DataFrame:
    """Flights with their class of delay; ``dep_delay`` in minutes. A cancelled flight has none and is left out."""
    delay = F.col("dep_delay")
    delay_class = (
        F.when(delay > EXTREME_MINUTES, "extreme")
        .when(delay > LONG_MINUTES, "long")
        .when(delay > DELAYED_MINUTES, "delayed")
    )
    delayed = flights.filter(delay > DELAYED_MINUTES)
    return delayed.select(
        "flight_id",
        "scheduled_departure",
        (F.col("scheduled_departure") + F.make_dt_interval(mins=delay)).alias("departure"),
        "origin",
        "dest",
        "carrier",
        "tailnum",
        "dep_delay",
        delay_class.alias("delay_class"),
    )


def expectations() -> list[Any]:
    """What a correct result satisfies. Imported here, since the library takes seconds to load."""
    import great_expectations.expectations as gxe

    return [
        gxe.ExpectColumnValuesToBeUnique(column="flight_id"),
        gxe.ExpectColumnValuesToBeBetween(column="dep_delay", min_value=DELAYED_MINUTES, strict_min=True),
        gxe.ExpectColumnValuesToNotBeNull(column="delay_class"),
        gxe.ExpectColumnValuesToBeInSet(column="delay_class", value_set=CLASSES),
    ]


JOB = Job(
    delayed_departures,
    sources=[FLIGHTS_OF_ANY_AGE],
    keys=["flight_id"],
    emit="final",
    expect=expectations,
)
