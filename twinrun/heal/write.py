"""Write rows over those of the same key in one Delta transaction that says what it is, and take a heal back."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from twinrun.config.model import Config
from twinrun.errors import QueryError, TableError
from twinrun.events.exact import quoted
from twinrun.explain.explain import around, changed_keys, healed_keys, rows_by_key
from twinrun.heal.plan import Undone
from twinrun.heal.preconditions import refuse_unhealable
from twinrun.job.job import Job
from twinrun.results.cut import both_states
from twinrun.results.records import UNDO_METADATA, UNDOING, UNDONE, HealRecord, commit_of, heals_of, save_heal, standing
from twinrun.session.plain import plain_errors
from twinrun.tables.delta import GONE, merge_by_key, read_table
from twinrun.tables.lease import held_lease
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


# Take a heal back: exactly its keys, as they were before; whatever came later stays.


def undo_heal(spark: SparkSession, cfg: Config, job: Job) -> Undone:
    """Give the rows of the newest heal that stands the values that they had before it.

    A MERGE of those keys, not a restore of the old version: a restore would also take away what micro-batches have
    appended since, and the stream would never write it again. About twenty small Spark jobs.

    Raises
    ------
    TableError
        No heal stands in the stream's table, or somebody changed its rows since.
    QueryError
        The versions around the heal were vacuumed away, or Spark failed; the table is as it was.
    """
    refuse_unhealable(job)
    name = job.job_name
    with held_lease(spark, cfg, f"verify:{name}", f"twinrun heal {name} --undo"), plain_errors(f"the undo for {name}"):
        stream, _ = both_states(spark, cfg, job)
        records = heals_of(spark, cfg, name)
        made = standing(records, stream.table)
        if not made:
            raise _nothing(name, stream.table, records)
        heal = made[-1]
        rows = one_per_key(_rows(spark, cfg, job, heal), job, heal.rows, f"heal {heal.id}")
        save_heal(spark, cfg, name, replace(heal, state=UNDOING))
        merge_keys(rows, job, heal.table, {UNDO_METADATA: {"id": heal.id, "heal_version": heal.version}})
        version = commit_of(spark, heal.table, UNDO_METADATA, heal.id)
        if version is None:
            raise QueryError(f"the undo of heal {heal.id} made no commit in {heal.table}; the table is as it was.")
        save_heal(spark, cfg, name, replace(heal, state=UNDONE, undone_version=version))
    return Undone(heal.id, name, heal.table, heal.rows, version, int(time.time() * 1000), len(made) - 1)


def _rows(spark: SparkSession, cfg: Config, job: Job, heal: HealRecord) -> DataFrame:
    """The heal's keys as they were before it; those that it inserted are marked as gone. Three Spark jobs."""
    keys = healed_keys(spark, cfg, job, heal).localCheckpoint()
    version = heal.version or 0
    where = around(job, keys)
    now, wrote, before = (
        rows_by_key(read_table(spark, heal.table, at), job, keys, where) for at in (None, version, version - 1)
    )
    changed = changed_keys(now, wrote).distinct().count()
    if changed:
        raise TableError(
            f"{changed} of the rows that heal {heal.id} wrote into {heal.table} were changed since.",
            expected="the rows as the heal left them",
            fix="put them back, or leave the heal as it is",
        )
    inserted = wrote.join(keys.filter(F.col("kind") == "only_batch").select("key_id"), "key_id", "left_semi")
    old = before.withColumn(GONE, F.lit(False)).unionByName(inserted.withColumn(GONE, F.lit(True)))
    return old.drop("key_id")


def _nothing(job: str, table: str, records: tuple[HealRecord, ...]) -> TableError:
    elsewhere = [record for record in records if record.state != UNDONE]
    if elsewhere:
        found = f"the last heal of {job} is in {elsewhere[-1].table}, which its stream no longer writes."
        return TableError(found, expected=f"a heal of {table}")
    if records:
        found = f"no heal of {job} is left to undo: the last one, {records[-1].id}, was undone already."
        return TableError(found, expected=f"a heal that stands in {table}")
    return TableError(f"no heal of {job} is on record: there is nothing to undo.")
