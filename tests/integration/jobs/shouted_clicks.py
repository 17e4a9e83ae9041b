"""Clicks with their page in capitals, by a function in Python; the id goes on as it is, under another name besides."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import StringType

from twinrun import Job, Source

CLICKS = Source(
    "clicks",
    schema="id STRING NOT NULL, at BIGINT NOT NULL, page STRING NOT NULL, amount DECIMAL(10,2), weight DOUBLE",
    event_time="at",
    lateness="10 seconds",
    id=["id"],
)


@F.arrow_udf(StringType())  # type: ignore[attr-defined, untyped-decorator]
def shouted(pages: pa.Array) -> pa.Array:
    """Capitals."""
    return pc.utf8_upper(pages)


def shouted_clicks(clicks: DataFrame) -> DataFrame:
    """One row per click."""
    return clicks.select("id", "at", shouted(F.col("page")).alias("page"))


JOB = Job(shouted_clicks, sources=[CLICKS], keys=["id"])
