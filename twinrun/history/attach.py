"""The history of a job as a part of its verdict, for the report."""

from __future__ import annotations

from dataclasses import replace

from pyspark.sql import SparkSession

from twinrun.config.model import Config
from twinrun.errors import TwinrunError
from twinrun.history.history import history
from twinrun.history.ledger import NoVerifyError
from twinrun.results.past import MOST_VERIFIES
from twinrun.results.verdict import Verdict
from twinrun.tables.delta import table_exists


def with_history(spark: SparkSession, cfg: Config, verdict: Verdict) -> Verdict:
    """The verdict with what the ledger has about the job's newest `MOST_VERIFIES` verifies, this one included.

    Without a verify of the job in the ledger there is no history; one that cannot be read is a note, and changes
    neither outcome nor exit code. About six small Spark jobs.
    """
    if not table_exists(spark, cfg.table("ledger")):
        return verdict
    try:
        found = history(spark, cfg, verdict.job, newest=MOST_VERIFIES)
    except NoVerifyError:
        return verdict
    except TwinrunError as error:
        return replace(verdict, notes=(*verdict.notes, f"The history could not be read: {error.found}"))
    return replace(verdict, history=replace(found, min_completeness=cfg.verify.min_completeness))
