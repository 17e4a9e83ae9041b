"""Each click once, by plain dropDuplicates: what comes late is dropped, though no window has closed."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from twinrun import Job, Source

CLICKS = Source(
    "clicks",
    schema="id STRING NOT NULL, at BIGINT NOT NULL, page STRING NOT NULL, amount DECIMAL(10,2), weight DOUBLE",
    event_time="at",
    lateness="10 seconds",
    max_ahead="1 hour",
    id=["id"],
    ranges={"amount": (0, None)},
)


def seen_once(clicks: DataFrame) -> DataFrame:
    """One row per click and time."""
    once = clicks.dropDuplicates(["id", "at"])
    return once.select("id", "at", "page", (F.unix_millis("at") % 1000).alias("ms"))


JOB = Job(seen_once, sources=[CLICKS], keys=["id"])
