"""The rows of a table of customers, from the changes that Debezium tells of it: those that are there now."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from twinrun import Job, Source
from twinrun.aggregates import latest

_ROW = "STRUCT<id: BIGINT, name: STRING, points: BIGINT, balance: DECIMAL(12,2)>"
CHANGES = Source(
    "changes",
    schema=f"""
        op STRING NOT NULL COMMENT 'r: read in the snapshot, c: created, u: updated, d: deleted',
        ts_ms BIGINT NOT NULL COMMENT 'when Debezium read it, UTC epoch milliseconds',
        source STRUCT<lsn: BIGINT, file: STRING, pos: BIGINT, row: INT> NOT NULL
            COMMENT 'place in the log of the database: the order of all changes. PostgreSQL: lsn, MariaDB: the others',
        before {_ROW},
        after {_ROW}""",
    event_time="ts_ms",
)


def customers_now(changes: DataFrame) -> DataFrame:
    """One row per customer after the newest change; a change that came twice is the same change."""
    row = F.when(F.col("op") == "d", F.col("before")).otherwise(F.col("after"))
    named = changes.withColumn("row", row).filter(F.col("row.id").isNotNull())
    newest = named.groupBy(F.col("row.id").alias("id"))
    last = newest.agg(latest(F.struct("op", "row"), "source").alias("last"))
    columns = [F.col(f"last.row.{name}").alias(name) for name in ("name", "points", "balance")]
    return last.select("id", *columns, (F.col("last.op") == "d").alias("gone"))


JOB = Job(customers_now, sources=[CHANGES], keys=["id"], emit="updates", delete_when="gone")
