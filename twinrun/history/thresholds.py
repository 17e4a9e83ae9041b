"""Limits on the ledger's newest verify."""

from __future__ import annotations

from pyspark.sql import SparkSession

from twinrun.config.model import Config
from twinrun.history.history import of_newest
from twinrun.quality.expect import check_ledger
from twinrun.results.ledger import ledger_rows
from twinrun.results.verdict import ExpectationResult
from twinrun.session.plain import plain_errors


def check_thresholds(
    spark: SparkSession, cfg: Config, job: str, min_completeness: float | None
) -> tuple[ExpectationResult, ...]:
    """No row of the newest verify is unexplained, and where asked, enough rows are equal. About two small Spark jobs.

    Parameters
    ----------
    min_completeness : float, optional
        Least share of the compared rows that must be equal, 0 to 1. Where nothing was compared it is not met.

    Raises
    ------
    TableError
        There is no ledger, or it lacks columns.
    """
    with plain_errors(f"the checks on the ledger of {job}"):
        return check_ledger(of_newest(ledger_rows(spark, cfg, job)), min_completeness)
