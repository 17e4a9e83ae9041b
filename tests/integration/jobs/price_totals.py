"""What the parts of all clicks of a page cost, kept up to date: it divides by a field that may be 0."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from twinrun import Job, Source

CLICKS = Source(
    "clicks",
    schema="id STRING NOT NULL, at BIGINT NOT NULL, page STRING NOT NULL, cents BIGINT NOT NULL, parts INT NOT NULL",
    event_time="at",
)


def price_totals(clicks: DataFrame) -> DataFrame:
    return clicks.groupBy("page").agg(F.max(F.expr("cents div parts")).alias("dearest"))


JOB = Job(price_totals, sources=[CLICKS], keys=["page"], emit="updates")
