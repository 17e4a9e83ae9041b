"""Check a job with a session at hand, before anything runs."""

from __future__ import annotations

from pyspark.sql import SparkSession
from pyspark.sql.types import StructType

from twinrun.job.check import check_definition, job_error
from twinrun.job.job import Job
from twinrun.job.plan import check_plan


def check_job(spark: SparkSession, job: Job, tables: dict[str, StructType]) -> StructType:
    """Check definition and plan, in both modes; the schema of the job's result. No Spark job.

    Raises
    ------
    JobError
        Every problem at once.
    """
    check_definition(job)
    schema, problems = check_plan(job, spark, tables)
    if problems:
        raise job_error(job, problems)
    return schema
