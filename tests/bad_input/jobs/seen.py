"""Every click, as it is: a job without state, so that a missing or repeated row shows at once."""

from __future__ import annotations

from pyspark.sql import DataFrame

from twinrun import Job, Source

CLICKS = Source(
    "clicks",
    schema="id STRING NOT NULL, at BIGINT NOT NULL, page STRING NOT NULL",
    event_time="at",
    lateness="10 seconds",
    id=["id"],
)


def seen(clicks: DataFrame) -> DataFrame:
    """One row per click."""
    return clicks.select("id", "page")


JOB = Job(seen, sources=[CLICKS], keys=["id"])
