"""Busy periods of each carrier at each airport: a session window, over when nothing is scheduled for a while.

A cancelled flight keeps a period going, since crews and gates were planned for it, but has no delay.
"""

from __future__ import annotations

from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from sources import FLIGHTS
from twinrun import Job

GAP = "45 minutes"


def carrier_sessions(flights: DataFrame) -> DataFrame:
    """Flights and delays in minutes per carrier, origin and busy period of scheduled departure."""
    per_period = flights.groupBy("carrier", "origin", F.session_window("scheduled_departure", GAP)).agg(
        F.count(F.lit(1)).alias("flights"),
        F.count_if("cancelled").alias("cancelled"),
        F.sum("dep_delay").alias("total_delay"),
        F.max("dep_delay").alias("max_delay"),
        # An exact distinct count that a stream can compute too.
        F.size(F.collect_set("dest")).alias("destinations"),
    )
    return per_period.select(
        "carrier",
        "origin",
        F.col("session_window.start").alias("window_start"),
        # The gap after the last flight belongs to the session.
        F.col("session_window.end").alias("window_end"),
        "flights",
        "cancelled",
        "total_delay",
        "max_delay",
        "destinations",
    )


def expectations() -> list[Any]:
    """What a correct result satisfies. Imported here, since the library takes seconds to load."""
    import great_expectations.expectations as gxe

    return [
        gxe.ExpectColumnValuesToBeBetween(column="flights", min_value=1),
        gxe.ExpectColumnPairValuesAToBeGreaterThanB(column_A="flights", column_B="cancelled", or_equal=True),
        gxe.ExpectColumnPairValuesAToBeGreaterThanB(column_A="window_end", column_B="window_start"),
    ]


JOB = Job(
    carrier_sessions,
    sources=[FLIGHTS],
    keys=["carrier", "origin", "window_start"],
    gap=GAP,
    emit="final",
    expect=expectations,
)
