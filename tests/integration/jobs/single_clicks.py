"""A row per click."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from sessions_by_amount import CLICKS

from twinrun import Job


def single_clicks(clicks: DataFrame) -> DataFrame:
    """A row per click."""
    return clicks.select("id", "page", F.date_trunc("minute", "at").alias("minute"))


JOB = Job(single_clicks, sources=[CLICKS], keys=["id"])
