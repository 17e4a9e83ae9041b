"""Clicks per page and minute; says on the driver whose code runs, and checks on the workers that theirs is the same."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

import twinrun
from twinrun import Job, Source

IN_ZIP = ".zip/" in str(twinrun.__file__)
print(f"driver code: {twinrun.__file__}")

CLICKS = Source(
    "clicks",
    schema="id STRING NOT NULL, at BIGINT NOT NULL, page STRING NOT NULL, amount DECIMAL(10,2), weight DOUBLE",
    event_time="at",
    lateness="10 seconds",
    id=["id"],
)


def checked(page: str) -> str:
    """The page as it is; fails where a worker's twinrun does not come from where the driver's does."""
    import twinrun

    if (".zip/" in str(twinrun.__file__)) != IN_ZIP:
        raise RuntimeError(f"a worker uses {twinrun.__file__}")
    return page


def submitted(clicks: DataFrame) -> DataFrame:
    """Clicks, amount and mean weight per page and minute, through a Python function on the workers."""
    page = F.udf(checked, "string")("page").alias("page")
    grouped = clicks.groupBy(page, F.window("at", "1 minute")).agg(
        F.count(F.lit(1)).alias("clicks"),
        F.sum("amount").alias("amount"),
        F.avg("weight").alias("weight"),
    )
    return grouped.select(
        F.coalesce("page", F.lit("")).alias("page"),
        F.col("window.start").alias("window_start"),
        "clicks",
        "amount",
        "weight",
    )


JOB = Job(submitted, sources=[CLICKS], keys=["page", "window_start"], window="1 minute")
