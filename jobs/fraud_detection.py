"""Cards used too often, in two places too far apart, or for far more than ever, looked at every ten minutes.

The payments of a card in half an hour are put in order of time, so that what arrives first does not matter and a copy
counts once; two that follow one another give a speed. Static table ``card_history``: one row per ``card_id``, with the
``most_cents`` that it had paid at once so far. Only windows with a reason have a row.
"""

from __future__ import annotations

from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from sources_cards import CARD_PAYMENTS
from twinrun import Job, Table

WINDOW, SLIDE = "30 minutes", "10 minutes"
TOO_OFTEN, TOO_FAST_KMH, TIMES_MOST = 6, 900, 3
EARTH_KM, HOUR_MS = 6_371, 3_600_000


def fraud_detection(card_payments: DataFrame, card_history: DataFrame) -> DataFrame:
    """Flagged cards per window: payments, fastest way between two of them in km/h, largest amount, and why."""
    known = card_payments.join(card_history.select("card_id", "most_cents"), "card_id", "left")
    payment = F.struct("at", "payment_id", "latitude", "longitude")
    per_card = known.groupBy("card_id", F.window("at", WINDOW, SLIDE)).agg(
        F.sort_array(F.collect_set(payment)).alias("paid"),
        F.max("cents").alias("largest_cents"),
        F.max("most_cents").alias("most_cents"),
    )
    # Each payment with the next one; the last has none, and no speed.
    speeds = F.zip_with("paid", F.slice("paid", 2, F.size("paid")), _kmh)
    seen = per_card.withColumn("payments", F.size("paid")).withColumn("fastest_kmh", F.array_max(speeds))
    # A card without a history has paid nothing so far that it could be measured by.
    reasons = {
        "velocity": F.col("payments") >= TOO_OFTEN,
        "travel": F.col("fastest_kmh") > TOO_FAST_KMH,
        "amount": F.col("largest_cents") > F.col("most_cents") * TIMES_MOST,
    }
    why = F.concat_ws(",", *[F.when(holds, reason) for reason, holds in reasons.items()])
    return (
        seen.withColumn("reasons", why)
        .filter("reasons <> ''")
        .select(
            "card_id",
            F.col("window.start").alias("window_start"),
            F.col("window.end").alias("window_end"),
            *("payments", "fastest_kmh", "largest_cents", "reasons"),
        )
    )


def _kmh(one: Column, then: Column) -> Column:
    """Whole km/h from one payment to the next along a great circle; two at one instant count a second."""
    north, east = (F.radians(then[name] - one[name]) / 2 for name in ("latitude", "longitude"))
    across = F.cos(F.radians(one["latitude"])) * F.cos(F.radians(then["latitude"])) * F.pow(F.sin(east), 2)
    km = 2 * EARTH_KM * F.asin(F.sqrt(F.least(F.pow(F.sin(north), 2) + across, F.lit(1.0))))
    took_ms = F.greatest(F.unix_millis(then["at"]) - F.unix_millis(one["at"]), F.lit(1_000))
    # Without a next one least and greatest would take the other number.
    return F.when(then.isNotNull(), F.round(km * HOUR_MS / took_ms).try_cast("bigint"))


def expectations() -> list[Any]:
    """What a correct result satisfies. Imported here, since the library takes seconds to load."""
    import great_expectations.expectations as gxe

    return [gxe.ExpectColumnValuesToMatchRegex(column="reasons", regex="^(velocity|travel|amount)(,(travel|amount))*$")]


JOB = Job(
    fraud_detection,
    sources=[CARD_PAYMENTS],
    tables=[Table("card_history")],
    keys=["card_id", "window_start"],
    window=WINDOW,
    slide=SLIDE,
    emit="final",
    expect=expectations,
)
