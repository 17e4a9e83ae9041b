"""The two sinks of a stream's results."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.streaming.query import StreamingQuery
from pyspark.sql.streaming.readwriter import DataStreamWriter

from twinrun.job.job import Job
from twinrun.results.state import StreamState
from twinrun.tables.delta import GONE, Commit, is_path, merge_by_key


def start_final(writer: DataStreamWriter, table: str) -> StreamingQuery:
    """Append each closed window once. Delta keeps the micro-batch id of the query in the same commit as the rows."""
    writer = writer.format("delta").outputMode("append")
    return writer.start(table) if is_path(table) else writer.toTable(table)


def start_updates(writer: DataStreamWriter, job: Job, state: StreamState) -> StreamingQuery:
    """Upsert the newest row of each key; a micro-batch that is repeated, or comes after a later one, does nothing."""

    def merge(rows: DataFrame, micro_batch: int) -> None:
        merge_updates(rows, micro_batch, job, state)

    return writer.outputMode("update").foreachBatch(merge).start()


def merge_updates(rows: DataFrame, micro_batch: int, job: Job, state: StreamState) -> None:
    """MERGE one micro-batch by key; the commit says which micro-batch it is. No row changed: no commit.

    The checkpoint and the micro-batch are also the commit's transaction id, as in Delta's own sink: a process that was
    stopped and taken over cannot put the rows of an old micro-batch over those of a newer one.
    """
    numbered = rows.withColumn("_micro_batch", F.lit(micro_batch).cast("bigint"))
    if job.delete_when:
        numbered = numbered.withColumn(GONE, F.coalesce(F.expr(job.delete_when), F.lit(False)))
    once = Commit(app_id=f"stream:{state.checkpoint}", version=micro_batch)
    merge_by_key(numbered, state.table, job.keys, {"micro_batch": micro_batch}, commit=once)
