"""Retention of what runs and verifies have written about themselves; what a next run reads is kept."""

from __future__ import annotations

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from twinrun.config.model import Config
from twinrun.maintain.places import Known
from twinrun.maintain.result import Removal
from twinrun.maintain.rows import delete_marked, delete_rows
from twinrun.results.heals import APPLIED, heals_of
from twinrun.results.ledger import removable
from twinrun.tables.delta import read_table, table_exists


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
