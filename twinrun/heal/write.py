"""Write rows over those of the same key in one Delta transaction that says what it is."""

from __future__ import annotations

import json
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from twinrun.errors import TableError
from twinrun.events.json_ import quoted
from twinrun.job.job import Job
from twinrun.session.plain import plain_errors
from twinrun.tables.delta import USER_METADATA, delta_table
from twinrun.wording import plural

GONE = "_gone"
"""Boolean column of the rows to write: the row of this key is removed."""


def merge_keys(rows: DataFrame, job: Job, table: str, metadata: dict[str, Any]) -> None:
    """Insert, replace or remove the row of each key in one MERGE. Three Spark jobs.

    Parameters
    ----------
    rows : DataFrame
        Every column of the table, and `GONE`; one row per key.
    metadata : dict
        Stored as JSON in the commit's user metadata.

    Raises
    ------
    QueryError
        Spark or another writer stopped it: the table is as it was.
    """
    spark = rows.sparkSession
    names = [name for name in rows.columns if name != GONE]
    cells: dict[str, str | Column] = {quoted(name): f"source.{quoted(name)}" for name in names}
    conditions = [f"target.{quoted(key)} <=> source.{quoted(key)}" for key in job.keys]
    if job.windowed:
        conditions += _bounds(rows, job.window_column)
    spark.conf.set(USER_METADATA, json.dumps(metadata, sort_keys=True))
    try:
        with plain_errors(f"merging into {table}"):
            (
                delta_table(spark, table)
                .alias("target")
                .merge(rows.alias("source"), " AND ".join(conditions))
                .whenMatchedDelete(f"source.{GONE}")
                .whenMatchedUpdate(f"NOT source.{GONE}", set=cells)
                .whenNotMatchedInsert(f"NOT source.{GONE}", values=cells)
                .execute()
            )
    finally:
        spark.conf.unset(USER_METADATA)


def one_per_key(rows: DataFrame, job: Job, expected: int, doing: str) -> DataFrame:
    """The rows, computed once, after a check that there is one for each of so many keys. One Spark job.

    Raises
    ------
    TableError
        A key has no row or several: the table and the table of differences do not fit.
    """
    # Computed once: the MERGE reads its source twice, and must not read the table that it writes.
    fixed = rows.localCheckpoint()
    key = F.struct(*[F.col(quoted(name)) for name in job.keys])
    found, distinct = fixed.agg(F.count("*"), F.count_distinct(key)).collect()[0]
    if (found, distinct) != (expected, expected):
        raise TableError(
            f"{doing} names {plural(expected, 'key')}, but the tables have {plural(found, 'row')} of "
            f"{plural(distinct, 'such key')}.",
            expected="one row per key",
            fix=f"run: twinrun verify {job.job_name}",
        )
    return fixed


def _bounds(rows: DataFrame, window_column: str) -> list[str]:
    """Conditions that let Delta skip the files of all other windows."""
    start = F.unix_millis(F.col(quoted(window_column)))
    low, high = rows.agg(F.min(start), F.max(start)).collect()[0]
    column = f"target.{quoted(window_column)}"
    return [f"{column} >= timestamp_millis({low})", f"{column} <= timestamp_millis({high})"]
