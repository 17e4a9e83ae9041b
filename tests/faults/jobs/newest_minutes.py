"""The newest that is known of each minute of a page, from a topic where a minute comes again whenever it has grown."""

from __future__ import annotations

from minutes import MINUTES
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from twinrun import Job


def newest_minutes(minutes: DataFrame) -> DataFrame:
    """Clicks of each minute; they only grow."""
    return minutes.groupBy("page", "window_start").agg(F.max("clicks").alias("clicks"))


JOB = Job(newest_minutes, sources=[MINUTES], keys=["page", "window_start"], emit="updates")
