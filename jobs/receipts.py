"""A receipt for each purchase as soon as it is received: one row per order, none twice."""

from __future__ import annotations

from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from sources_shop import ORDERS_ONCE
from twinrun import Job

VAT_PERCENT = 19


def receipts(orders: DataFrame) -> DataFrame:
    """What is printed per order; amounts in euros, the tax that they contain to the cent."""
    euros = (F.col("cents").cast("decimal(20,0)") / F.lit(100)).try_cast("decimal(18,2)")
    tax = (euros * F.lit(VAT_PERCENT) / F.lit(100 + VAT_PERCENT)).try_cast("decimal(18,2)")
    return orders.select(
        "order_id",
        "ordered_at",
        "customer_id",
        "market",
        F.format_string("%s / %s", F.upper("market"), F.col("order_id")).alias("receipt"),
        "pieces",
        euros.alias("total"),
        tax.alias("tax"),
    )


def expectations() -> list[Any]:
    """What a correct result satisfies. Imported here, since the library takes seconds to load."""
    import great_expectations.expectations as gxe

    return [
        gxe.ExpectColumnValuesToBeUnique(column="order_id"),
        gxe.ExpectColumnPairValuesAToBeGreaterThanB(column_A="total", column_B="tax"),
    ]


JOB = Job(receipts, sources=[ORDERS_ONCE], keys=["order_id"], emit="final", expect=expectations)
