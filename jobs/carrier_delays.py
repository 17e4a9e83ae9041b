"""How late each carrier runs over the last three hours, every hour: a sliding window.

A cancelled flight has no delay: it counts as a flight, but not towards any delay.
"""

from __future__ import annotations

from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from sources import FLIGHTS
from twinrun import Job, rel

WINDOW = "3 hours"
SLIDE = "1 hour"


def carrier_delays(flights: DataFrame) -> DataFrame:
    """Flights and delays in minutes per carrier and sliding window of scheduled departure."""
    per_window = flights.groupBy("carrier", F.window("scheduled_departure", WINDOW, SLIDE)).agg(
        F.count(F.lit(1)).alias("flights"),
        F.count_if("cancelled").alias("cancelled"),
        F.avg("dep_delay").alias("mean_delay"),
        # The last digits depend on the order in which partial results meet, hence its tolerance below.
        F.stddev_pop("dep_delay").alias("delay_spread"),
        F.max("dep_delay").alias("max_delay"),
        F.sum("dep_delay").alias("total_delay"),
        # An exact distinct count that a stream can compute too.
        F.size(F.collect_set("dest")).alias("destinations"),
    )
    return per_window.select(
        "carrier",
        F.col("window.start").alias("window_start"),
        F.col("window.end").alias("window_end"),
        "flights",
        "cancelled",
        "mean_delay",
        "delay_spread",
        "max_delay",
        "total_delay",
        "destinations",
    )


def expectations() -> list[Any]:
    """What a correct result satisfies. Imported here, since the library takes seconds to load."""
    import great_expectations.expectations as gxe

    return [
        gxe.ExpectColumnValuesToBeBetween(column="flights", min_value=1),
        gxe.ExpectColumnValuesToBeBetween(column="destinations", min_value=1),
        gxe.ExpectColumnValuesToBeBetween(column="delay_spread", min_value=0),
    ]


JOB = Job(
    carrier_delays,
    sources=[FLIGHTS],
    keys=["carrier", "window_start"],
    window=WINDOW,
    slide=SLIDE,
    emit="final",
    tolerances={"mean_delay": 1e-9, "delay_spread": rel(1e-9)},
    expect=expectations,
)
