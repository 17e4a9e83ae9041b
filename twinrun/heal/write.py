"""Write rows over those of the same key in one Delta transaction that says what it is."""

from __future__ import annotations

from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from twinrun.errors import TableError
from twinrun.events.json_ import quoted
from twinrun.job.job import Job
from twinrun.session.plain import plain_errors
from twinrun.tables.delta import merge_by_key
from twinrun.wording import plural


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
    within = _bounds(rows, job.window_column) if job.windowed else []
    with plain_errors(f"merging into {table}"):
        merge_by_key(rows, table, job.keys, metadata, within)


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
    # In microseconds: the first event of a session starts it, and is not cut to milliseconds.
    start = F.unix_micros(F.col(quoted(window_column)))
    low, high = rows.agg(F.min(start), F.max(start)).collect()[0]
    column = f"target.{quoted(window_column)}"
    return [f"{column} >= timestamp_micros({low})", f"{column} <= timestamp_micros({high})"]
