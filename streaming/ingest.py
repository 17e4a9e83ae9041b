"""Land a topic in bronze: every record once, its value untouched bytes, by Delta's own exactly-once sink."""

from __future__ import annotations

import sys
import threading
import time

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.streaming.query import StreamingQuery
from twinrun.streaming.progress import follow

from twinrun.config.model import Config
from twinrun.errors import CheckpointError, InputError
from twinrun.events.source import Source
from twinrun.job.job import Job
from twinrun.results.run import OnProgress, RunSummary, new_run_id
from twinrun.results.submit import submitted
from twinrun.session.plain import plain_errors
from twinrun.tables.checkpoint import last_committed, query_id
from twinrun.tables.control import Record, add_record, latest_record
from twinrun.tables.delta import latest_version, table_exists
from twinrun.tables.kafka import guard_offsets, guard_topic, kafka_stream
from twinrun.tables.lease import held_lease

KIND = "ingest"
BRONZE_COLUMNS = ("topic", "partition", "offset", "timestamp", "timestampType", "key", "headers", "value")


def run(
    spark: SparkSession,
    cfg: Config,
    source: Source,
    stop: threading.Event | None = None,
    on_progress: OnProgress | None = None,
) -> RunSummary:
    """Land what the topic has (available-now), or keep landing until stopped (processing-time).

    One ingest per topic serves any number of jobs. Nothing is parsed, so no record can stop it.

    Raises
    ------
    CheckpointError
        Another ingest of this topic is running, the topic was recreated since, or the checkpoint is not bronze's.
    BrokerError
        Kafka or the topic cannot be reached.
    DataLossError
        Kafka no longer has records that were not landed yet.
    QueryError
        The query failed; offsets that were not landed stay in Kafka and are read by the next run.
    """
    topic = cfg.source(source.name).topic
    began = time.monotonic()
    bronze, checkpoint = cfg.table("bronze", topic=topic), cfg.checkpoint("ingest", topic, 1)
    with held_lease(spark, cfg, f"ingest:{topic}", f"twinrun ingest {topic}") as lease:
        guard_topic(spark, cfg, topic, f"ingest:{topic}")
        known = latest_record(spark, cfg, KIND, topic)
        guard_checkpoint(spark, cfg, topic, bronze, checkpoint, known)
        with plain_errors(f"the ingest of {topic}"):
            query = write_bronze(read_topic(spark, cfg, topic), cfg, bronze, checkpoint, f"ingest {topic}")
            if known is None:
                add_record(spark, cfg, KIND, topic, {"query_id": str(query.id)})
            state = follow(query, cfg, lease, lambda _: -1, stop or threading.Event(), on_progress)
    version = latest_version(spark, bronze) if table_exists(spark, bronze) else None
    return RunSummary(
        mode="ingest",
        name=topic,
        run_id=new_run_id(),
        events=state.events,
        table=bronze,
        version=version,
        micro_batches=state.micro_batch + 1,
        duration_ms=int((time.monotonic() - began) * 1000),
        stopped_by="request" if stop and stop.is_set() else None,
    )


def guard_checkpoint(
    spark: SparkSession, cfg: Config, topic: str, bronze: str, checkpoint: str, known: Record | None
) -> None:
    """Refuse a checkpoint by which bronze would miss records or get them twice.

    Parameters
    ----------
    known : Record, optional
        Which query fills this bronze table; None before the first.

    Raises
    ------
    CheckpointError
        It is not the one that filled this bronze table.
    DataLossError
        Kafka no longer has what is landed next.
    """
    way_out = "land the topic anew: a new folder for warehouse and for checkpoints (--set)"
    found = query_id(spark, checkpoint)
    if known is not None and found != known.payload["query_id"]:
        what = "is empty or was removed" if found is None else "belongs to another query"
        raise CheckpointError(
            f"the checkpoint at {checkpoint} {what}; with it {bronze} would get records twice or miss some.",
            expected=f"the checkpoint of query {known.payload['query_id']}",
            fix=f"put it back, or {way_out}",
        )
    if found is None:
        return
    if not table_exists(spark, bronze) and last_committed(spark, checkpoint) is not None:
        raise CheckpointError(
            f"there is no bronze table at {bronze}, but the checkpoint at {checkpoint} says that records were landed.",
            expected="the table that the checkpoint belongs to",
            fix=f"put the table back, or {way_out}",
        )
    guard_offsets(spark, cfg, [topic], checkpoint, way_out)


def read_topic(spark: SparkSession, cfg: Config, topic: str) -> DataFrame:
    """The topic as a stream of raw records with headers, from its earliest record: bronze is complete."""
    return kafka_stream(spark, cfg, topic, max_offsets=None).select(*BRONZE_COLUMNS)


def write_bronze(records: DataFrame, cfg: Config, bronze: str, checkpoint: str, name: str) -> StreamingQuery:
    """Start the query that appends records to bronze."""
    landed = records.withColumn("_landed_at", F.current_timestamp())
    writer = landed.writeStream.format("delta").queryName(name).option("checkpointLocation", checkpoint)
    if cfg.stream.trigger == "available-now":
        writer = writer.trigger(availableNow=True)
    else:
        writer = writer.trigger(processingTime=f"{cfg.stream.interval_ms} milliseconds")
    return writer.start(bronze) if "/" in bronze else writer.toTable(bronze)


def run_job(
    spark: SparkSession, cfg: Config, job: Job, fresh: str | None = None, stop: threading.Event | None = None
) -> RunSummary:
    """Land the topic of a job's source; as `run`, with the parameters of the runners. ``fresh`` is not used.

    Raises
    ------
    InputError
        The job has several sources, each of which is a run of its own.
    """
    if len(job.sources) != 1:
        raise InputError(
            f"{job.job_name} has {len(job.sources)} sources, each a run of its own.",
            expected="a job with one source",
            fix="submit a job that reads only one of them, or use twinrun ingest",
        )
    return run(spark, cfg, job.sources[0], stop)


def main(argv: list[str] | None = None) -> int:
    """Entry point of spark-submit; the same run as ``twinrun ingest``."""
    return submitted("ingest", run_job, sys.argv[1:] if argv is None else argv)


if __name__ == "__main__":
    sys.exit(main())
