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
_PLACE = "twinrun_place"
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


def check_expectations(
    job: Job, results: dict[str, DataFrame], rows: dict[str, int] | None = None
) -> tuple[ExpectationResult, ...]:
    """The same suite on each table, by name.

    One or two aggregates over each table, whatever the number of expectations. Where rows do not hold, a few Spark jobs
    more per such expectation: for examples.

    Parameters
    ----------
    rows : dict, optional
        How many rows each table has, where that is known; else they are counted.
    """
    expectations = declared_expectations(job)
    if not expectations:
        return ()
    known = rows or {}
    return tuple(
        found for table, frame in results.items() for found in _validate(table, frame, expectations, known.get(table))
    )


def check_ledger(
    windows: DataFrame, min_completeness: float | None, named: str = "ledger"
) -> tuple[ExpectationResult, ...]:
    """The fixed checks, on rows of the ledger; see `judge_rows`. One Spark job.

    Completeness is equal rows by compared rows, 0 where nothing was compared: that is no success. Rows of windows whose
    evidence is gone are not unexplained: the verdict has a sentence of its own for them.
    """
    unproven = F.sum(F.when(F.col("verdict") == "evidence_expired", F.lit(0)).otherwise(F.col("rows_unexplained")))
    closed = F.sum(F.when(F.col("verdict") != "pending", F.col("rows")))
    row = windows.agg(unproven, F.sum("rows_equal"), closed).collect()[0]
    unexplained, equal, compared = (int(value or 0) for value in row)
    return judge_rows(unexplained, equal, compared, min_completeness, named)


def judge_rows(
    unexplained: int, equal: int, compared: int, min_completeness: float | None, named: str = "ledger"
) -> tuple[ExpectationResult, ...]:
    """What every verify expects of its rows: none is unexplained; and where asked, enough of them are equal. Pure.

    Parameters
    ----------
    compared : int
        Rows of closed windows, of which ``equal`` are equal. Where there are none, completeness is 0.
    min_completeness : float, optional
        Least share of equal rows, 0 to 1.
    named : str
        What the rows are.
    """
    found = [ExpectationResult(named, "rows_unexplained is 0", unexplained == 0, f"observed {unexplained}")]
    if min_completeness is not None:
        share = equal / compared if compared else 0.0
        enough = share >= min_completeness
        text = f"completeness is at least {min_completeness:g}"
        found.append(ExpectationResult(named, text, enough, f"observed {share!r}"))
    return tuple(found)


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


def _validate(table: str, frame: DataFrame, expectations: list[Any], rows: int | None) -> list[ExpectationResult]:
    """Each expectation on one table, in the order given.

    The library looks for examples of rows that do not hold even where all hold, by a query per expectation. So those
    that ask each row are only counted at first, in one aggregate, and asked for examples where they fail.
    """
    import_quietly()
    from great_expectations.expectations import ExpectTableRowCountToBeBetween
    from great_expectations.expectations.expectation import (
        ColumnMapExpectation,
        ColumnPairMapExpectation,
        MulticolumnMapExpectation,
    )

    by_row = (ColumnMapExpectation, ColumnPairMapExpectation, MulticolumnMapExpectation)
    batch = _batch(table, frame)
    rows_at = len(expectations)
    wanted: dict[int, Any] = dict(enumerate(expectations))
    others = {place: each for place, each in wanted.items() if not isinstance(each, by_row)}
    by_row_at = [place for place in wanted if place not in others]
    if rows is None:
        others[rows_at] = ExpectTableRowCountToBeBetween(min_value=0)
    found = _outcome(table, batch, others, "BASIC")
    rows = found[rows_at].result.get("observed_value") if rows is None else rows
    counted = {place: wanted[place] for place in by_row_at}
    for place, result in _outcome(table, batch, counted, "BOOLEAN_ONLY").items():
        # One that may fail for a share of the rows has something to tell also where it holds.
        if result.success and getattr(wanted[place], "mostly", 1) == 1:
            result.result = {"unexpected_count": 0, "element_count": rows}
            found[place] = result
    found |= _outcome(table, batch, {place: each for place, each in counted.items() if place not in found}, "BASIC")
    return [_plain(table, found[place]) for place in wanted]


def _batch(table: str, frame: DataFrame) -> Any:
    import great_expectations as gx

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        context = gx.get_context(mode="ephemeral")
        context.variables.progress_bars = {"globally": False}
        name = f"{table}-{uuid.uuid4().hex[:8]}"
        # It would keep the table in memory beyond its own life, and say so where it is kept already.
        asset = context.data_sources.add_spark(name, persist=False).add_dataframe_asset(name)
        return asset.add_batch_definition_whole_dataframe(name).get_batch({"dataframe": frame})


def _outcome(table: str, batch: Any, wanted: dict[int, Any], result_format: str) -> dict[int, Any]:
    """The library's results by place: it keeps neither the order nor an expectation that stands twice."""
    if not wanted:
        return {}
    import great_expectations as gx

    copies = [
        each.model_copy(deep=True) if hasattr(each, "model_copy") else each.copy(deep=True) for each in wanted.values()
    ]
    for place, copy in zip(wanted, copies, strict=True):
        copy.meta = {**(copy.meta or {}), _PLACE: place}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        suite = gx.ExpectationSuite(name=f"{table}-{uuid.uuid4().hex[:8]}", expectations=copies)
        results = batch.validate(suite, result_format=result_format).results
    return {result.expectation_config.meta[_PLACE]: result for result in results}


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
