"""Read and write Delta tables by reference: a Spark path, or a catalog name such as ``main.flights.bronze``."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from delta.tables import DeltaTable
from pyspark.sql import Column, DataFrame, DataFrameWriter, SparkSession
from pyspark.sql import functions as F
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from twinrun.errors import QueryError, TableError
from twinrun.events.json_ import quoted
from twinrun.session.plain import plain_errors
from twinrun.session.settings import with_settings

USER_METADATA = "spark.databricks.delta.commitInfo.userMetadata"
"""Session setting by which the commit of a MERGE or DELETE gets its metadata."""

_ATTEMPTS = 8
_CONFLICT = re.compile("concurrent|conflict|MetadataChanged|ProtocolChanged", re.IGNORECASE)
GONE = "_gone"
"""Boolean column of the rows of a MERGE: the row of this key is removed."""


@dataclass(frozen=True)
class Commit:
    """What makes a write idempotent and self-describing.

    Attributes
    ----------
    app_id, version : str, int
        Delta's transaction id: a second write with the same app id and the same or a lower version does nothing,
        and of two concurrent ones exactly one succeeds.
    metadata : dict
        Stored as JSON in the commit's user metadata.
    """

    app_id: str | None = None
    version: int | None = None
    metadata: dict[str, Any] | None = None


def is_path(ref: str) -> bool:
    """Whether a table reference is a path (it has a slash) and not a catalog name."""
    return "/" in ref


def table_exists(spark: SparkSession, ref: str) -> bool:
    """Whether a Delta table exists at the reference. No Spark job."""
    if is_path(ref):
        return bool(DeltaTable.isDeltaTable(spark, ref))
    return bool(spark.catalog.tableExists(ref))


def delta_table(spark: SparkSession, ref: str) -> DeltaTable:
    """Handle for history and MERGE.

    Raises
    ------
    TableError
        There is no Delta table.
    """
    if not table_exists(spark, ref):
        raise TableError(
            f"there is no Delta table at {ref}.", fix="run the step that writes it first, or correct conf/"
        )
    return DeltaTable.forPath(spark, ref) if is_path(ref) else DeltaTable.forName(spark, ref)


def read_table(spark: SparkSession, ref: str, version: int | None = None) -> DataFrame:
    """The table as a lazy DataFrame, pinned to a version if one is given.

    Raises
    ------
    TableError
        There is no Delta table, or the version is no longer there.
    """
    if not table_exists(spark, ref):
        raise TableError(
            f"there is no Delta table at {ref}.", fix="run the step that writes it first, or correct conf/"
        )
    reader = spark.read.format("delta")
    if version is not None:
        reader = reader.option("versionAsOf", version)
    with plain_errors(f"reading {ref}"):
        return reader.load(ref) if is_path(ref) else reader.table(ref)


def latest_version(spark: SparkSession, ref: str) -> int:
    """Newest version of the table. One small Spark job."""
    with plain_errors(f"reading the history of {ref}"):
        return int(delta_table(spark, ref).history(1).collect()[0]["version"])


def rows_written(spark: SparkSession, ref: str, since: int | None) -> int | None:
    """Rows that commits after version ``since`` wrote, updated or removed, as their metrics say. One small Spark job.

    ``since`` None: from the table's first version on. None where a commit that changed rows has no metrics.
    """
    newest = latest_version(spark, ref)
    commits = newest - (-1 if since is None else since)
    if commits <= 0:
        return 0
    metrics, merge = F.col("operationMetrics"), F.col("operation") == "MERGE"
    # A MERGE's output rows are those of the files that it wrote anew, most of which it did not change.
    merged = sum((F.coalesce(metrics[name].try_cast("bigint"), F.lit(0)) for name in _MERGED), F.lit(0))
    rows = F.when(merge, merged).otherwise(metrics["numOutputRows"].try_cast("bigint"))
    changed = ~F.col("operation").isin("CREATE TABLE", "OPTIMIZE", "VACUUM START", "VACUUM END", "SET TBLPROPERTIES")
    found = delta_table(spark, ref).history(commits).filter(changed & (F.col("version") > F.lit(newest - commits)))
    row = found.agg(F.sum(rows).alias("rows"), F.count_if(rows.isNull()).alias("unknown")).collect()[0]
    return None if row["unknown"] else int(row["rows"] or 0)


_MERGED = ("numTargetRowsInserted", "numTargetRowsUpdated", "numTargetRowsDeleted")


def append(df: DataFrame, ref: str, commit: Commit | None = None, partition_by: Sequence[str] = ()) -> None:
    """Append rows; the table is created by the first write. One Spark job, more where other commits come between."""
    _trying_again(lambda: _save(_writer(df.write.mode("append"), commit, partition_by), ref))


def replace(
    df: DataFrame,
    ref: str,
    where: str | None = None,
    commit: Commit | None = None,
    partition_by: Sequence[str] = (),
    evolve: bool = False,
) -> None:
    """Replace the rows for which ``where`` holds, or the whole table with its schema, in one transaction.

    ``evolve``: columns that the table lacks are added to it; they are null in the rows that stay.
    """
    writer = df.write.mode("overwrite")
    writer = writer.option("mergeSchema", "true") if evolve else writer
    writer = writer.option("replaceWhere", where) if where else writer.option("overwriteSchema", "true")
    _save(_writer(writer, commit, partition_by), ref)


def replace_part(df: DataFrame, ref: str, where: str, *, evolve: bool = False) -> None:
    """Put rows in the place of those for which ``where`` holds, in a table to which others write at the same time.

    They write other rows, so a commit of theirs in between is no reason to fail: the same is tried again. For the
    result table of one job use `replace`, where another writer is a fault. The table is created by the first write.
    ``evolve``: see `replace`.
    """

    def write() -> None:
        if table_exists(df.sparkSession, ref):
            replace(df, ref, where=where, evolve=evolve)
        else:
            _save(_writer(df.write.mode("append"), None, ()), ref)

    _trying_again(write)


def merge_by_key(
    rows: DataFrame, ref: str, keys: Sequence[str], metadata: dict[str, Any], within: Sequence[str] = ()
) -> None:
    """Insert, replace or remove the row of each key in one MERGE. Three Spark jobs; no row changed makes no commit.

    Parameters
    ----------
    rows : DataFrame
        Every column of the table, and `GONE` (never null); at most one row per key. Keys match null to null.
    metadata : dict
        Stored as JSON in the commit's user metadata.
    within : sequence of str
        Further conditions in SQL over ``target``, by which files are skipped; they must hold for every key of ``rows``.
    """
    cells: dict[str, str | Column] = {quoted(n): f"source.{quoted(n)}" for n in rows.columns if n != GONE}
    same = [f"target.{quoted(key)} <=> source.{quoted(key)}" for key in keys]
    spark = rows.sparkSession
    # Delta takes a MERGE's metadata from the session alone; what stood there is put back also after a failure.
    with with_settings(spark, {USER_METADATA: json.dumps(metadata, sort_keys=True)}):
        target = DeltaTable.forPath(spark, ref) if is_path(ref) else DeltaTable.forName(spark, ref)
        (
            target.alias("target")
            .merge(rows.alias("source"), " AND ".join([*same, *within]))
            .whenMatchedDelete(f"source.{GONE}")
            .whenMatchedUpdate(f"NOT source.{GONE}", set=cells)
            .whenNotMatchedInsert(f"NOT source.{GONE}", values=cells)
            .execute()
        )


def _writer(writer: DataFrameWriter, commit: Commit | None, partition_by: Sequence[str]) -> DataFrameWriter:
    writer = writer.format("delta")
    if partition_by:
        writer = writer.partitionBy(*partition_by)
    if commit and commit.app_id is not None:
        writer = writer.option("txnAppId", commit.app_id).option("txnVersion", str(commit.version))
    if commit and commit.metadata is not None:
        writer = writer.option("userMetadata", json.dumps(commit.metadata, sort_keys=True))
    return writer


def _trying_again(write: Callable[[], None]) -> None:
    """Write again where Delta refused the commit for one that another writer made meanwhile: nothing was written."""
    for attempt in Retrying(
        retry=retry_if_exception(_is_conflict),
        stop=stop_after_attempt(_ATTEMPTS),
        wait=wait_random_exponential(multiplier=0.2, max=3),
        reraise=True,
    ):
        with attempt:
            write()


def _is_conflict(error: BaseException) -> bool:
    return isinstance(error, QueryError) and bool(_CONFLICT.search(f"{error} {error.__cause__}"))


def _save(writer: DataFrameWriter, ref: str) -> None:
    with plain_errors(f"writing {ref}"):
        if is_path(ref):
            writer.save(ref)
        else:
            writer.saveAsTable(ref)
