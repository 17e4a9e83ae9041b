"""Rows that are to go: which match, from which tables, evidence and logs included, each removal on record."""

from __future__ import annotations

import json
from typing import Any

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from twinrun.config.model import Config
from twinrun.events.decode import decode
from twinrun.events.exact import quoted
from twinrun.events.source import Source
from twinrun.maintain.result import Removal
from twinrun.maintain.warehouse import Known
from twinrun.results.ledger import removable
from twinrun.results.records import APPLIED, heals_of
from twinrun.tables.checkpoint import at_or_after, plain
from twinrun.tables.control import latest_record
from twinrun.tables.delta import delta_table, one_change, read_table, table_exists

# Which records have a value in a field: events by their column, refused records by what can still be read of them.


_PLACE = ("topic", "partition", "offset")


def matching_records(spark: SparkSession, cfg: Config, source: Source, field: str, value: str) -> DataFrame:
    """``topic``, ``partition``, ``offset`` and ``event_time_ms`` (null for refused records) of every match. Lazy.

    A refused record matches if the decoder reads the value in the field, if its JSON has it there, or, where it is not
    JSON at all, if its text holds the value anywhere.
    """
    same = F.col(quoted(field)).cast("string") == F.lit(value)
    events = read_table(spark, cfg.table("events", source=source.name)).filter(same)
    at = F.unix_millis(F.col(quoted(source.event_time))).alias("event_time_ms")
    found = events.select(*[F.col(f"_{name}").alias(name) for name in _PLACE], at)
    refused = read_table(spark, cfg.table("quarantine", source=source.name))
    refused = refused.select(*[F.col(f"_{name}").alias(name) for name in _PLACE]).distinct()
    raw = read_table(spark, cfg.table("bronze", topic=cfg.source(source.name).topic)).join(refused, list(_PLACE))
    read = decode(raw, source).filter(same).select(*[F.col(f"_{name}").alias(name) for name in _PLACE])
    text = F.col("value").cast("string")
    escaped = field.replace("\\", "\\\\").replace("'", "\\'")
    in_json = F.get_json_object(text, f"$['{escaped}']") == F.lit(value)
    no_json = F.get_json_object(text, "$").isNull() & text.contains(value)
    seen = raw.filter(F.coalesce(in_json | no_json, F.lit(False))).select(*_PLACE)
    others = read.unionByName(seen).distinct().join(found.select(*_PLACE), list(_PLACE), "left_anti")
    return found.unionByName(others.withColumn("event_time_ms", F.lit(None).cast("bigint")))


def unfinished(spark: SparkSession, cfg: Config, source: Source, found: DataFrame) -> DataFrame:
    """The matches, with records that an erasure has put on record and died before it removed them. Lazy."""
    ref = cfg.table("erased")
    if not table_exists(spark, ref):
        return found
    bronze = read_table(spark, cfg.table("bronze", topic=cfg.source(source.name).topic)).select(*_PLACE)
    left = read_table(spark, ref).select(*_PLACE, "event_time_ms").join(bronze, list(_PLACE), "left_semi")
    return found.unionByName(left).distinct()


def undecoded(spark: SparkSession, cfg: Config, source: Source) -> int:
    """Records in bronze that no decode has reached. Two small Spark jobs."""
    last = latest_record(spark, cfg, "decode", source.name)
    ends = plain(last.payload["to"]) if last and last.payload["phase"] == "done" else {}
    bronze = read_table(spark, cfg.table("bronze", topic=cfg.source(source.name).topic))
    return bronze.filter(at_or_after(ends, "partition", "offset")).count()


# Delete rows of one table, counted, in one commit.


def delete_marked(spark: SparkSession, table: str, ref: str, marked: DataFrame, same: str, apply: bool) -> Removal:
    """Rows that match a row of ``marked``: counted, and with ``apply`` deleted. About four Spark jobs.

    Parameters
    ----------
    same : str
        Condition in SQL over ``target`` and ``source``.
    """
    if not table_exists(spark, ref):
        return Removal(table, ref, 0)
    rows = read_table(spark, ref).alias("target").join(marked.alias("source"), F.expr(same), "left_semi").count()
    if apply and rows:
        with one_change(spark):
            delta_table(spark, ref).alias("target").merge(marked.alias("source"), same).whenMatchedDelete().execute()
    return Removal(table, ref, rows)


def delete_rows(
    spark: SparkSession,
    table: str,
    ref: str,
    where: Column,
    apply: bool,
    metadata: dict[str, Any] | None = None,
) -> Removal:
    """Rows for which a condition holds: counted, and with ``apply`` deleted. One Spark job, or about three.

    Parameters
    ----------
    metadata : dict, optional
        Kept in the commit.
    """
    if not table_exists(spark, ref):
        return Removal(table, ref, 0)
    rows = read_table(spark, ref).filter(where).count()
    if apply and rows:
        with one_change(spark, metadata):
            delta_table(spark, ref).delete(where)
    return Removal(table, ref, rows)


# What verifies have kept about an erased key: late events, duplicate events, and differing rows that show it.


def evidence_removals(
    spark: SparkSession,
    cfg: Config,
    source: Source,
    jobs: list[str],
    marked: DataFrame,
    field: str,
    value: str,
    apply: bool,
) -> list[Removal]:
    """Count, and with ``apply`` delete, the rows of evidence. About ten Spark jobs.

    Late and duplicate events go by coordinates. Of a duplicate the whole row goes, which the next verify makes anew
    from what is left. A differing row goes if a cell, of whatever column, is the value: its JSON shows it.
    """
    place = "target.topic = source.topic AND target.partition = source.partition AND target.offset = source.offset"
    removals = [delete_marked(spark, "late_events", cfg.table("late_events"), marked, place, apply)]
    ref = cfg.table("duplicate_events")
    if table_exists(spark, ref):
        rows = read_table(spark, ref).filter(F.col("source") == source.name)
        each = rows.select("source", "id", F.explode("coordinates").alias("at"))
        same = [F.col(f"at._{name}") == marked[name] for name in ("topic", "partition", "offset")]
        named = each.join(marked, same, "left_semi").select("source", "id").distinct().localCheckpoint()
        by_id = "target.source = source.source AND target.id = source.id"
        removals.append(delete_marked(spark, "duplicate_events", ref, named, by_id, apply))
    ref = cfg.table("differences")
    if table_exists(spark, ref) and jobs:
        shown = F.lit(False)
        for column in ("key_id", "batch", "stream"):
            by_name = F.get_json_object(column, f"$['{field}']") == F.lit(value)
            shown = shown | F.coalesce(by_name, F.lit(False))
            shown = shown | F.coalesce(F.col(column).contains(json.dumps(value, ensure_ascii=False)), F.lit(False))
        where = F.col("job").isin(*jobs) & shown
        removals.append(delete_rows(spark, "differences", ref, where, apply))
    return removals


# Retention of what runs and verifies have written about themselves; what a next run reads is kept.


def log_removals(spark: SparkSession, cfg: Config, found: Known, before_ms: int, apply: bool) -> list[Removal]:
    """Old verifies, logs of former queries and spent leases. About ten small Spark jobs."""
    verifies = _old_verifies(spark, cfg, found, before_ms)
    removals = []
    if verifies is not None:
        # The differences first: without their verify in the ledger nobody would know how old they are.
        same = "target.verify_id = source.verify_id"
        removals.append(delete_marked(spark, "differences", cfg.table("differences"), verifies, same, apply))
        ref = cfg.table("ledger")
        rows = removable(read_table(spark, ref), verifies).localCheckpoint()
        same += " AND target.window_start <=> source.window_start AND target.verdict = source.verdict"
        removals.append(delete_marked(spark, "ledger", ref, rows, same, apply))
    queries = [state["query_id"] for state in found.streams.values() if state["query_id"]]
    for table, at in (("micro_batches", "started_at_ms"), ("late_events", "known_at_ms")):
        ref = cfg.table(table)
        if table_exists(spark, ref):
            old = (F.col(at) < before_ms) & ~F.col("query_id").isin(*queries)
            removals.append(delete_rows(spark, table, ref, old, apply))
    removals.append(_leases(spark, cfg, before_ms, apply))
    return removals


def _old_verifies(spark: SparkSession, cfg: Config, found: Known, before_ms: int) -> DataFrame | None:
    """``verify_id`` of old verifies; not of each job's last one, nor of those whose rows a heal that stands has."""
    ref = cfg.table("ledger")
    if not table_exists(spark, ref):
        return None
    ledger = read_table(spark, ref)
    newest = ledger.groupBy("job").agg(F.max_by("verify_id", "verified_at_ms")).collect()
    kept = [row[1] for row in newest]
    kept += [heal.verify_id for job in found.jobs for heal in heals_of(spark, cfg, job) if heal.state == APPLIED]
    old = (F.col("verified_at_ms") < before_ms) & ~F.col("verify_id").isin(*kept)
    return ledger.filter(old).select("verify_id").distinct().localCheckpoint()


def _leases(spark: SparkSession, cfg: Config, before_ms: int, apply: bool) -> Removal:
    """All but the newest record of each lease; the table grows by one with every heartbeat."""
    leases = read_table(spark, cfg.table("control")).filter(F.col("kind") == "lease")
    newest = leases.groupBy("subject").agg(F.max("seq").alias("seq")).localCheckpoint()
    older = "target.kind = 'lease' AND target.subject = source.subject AND target.seq < source.seq"
    old = f"{older} AND target.at_ms < {before_ms}"
    return delete_marked(spark, "control", cfg.table("control"), newest, old, apply)
