"""Read what verifies of one job kept, or say plainly why it cannot be read."""

from __future__ import annotations

from pyspark.sql import DataFrame, SparkSession

from twinrun.config.model import Config
from twinrun.errors import TableError
from twinrun.results.ledger import rows_of

DIFFERENCES_COLUMNS = ("verify_id", "job", "key_id", "window_start", "kind", "copy", "verdict", "causes")


def difference_rows(spark: SparkSession, cfg: Config, job: str) -> DataFrame:
    """The differing rows that verifies of a job kept; lazy. No Spark job.

    Raises
    ------
    TableError
        There is no such table, or it lacks columns.
    """
    return rows_of(spark, cfg, job, "differences", DIFFERENCES_COLUMNS)


class NoVerifyError(TableError):
    """The ledger is sound and holds nothing about the job."""


def no_verify(job: str, ref: str) -> NoVerifyError:
    """The error of a ledger that holds nothing about the job."""
    return NoVerifyError(
        f"the ledger at {ref} holds no verify of {job}.",
        expected="at least one verify that covered its cut",
        fix=f"run: twinrun verify {job}",
    )
