"""How many Spark jobs a piece of work takes, under the settings that little data gets."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import TypeVar

from pyspark.sql import SparkSession

from twinrun.session.settings import AT_REST, SMALL, with_settings

T = TypeVar("T")


def with_jobs(spark: SparkSession, work: Callable[[], T]) -> tuple[T, int]:
    """What the work gives, and its Spark jobs: those that this thread starts."""
    context, group = spark.sparkContext, f"counted {uuid.uuid4().hex}"
    little = {key: value for key, value in {**SMALL, **AT_REST}.items() if key.startswith("spark.sql.")}
    with with_settings(spark, little):
        context.setJobGroup(group, "is counted")
        try:
            found = work()
        finally:
            context.setLocalProperty("spark.jobGroup.id", None)  # type: ignore[arg-type]
    return found, len(context.statusTracker().getJobIdsForGroup(group))
