"""The latest state of each customer, from the changes of a table: inserts, updates and deletes.

What came last is decided by the place in the database's log, not by what arrives last: changes that overtake one
another, or come twice, make no difference. A deleted customer has no row, and a row again if it comes back.
Nothing is counted, so that a topic whose older changes were compacted away gives the same rows.
"""

from __future__ import annotations

from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from sources_shop import CUSTOMER_CHANGES
from twinrun import Job

DELETED = "d"


def customers_latest(customer_changes: DataFrame) -> DataFrame:
    """Name, city and points per customer after the last change."""
    row = F.when(F.col("op") == DELETED, F.col("before")).otherwise(F.col("after"))
    # Where the database tells nothing of the row, not even its key, nobody knows whose change it was.
    named = customer_changes.withColumn("row", row).filter(F.col("row.customer_id").isNotNull())
    # A change that came twice has one lsn: only the coordinates make the order total.
    order = F.struct("lsn", "_topic", "_partition", "_offset")
    per_customer = named.groupBy(F.col("row.customer_id").alias("customer_id")).agg(
        F.max_by(F.struct("op", "ts_ms", "row"), order).alias("latest")
    )
    return per_customer.select(
        "customer_id",
        F.col("latest.row.name").alias("name"),
        F.col("latest.row.city").alias("city"),
        F.col("latest.row.points").alias("points"),
        F.col("latest.ts_ms").alias("changed_at"),
        (F.col("latest.op") == DELETED).alias("deleted"),
    )


def expectations() -> list[Any]:
    """What a correct result satisfies. Imported here, since the library takes seconds to load."""
    import great_expectations.expectations as gxe

    return [
        gxe.ExpectColumnValuesToNotBeNull(column="name"),
        gxe.ExpectColumnValuesToBeInSet(column="deleted", value_set=[False]),
    ]


JOB = Job(
    customers_latest,
    sources=[CUSTOMER_CHANGES],
    keys=["customer_id"],
    emit="updates",
    delete_when="deleted",
    expect=expectations,
)
