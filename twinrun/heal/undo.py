"""Take a heal back: exactly its keys, as they were before; whatever came later stays."""

from __future__ import annotations

import time
from dataclasses import replace

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from twinrun.config.model import Config
from twinrun.errors import QueryError, TableError
from twinrun.explain.healed import around, changed_keys, healed_keys, rows_by_key
from twinrun.heal.ground import refuse_unhealable
from twinrun.heal.result import Undone
from twinrun.heal.write import merge_keys, one_per_key
from twinrun.job.job import Job
from twinrun.results.cut import both_states
from twinrun.results.heals import (
    UNDO_METADATA,
    UNDOING,
    UNDONE,
    HealRecord,
    commit_of,
    heals_of,
    save_heal,
    standing,
)
from twinrun.session.plain import plain_errors
from twinrun.tables.delta import GONE, read_table
from twinrun.tables.lease import held_lease


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
