"""Read and write Delta tables by reference (a Spark path or a catalog name), with a fence around each commit."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from dataclasses import replace as changed
from typing import Any

from delta.tables import DeltaTable
from pyspark.sql import Column, DataFrame, DataFrameWriter, SparkSession
from pyspark.sql import functions as F
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from twinrun.errors import CheckpointError, QueryError, TableError
from twinrun.events.exact import quoted
from twinrun.session.plain import plain_errors
from twinrun.session.settings import with_settings
from twinrun.tables.files import newest_number
from twinrun.tables.listed import files_once, is_delta

# What a holder of leases must do around a commit: look before it, number it, and notice that it was not made.
#
# A process that was stopped for longer than its lease wakes up in the middle of its work. So every commit to a data
# table carries a number of its lease as Delta's transaction version: once the next holder has committed to the table,
# Delta skips the older number, in silence. That silence is broken here: a lease that has ended by the clock is renewed
# before and after a commit, and where somebody else has it, the work ends with `CheckpointError` before anything is
# said.


_PER_LEASE = 1_000_000
_held: ContextVar[tuple[Lease, ...]] = ContextVar("held", default=())


@dataclass
class Lease:
    """Held leases of one owner, taken, renewed and given back together.

    Attributes
    ----------
    subjects : tuple of str
        What is held; the first one names the others in messages and in transaction ids.
    at_ms : int
        When it was taken (epoch ms); each next holder of a subject has a later one.
    expires_ms : int
        Until when nobody else takes it (epoch ms), as of the last renewal.
    lost : Event
        Set when another process took it over, or it could not be renewed: the holder must then stop writing.
    took_over : bool
        The holder before did not give it back: it may still be at work.
    parting : list of Entry
        Records of the control table that are written in the commit by which the lease is given back, or not at all.
    """

    subjects: tuple[str, ...]
    owner: dict[str, Any]
    at_ms: int
    expires_ms: int
    took_over: bool = False
    lost: threading.Event = field(default_factory=threading.Event)
    lock: threading.RLock = field(default_factory=threading.RLock)
    renew: Callable[[], None] = lambda: None
    unrenewed: bool = False
    commits: int = 0
    parting: list[Any] = field(default_factory=list)

    @property
    def subject(self) -> str:
        """The first of the subjects."""
        return self.subjects[0]

    def check(self) -> None:
        """Go on only as the holder. Two small Spark jobs where the lease has ended by the clock, else none.

        Raises
        ------
        CheckpointError
            Another run took it over.
        """
        if not self.lost.is_set() and time.time() * 1000 >= self.expires_ms:
            self.renew()
        if self.lost.is_set():
            raise lost(self)

    def number(self) -> int:
        """The transaction version of the holder's next commit: above all of those of earlier holders."""
        self.commits += 1
        return self.at_ms * _PER_LEASE + self.commits


def lost(lease: Lease) -> CheckpointError:
    """What to say when work ends since its lease is somebody else's."""
    if lease.unrenewed:
        return CheckpointError(
            f"the lease of {lease.subject} could not be renewed before it ended; this run has stopped.",
            fix="look at the control table's disk or store, then run the command again: nothing is lost",
        )
    return CheckpointError(
        f"{lease.subject} was taken over by another run; this one has stopped.",
        expected="a lease that is renewed in time: a machine that sleeps, or stream.lease_ttl_s too short, loses it",
        fix="let only one scheduler start this job, and run the command again: what this run had not recorded is done "
        "anew",
    )


@contextmanager
def holding(lease: Lease) -> Iterator[None]:
    """Every commit of this thread within the block is one of the holder's."""
    token = _held.set((*_held.get(), lease))
    try:
        yield
    finally:
        _held.reset(token)


def held() -> tuple[Lease, ...]:
    """The leases that this thread's work holds, the newest last."""
    return _held.get()


@contextmanager
def one_commit() -> Iterator[tuple[str, int] | None]:
    """Around exactly one commit to a data table: nothing is written, or said to be, without the leases.

    Yields
    ------
    tuple or None
        Delta's transaction id and version for this commit; None where no lease is held.

    Raises
    ------
    CheckpointError
        A lease was lost before the commit, or before it could be known to be made.
    """
    leases = _held.get()
    for lease in leases:
        lease.check()
    try:
        yield (f"lease:{leases[-1].subject}", leases[-1].number()) if leases else None
    except Exception as error:
        for lease in leases:
            _name_loss(lease, error)
        raise
    for lease in leases:
        lease.check()


def _name_loss(lease: Lease, error: Exception) -> None:
    """A commit that failed since the next holder came first is told as what it is."""
    try:
        lease.check()
    except CheckpointError as gone:
        raise gone from error
    except Exception:  # what ended the work must be seen, not that the lease could not be looked at
        return


# Read and write Delta tables by reference: a Spark path, or a catalog name such as ``main.flights.bronze``.


USER_METADATA = "spark.databricks.delta.commitInfo.userMetadata"
"""Session setting by which the commit of a MERGE or DELETE gets its metadata."""

_ATTEMPTS = 8
# Not the package java.util.concurrent, which stands in the trace of every task that failed.
_CONFLICT = re.compile(
    r"Concurrent\w+Exception|DELTA_CONCURRENT|[Cc]onflict|METADATA_CHANGED|PROTOCOL_CHANGED|"
    r"MetadataChanged|ProtocolChanged"
)
_TXN = ("spark.databricks.delta.write.txnAppId", "spark.databricks.delta.write.txnVersion")
"""Session settings by which a MERGE or DELETE gets its transaction id."""

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
        return is_delta(spark, ref)
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
    with plain_errors(f"reading {ref}"):
        listed = files_once(spark, ref, version)
        if listed is not None:
            return listed
        reader = spark.read.format("delta")
        if version is not None:
            reader = reader.option("versionAsOf", version)
        return reader.load(ref) if is_path(ref) else reader.table(ref)


def latest_version(spark: SparkSession, ref: str) -> int:
    """Newest version of the table. One small Spark job."""
    with plain_errors(f"reading the history of {ref}"):
        return int(delta_table(spark, ref).history(1).collect()[0]["version"])


def newest_logged(spark: SparkSession, ref: str) -> int | None:
    """The newest version by the names of the files of a table's log; None for one by catalog name. No Spark job."""
    if not is_path(ref):
        return None
    return newest_number(spark, f"{ref}/_delta_log", ".json")


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
    # So are those of a WRITE that replaces a part, of which Delta says how many it copied.
    copied = F.coalesce(metrics["numCopiedRows"].try_cast("bigint"), F.lit(0))
    rows = F.when(merge, merged).otherwise(metrics["numOutputRows"].try_cast("bigint") - copied)
    changed = ~F.col("operation").isin("CREATE TABLE", "OPTIMIZE", "VACUUM START", "VACUUM END", "SET TBLPROPERTIES")
    found = delta_table(spark, ref).history(commits).filter(changed & (F.col("version") > F.lit(newest - commits)))
    row = found.agg(F.sum(rows).alias("rows"), F.count_if(rows.isNull()).alias("unknown")).collect()[0]
    return None if row["unknown"] else int(row["rows"] or 0)


_MERGED = ("numTargetRowsInserted", "numTargetRowsUpdated", "numTargetRowsDeleted")


def append(
    df: DataFrame,
    ref: str,
    commit: Commit | None = None,
    partition_by: Sequence[str] = (),
    *,
    fenced: bool = True,
    evolve: bool = False,
) -> None:
    """Append rows; the table is created by the first write. One Spark job, more where other commits come between.

    ``fenced`` False: without the leases' number, for which Delta looks up those of earlier commits in a Spark job of
    its own; for rows that nobody else writes or counts on. The leases must be held all the same. ``evolve``: see
    `replace`.
    """
    with _fenced(commit, number=fenced) as mark:
        writer = df.write.mode("append")
        writer = writer.option("mergeSchema", "true") if evolve else writer
        _trying_again(lambda: _save(_writer(writer, mark, partition_by), ref))


def append_computed(rows: Callable[[], DataFrame], ref: str, partition_by: Sequence[str] = ()) -> None:
    """Append rows that are computed from the very table, in one transaction; computed anew where others commit first.

    Without the leases' number: this is how leases themselves are written.
    """
    _trying_again(lambda: _save(_writer(rows().write.mode("append"), None, partition_by), ref))


def replace_rows(
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
    with _fenced(commit) as mark:
        _overwrite(df, ref, where, mark, partition_by, evolve)


def _overwrite(
    df: DataFrame, ref: str, where: str | None, commit: Commit | None, partition_by: Sequence[str], evolve: bool
) -> None:
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
    with _fenced(None) as mark:

        def write() -> None:
            if table_exists(df.sparkSession, ref):
                _overwrite(df, ref, where, mark, (), evolve)
            else:
                _save(_writer(df.write.mode("append"), mark, ()), ref)

        _trying_again(write)


@contextmanager
def one_change(
    spark: SparkSession, metadata: dict[str, Any] | None = None, commit: Commit | None = None
) -> Iterator[None]:
    """Around exactly one MERGE or DELETE: it gets metadata and a transaction id as `append` gives them.

    Delta takes both from the session alone; what stood there is put back, also after a failure.

    Raises
    ------
    CheckpointError
        A lease was lost before the commit, or before it could be known to be made.
    """
    with _fenced(commit) as mark:
        values = {} if metadata is None else {USER_METADATA: json.dumps(metadata, sort_keys=True)}
        if mark is not None and mark.app_id is not None:
            values |= dict(zip(_TXN, (mark.app_id, str(mark.version)), strict=True))
        with with_settings(spark, values):
            yield


def raise_fence(spark: SparkSession, ref: str) -> None:
    """Commit nothing but the number of the held lease, so that the holder before can no longer commit. One Spark job.

    For a table that this run may leave as it is; where it commits anyway, that commit does the same.
    """
    if table_exists(spark, ref):
        append(read_table(spark, ref).limit(0), ref, Commit(metadata={"run_id": "fence"}))


@contextmanager
def _fenced(commit: Commit | None, *, number: bool = True) -> Iterator[Commit | None]:
    """The commit with the lease's number, unless it has a transaction id of its own; only while the leases are held."""
    with one_commit() as mine:
        if mine is None or not number or (commit is not None and commit.app_id is not None):
            yield commit
        else:
            yield changed(commit or Commit(), app_id=mine[0], version=mine[1])


def merge_by_key(
    rows: DataFrame,
    ref: str,
    keys: Sequence[str],
    metadata: dict[str, Any],
    within: Sequence[str] = (),
    commit: Commit | None = None,
) -> None:
    """Insert, replace or, with `GONE`, remove the row of each key in one MERGE; no row changed makes no commit.

    Three Spark jobs.

    Parameters
    ----------
    rows : DataFrame
        Every column of the table; at most one row per key. Keys match null to null. With `GONE` (never null) rows may
        be removed; without it the MERGE has a clause and conditions less to plan.
    metadata : dict
        Stored as JSON in the commit's user metadata.
    within : sequence of str
        Further conditions in SQL over ``target``, by which files are skipped; they must hold for every key of ``rows``.
    commit : Commit, optional
        A transaction id: a second MERGE with the same or a lower version does nothing.
    """
    cells: dict[str, str | Column] = {quoted(n): f"source.{quoted(n)}" for n in rows.columns if n != GONE}
    same = [f"target.{quoted(key)} <=> source.{quoted(key)}" for key in keys]
    spark = rows.sparkSession
    with one_change(spark, metadata, commit):
        target = DeltaTable.forPath(spark, ref) if is_path(ref) else DeltaTable.forName(spark, ref)
        merge = target.alias("target").merge(rows.alias("source"), " AND ".join([*same, *within]))
        if GONE in rows.columns:
            stays = f"NOT source.{GONE}"
            merge = merge.whenMatchedDelete(f"source.{GONE}").whenMatchedUpdate(stays, set=cells)
            merge.whenNotMatchedInsert(stays, values=cells).execute()
        else:
            merge.whenMatchedUpdate(set=cells).whenNotMatchedInsert(values=cells).execute()


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
