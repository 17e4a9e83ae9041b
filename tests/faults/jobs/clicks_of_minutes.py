"""Clicks per page, added up from minutes that another job has closed: a minute that counts twice is too many."""

from __future__ import annotations

from minutes import MINUTES
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from twinrun import Job


def clicks_of_minutes(minutes: DataFrame) -> DataFrame:
    """Minutes and clicks so far per page."""
    return minutes.groupBy("page").agg(F.count(F.lit(1)).alias("minutes"), F.sum("clicks").alias("clicks"))


JOB = Job(clicks_of_minutes, sources=[MINUTES], keys=["page"], emit="updates")
