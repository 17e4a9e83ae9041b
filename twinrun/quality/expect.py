"""Run a job's expectations on both modes' results, and fixed ones on the ledger.

Great Expectations takes seconds to import, so it is imported only when there is something to check. Its Data Docs are
never made: they write cell values into HTML unescaped (seen in 1.24.0). Results become plain values of our report.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import sys
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from twinrun.errors import JobError
from twinrun.job.job import Job
from twinrun.results.verdict import ExpectationResult
from twinrun.wording import plural

_SHOWN = 200
UNCHECKED = "could not be checked"
"""How ``observed`` begins where an expectation could not be evaluated, for a column that is not there for example."""


def declared_expectations(job: Job) -> list[Any]:
    """The job's expectations: a list, or what its function returns (so that the library is loaded only when needed).

    Raises
    ------
    JobError
        The function failed or returned something else.
    """
    wanted = job.expect
    if not callable(wanted):
        return list(wanted)
    import_quietly()
    try:
        return list(wanted())
    except Exception as error:
        raise JobError(
            f"the expectations of {job.job_name} cannot be built: {type(error).__name__}: {error}",
            expected="a function without arguments that returns a list of Great Expectations expectations",
        ) from error


def check_expectations(job: Job, results: dict[str, DataFrame]) -> tuple[ExpectationResult, ...]:
    """The same suite on each table, by name. About 1.5 Spark jobs per expectation and table."""
    expectations = declared_expectations(job)
    if not expectations:
        return ()
    return tuple(result for table, frame in results.items() for result in _validate(table, frame, expectations))


def ledger_totals(windows: DataFrame) -> DataFrame:
    """One row about rows of the ledger: ``rows_compared``, ``rows_unexplained``, ``completeness``; lazy.

    ``completeness`` is equal rows by compared rows, 0 to 1; 0 where nothing was compared: that is no success. Rows of
    windows whose evidence is gone are not unexplained: the verdict has a sentence of its own for them.
    """
    unexplained = F.sum(F.when(F.col("verdict") == "evidence_expired", F.lit(0)).otherwise(F.col("rows_unexplained")))
    compared = F.coalesce(F.sum(F.when(F.col("verdict") != "pending", F.col("rows"))), F.lit(0))
    return windows.agg(
        compared.alias("rows_compared"),
        F.coalesce(unexplained, F.lit(0)).alias("rows_unexplained"),
        F.coalesce(F.try_divide(F.sum("rows_equal"), compared), F.lit(0.0)).alias("completeness"),
    )


def check_ledger(
    windows: DataFrame, min_completeness: float | None, named: str = "ledger"
) -> tuple[ExpectationResult, ...]:
    """Fixed expectations on the rows that one verify wrote to the ledger. Few Spark jobs.

    ``named`` says what they are where no ledger was written. No row is unexplained; and where asked,
    ``min_completeness`` (0 to 1) of the compared rows are equal.
    """
    import_quietly()
    from great_expectations import expectations as gxe

    expectations: list[Any] = [
        gxe.ExpectColumnMaxToBeBetween(column="rows_unexplained", min_value=0, max_value=0),
    ]
    if min_completeness is not None:
        expectations.append(gxe.ExpectColumnMinToBeBetween(column="completeness", min_value=min_completeness))
    totals = ledger_totals(windows).select("rows_unexplained", "completeness")
    return tuple(_validate(named, totals, expectations))


def import_quietly() -> None:
    """Load the library without usage telemetry and without its warnings about its own dependencies."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    with warnings.catch_warnings(), _without_spark_connect():
        warnings.simplefilter("ignore")
        import great_expectations  # noqa: F401
    logging.getLogger("great_expectations").setLevel(logging.ERROR)


@contextmanager
def _without_spark_connect() -> Iterator[None]:
    """Let the library find no Spark Connect where its client is not installed.

    pyspark 4.2 then takes a program without a main file (``python -c``, a worker of a test runner) for a doctest and
    ends it with status 0: a verify would look green and have checked nothing.
    """
    if importlib.util.find_spec("grpc") is not None or "pyspark.sql.connect" in sys.modules:
        yield
        return
    sys.modules["pyspark.sql.connect"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules["pyspark.sql.connect"]


def _validate(table: str, frame: DataFrame, expectations: list[Any]) -> list[ExpectationResult]:
    import_quietly()
    import great_expectations as gx

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        context = gx.get_context(mode="ephemeral")
        context.variables.progress_bars = {"globally": False}
        name = f"{table}-{uuid.uuid4().hex[:8]}"
        asset = context.data_sources.add_spark(name).add_dataframe_asset(name)
        batch = asset.add_batch_definition_whole_dataframe(name).get_batch({"dataframe": frame})
        suite = gx.ExpectationSuite(
            name=name,
            expectations=[
                e.model_copy(deep=True) if hasattr(e, "model_copy") else e.copy(deep=True) for e in expectations
            ],
        )
        outcome = batch.validate(suite, result_format="BASIC")
    return [_plain(table, result) for result in outcome.results]


def _failure(info: Any) -> str:
    """Why an expectation could not be evaluated, in one line: the library nests it by metric. Empty where it was."""
    if not isinstance(info, dict):
        return ""
    if info.get("raised_exception"):
        text = str(info.get("exception_message") or "the library gives no reason")
        return next((line.strip() for line in text.splitlines() if line.strip()), "")
    return next((found for each in info.values() if (found := _failure(each))), "")


def _plain(table: str, result: Any) -> ExpectationResult:
    config = result.expectation_config
    kwargs = {k: v for k, v in config.kwargs.items() if k != "batch_id"}
    described = f"{config.type}({', '.join(f'{k}={v!r}' for k, v in sorted(kwargs.items()))})"
    found = dict(result.result)
    failure = _failure(result.exception_info)
    if failure:
        observed = f"{UNCHECKED}: {failure}"
    elif "unexpected_count" in found:
        examples = found.get("partial_unexpected_list") or []
        observed = f"{found['unexpected_count']} of {plural(int(found.get('element_count') or 0), 'row')} do not hold"
        observed += f", such as {examples[:3]!r}" if examples else ""
    elif "observed_value" in found:
        observed = f"observed {found['observed_value']!r}"
    else:
        observed = "" if result.success else f"{UNCHECKED}: the library gives no result"
    return ExpectationResult(table, described[:_SHOWN], bool(result.success), observed[:_SHOWN])
