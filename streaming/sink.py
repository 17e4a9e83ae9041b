"""The two sinks of a stream's results."""

from __future__ import annotations

import json

from delta.tables import DeltaTable
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.streaming.query import StreamingQuery
from pyspark.sql.streaming.readwriter import DataStreamWriter

from twinrun.events.json_ import quoted
from twinrun.job.job import Job
from twinrun.results.state import StreamState
from twinrun.tables.delta import USER_METADATA, is_path


def start_final(writer: DataStreamWriter, table: str) -> StreamingQuery:
    """Append each closed window once. Delta keeps the micro-batch id of the query in the same commit as the rows."""
    writer = writer.format("delta").outputMode("append")
    return writer.start(table) if is_path(table) else writer.toTable(table)


def start_updates(writer: DataStreamWriter, job: Job, state: StreamState) -> StreamingQuery:
    """Upsert the newest row of each key. A repeated micro-batch writes the same rows over themselves."""

    def merge(rows: DataFrame, micro_batch: int) -> None:
        merge_updates(rows, micro_batch, job, state.table)

    return writer.outputMode("update").foreachBatch(merge).start()


def merge_updates(rows: DataFrame, micro_batch: int, job: Job, table: str) -> None:
    """MERGE one micro-batch by key; the commit says which micro-batch it is. No row changed: no commit."""
    spark = rows.sparkSession  # a session of this micro-batch alone: settings made here stay here
    spark.conf.set(USER_METADATA, json.dumps({"micro_batch": micro_batch}))
    target = DeltaTable.forPath(spark, table) if is_path(table) else DeltaTable.forName(spark, table)
    on_key = " AND ".join(f"target.{quoted(key)} <=> source.{quoted(key)}" for key in job.keys)
    numbered = rows.withColumn("_micro_batch", F.lit(micro_batch).cast("bigint"))
    gone = F.coalesce(F.expr(job.delete_when), F.lit(False)) if job.delete_when else F.lit(False)
    source = numbered.withColumn("_gone", gone).alias("source")
    cells: dict[str, str | Column] = {quoted(name): f"source.{quoted(name)}" for name in numbered.columns}
    merge = target.alias("target").merge(source, on_key)
    (
        merge.whenMatchedDelete("source._gone")
        .whenMatchedUpdate("NOT source._gone", set=cells)
        .whenNotMatchedInsert("NOT source._gone", values=cells)
        .execute()
    )
