"""Where two versions of a result differ, by key: the question that every proof asks."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from twinrun.comparator.drilldown import differing_pairs, public_rows
from twinrun.comparator.frame import prepare
from twinrun.comparator.schema import plan_schema
from twinrun.events.json_ import quoted
from twinrun.job.job import Job
from twinrun.results.touched import TimeRange, in_ranges

EXACT_TIMES = {
    "timestampFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSSSSXXX",
    "timestampNTZFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSSSS",
    "ignoreNullFields": "false",
}
"""Options of ``to_json`` that keep nulls and microseconds; by default it cuts times to milliseconds."""
KEY_ID = "key_id"


def key_id(job: Job) -> Column:
    """A result row's key as JSON text, as `differing` gives it."""
    return F.to_json(F.struct(*[F.col(quoted(key)) for key in job.keys]), EXACT_TIMES)


def rows_at(job: Job, rows: DataFrame, keys: DataFrame) -> DataFrame:
    """The rows with one of the keys (column `KEY_ID`). Lazy; see `twinrun.comparator.frame.sent` for the keys."""
    return rows.withColumn(KEY_ID, key_id(job)).join(keys, KEY_ID, "left_semi").drop(KEY_ID)


def differing(job: Job, expected: DataFrame, actual: DataFrame, ranges: list[TimeRange] | None = None) -> DataFrame:
    """The rows that differ, with `KEY_ID`, ``kind`` (batch: expected, stream: actual), ``batch`` and ``stream``. Lazy.

    Parameters
    ----------
    ranges : list of TimeRange, optional
        Look only at windows that start in these.
    """
    if ranges:
        expected = expected.filter(in_ranges(job.window_column, ranges))
        actual = actual.filter(in_ranges(job.window_column, ranges))
    window = job.window_column if job.windowed else None
    plan = plan_schema(expected.schema, actual.schema, job.keys, window, job.tolerances)
    sides = prepare(expected, plan, "batch", None, 1), prepare(actual, plan, "stream", None, 1)
    rows = public_rows(differing_pairs(*sides, plan), plan)
    return rows.withColumn(KEY_ID, F.to_json("key", EXACT_TIMES))


def differing_keys(
    job: Job, expected: DataFrame, actual: DataFrame, flag: str, ranges: list[TimeRange] | None = None
) -> DataFrame:
    """`KEY_ID` of the rows that differ, once each, with a true column named ``flag``. Lazy."""
    return differing(job, expected, actual, ranges).select(KEY_ID).distinct().withColumn(flag, F.lit(True))
