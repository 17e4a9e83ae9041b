"""Where a stream's results go: its table, by Delta's own sink or a MERGE; and a topic as well, if one is declared."""

from __future__ import annotations

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.streaming.query import StreamingQuery
from pyspark.sql.streaming.readwriter import DataStreamWriter

from twinrun.config.model import Config
from twinrun.config.sections import SinkBinding
from twinrun.job.job import Job
from twinrun.results.cut import newest_commit
from twinrun.results.publish import publish_micro_batch
from twinrun.results.state import StreamState
from twinrun.tables.checkpoint import query_id
from twinrun.tables.delta import GONE, Commit, append, is_path, merge_by_key


def start_final(writer: DataStreamWriter, table: str) -> StreamingQuery:
    """Append each closed window once. Delta keeps the micro-batch id of the query in the same commit as the rows."""
    writer = writer.format("delta").outputMode("append")
    return writer.start(table) if is_path(table) else writer.toTable(table)


def start_updates(writer: DataStreamWriter, job: Job, state: StreamState) -> StreamingQuery:
    """Upsert the newest row of each key; a micro-batch that is repeated, or comes after a later one, does nothing.

    Only the first micro-batch of a start can be one that the table has already: whoever did it died before Spark knew.
    Its rows are computed all the same, since Spark takes no micro-batch for done whose state was not worked out.
    """
    first = True

    def merge(rows: DataFrame, micro_batch: int) -> None:
        nonlocal first
        repeated = first and stands_already(rows.sparkSession, state.table, micro_batch)
        first = False
        if repeated:
            rows.write.format("noop").mode("overwrite").save()
        else:
            merge_updates(with_gone(rows, job), micro_batch, job, state)

    return writer.outputMode("update").foreachBatch(merge).start()


def stands_already(spark: SparkSession, table: str, micro_batch: int) -> bool:
    """Whether a table of the newest rows has a micro-batch. One small Spark job, or three."""
    return newest_commit(spark, table, "", "updates").micro_batch >= micro_batch


def start_with_topic(
    writer: DataStreamWriter, cfg: Config, job: Job, state: StreamState, sink: SinkBinding
) -> StreamingQuery:
    """Send each micro-batch to a topic and then write it into the table: the topic at least once, the table once.

    The topic comes first, since its readers are in a hurry and a commit of the table takes many times as long. A
    process that dies in between does the same micro-batch again: the topic gets it twice, with the same ids. All rows
    are worked out before the first is sent: a record that the job's function fails on may be left out before the
    micro-batch is done again, which then has other rows.
    """

    def write(rows: DataFrame, micro_batch: int) -> None:
        kept = with_gone(rows, job).persist()
        try:
            kept.write.format("noop").mode("overwrite").save()
            publish_micro_batch(kept, cfg, job, sink, state.checkpoint, micro_batch)
            if job.emit == "final":
                append_final(kept, micro_batch, state)
            else:
                merge_updates(kept, micro_batch, job, state)
        finally:
            kept.unpersist()

    mode = "append" if job.emit == "final" else "update"
    return writer.outputMode(mode).foreachBatch(write).start()


def append_final(rows: DataFrame, micro_batch: int, state: StreamState) -> None:
    """Append closed windows as Delta's own sink would: the transaction's id is query and micro-batch."""
    owner = state.query_id or query_id(rows.sparkSession, state.checkpoint) or ""
    once = Commit(app_id=owner, version=micro_batch, metadata={"micro_batch": micro_batch, "query_id": owner})
    append(rows, state.table, once)


def with_gone(rows: DataFrame, job: Job) -> DataFrame:
    """With `GONE` where the job says that rows may go."""
    return rows.withColumn(GONE, F.coalesce(F.expr(job.delete_when), F.lit(False))) if job.delete_when else rows


def merge_updates(rows: DataFrame, micro_batch: int, job: Job, state: StreamState) -> None:
    """MERGE one micro-batch by key; the commit says which micro-batch it is. No row changed: no commit.

    The checkpoint and the micro-batch are also the commit's transaction id, as in Delta's own sink: a process that was
    stopped and taken over cannot put the rows of an old micro-batch over those of a newer one.
    """
    numbered = rows.withColumn("_micro_batch", F.lit(micro_batch).cast("bigint"))
    once = Commit(app_id=f"stream:{state.checkpoint}", version=micro_batch)
    merge_by_key(numbered, state.table, job.keys, {"micro_batch": micro_batch}, commit=once)
