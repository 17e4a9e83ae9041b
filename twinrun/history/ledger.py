"""Read the ledger of one job, or say plainly why it cannot be read."""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from twinrun.config.model import Config
from twinrun.errors import TableError
from twinrun.tables.delta import read_table, table_exists

LEDGER_COLUMNS = (
    "verify_id",
    "job",
    "query_id",
    "micro_batch",
    "watermark_ms",
    "stream_version",
    "batch_version",
    "verified_at_ms",
    "window_start",
    "verdict",
    "rows",
    "rows_equal",
    "rows_explained",
    "rows_unexplained",
    "causes",
)
DIFFERENCES_COLUMNS = ("verify_id", "job", "key_id", "window_start", "kind", "copy", "verdict", "causes")


def ledger_rows(spark: SparkSession, cfg: Config, job: str) -> DataFrame:
    """The rows that verifies wrote for a job, one per verify and window; lazy. No Spark job.

    Columns: see `twinrun.explain.tables.write_ledger`. ``window_start`` is null for jobs without windows.

    Raises
    ------
    TableError
        There is no ledger, or it lacks columns.
    """
    return _rows_of(spark, cfg, job, "ledger", LEDGER_COLUMNS)


def difference_rows(spark: SparkSession, cfg: Config, job: str) -> DataFrame:
    """The differing rows that verifies of a job kept; lazy. No Spark job.

    Raises
    ------
    TableError
        There is no such table, or it lacks columns.
    """
    return _rows_of(spark, cfg, job, "differences", DIFFERENCES_COLUMNS)


class NoVerifyError(TableError):
    """The ledger is sound and holds nothing about the job."""


def no_verify(job: str, ref: str) -> NoVerifyError:
    """The error of a ledger that holds nothing about the job."""
    return NoVerifyError(
        f"the ledger at {ref} holds no verify of {job}.",
        expected="at least one verify that covered its cut",
        fix=f"run: twinrun verify {job}",
    )


def _rows_of(spark: SparkSession, cfg: Config, job: str, name: str, columns: Sequence[str]) -> DataFrame:
    ref = cfg.table(name)
    if not table_exists(spark, ref):
        raise TableError(f"there is no table {name} at {ref}.", fix=f"run: twinrun verify {job}")
    rows = read_table(spark, ref)
    lacking = [column for column in columns if column not in rows.columns]
    if lacking:
        raise TableError(
            f"the table {name} at {ref} is damaged or not of twinrun: it lacks {', '.join(lacking)}.",
            expected="the columns that a verify writes",
            fix=f"correct layout.{name} in the configuration, or put the table back",
        )
    return rows.filter(F.col("job") == job)
