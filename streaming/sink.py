"""The two sinks of a stream's results."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.streaming.query import StreamingQuery
from pyspark.sql.streaming.readwriter import DataStreamWriter

from twinrun.job.job import Job
from twinrun.results.state import StreamState
from twinrun.tables.delta import GONE, is_path, merge_by_key


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
    gone = F.coalesce(F.expr(job.delete_when), F.lit(False)) if job.delete_when else F.lit(False)
    numbered = rows.withColumns({"_micro_batch": F.lit(micro_batch).cast("bigint"), GONE: gone})
    merge_by_key(numbered, table, job.keys, {"micro_batch": micro_batch})
