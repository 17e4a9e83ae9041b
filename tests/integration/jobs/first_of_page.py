"""A function that Spark applies to each micro-batch alone: another answer in each mode, whatever the order."""

from __future__ import annotations

from typing import Any

from pyspark.sql import DataFrame

from twinrun import Job, Source

CLICKS = Source(
    "clicks",
    schema="id STRING NOT NULL, at BIGINT NOT NULL, page STRING NOT NULL, amount DECIMAL(10,2), weight DOUBLE",
    event_time="at",
    lateness="10 seconds",
    id=["id"],
)


def first_of_page(clicks: DataFrame) -> DataFrame:
    """The first click of each page by event time, and how many there are."""

    def first(rows: Any) -> Any:
        top = rows.sort_values(["at", "id"]).head(1)
        return top.assign(n=len(rows))[["page", "id", "n"]]

    return (
        clicks.groupBy("page")
        .applyInPandas(first, "page STRING, id STRING, n BIGINT")
        .filter("page IS NOT NULL AND id IS NOT NULL")
    )


JOB = Job(first_of_page, sources=[CLICKS], keys=["page", "id"])
