"""Clicks, each once: de-duplication by id and event time in the function, and no time in the result."""

from __future__ import annotations

from pyspark.sql import DataFrame

from twinrun import Job, Source

CLICKS = Source(
    "clicks",
    schema="id STRING NOT NULL, at BIGINT NOT NULL, page STRING NOT NULL, amount DECIMAL(10,2), weight DOUBLE",
    event_time="at",
    lateness="10 seconds",
    id=["id"],
)


def each_once(clicks: DataFrame) -> DataFrame:
    """A row per click; a copy with the same time is none."""
    return clicks.dropDuplicates(["id", "at"]).select("id", "page")


JOB = Job(each_once, sources=[CLICKS], keys=["id"])
