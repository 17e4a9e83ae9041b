"""Land a topic in bronze: every record once, its value untouched bytes, by Delta's own exactly-once sink."""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import dataclass

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.streaming.query import StreamingQuery

from twinrun.broker.topics import TopicInfo
from twinrun.config.model import Config
from twinrun.errors import CheckpointError, InputError
from twinrun.events.source import Source
from twinrun.job.job import Job
from twinrun.results.records import OnProgress, RunSummary, new_run_id
from twinrun.results.submit import submitted
from twinrun.session.plain import plain_errors
from twinrun.streaming.progress import follow
from twinrun.tables.checkpoint import Offsets, end_offsets, last_committed, next_offsets, query_id
from twinrun.tables.control import Record, add_record, latest_record
from twinrun.tables.delta import latest_version, read_table, rows_written, table_exists
from twinrun.tables.kafka import Loss, compacted, gone_offsets, guard_reads, guard_topic, ingest_reader, kafka_stream
from twinrun.tables.landed import Landed, notes_on_landing, record_landing, record_loss, recorded_landing
from twinrun.tables.lease import held_lease

KIND = "ingest"
BRONZE_COLUMNS = ("topic", "partition", "offset", "timestamp", "timestampType", "key", "headers", "value")


def run(
    spark: SparkSession,
    cfg: Config,
    source: Source,
    stop: threading.Event | None = None,
    on_progress: OnProgress | None = None,
    *,
    accept_loss: bool = False,
) -> RunSummary:
    """Land what the topic has (available-now), or keep landing until stopped (processing-time).

    One ingest per topic serves any number of jobs. Nothing is parsed, so no record can stop it. How far the topic was
    read is recorded besides: see `twinrun.tables.landed`.

    Parameters
    ----------
    accept_loss : bool
        Go on from the oldest record that Kafka still has where older ones were removed before they were landed. What
        is missing then is on record, and every later batch and verify knows it.

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
    bronze = cfg.table("bronze", topic=topic)
    with held_lease(spark, cfg, f"ingest:{topic}", f"twinrun ingest {topic}") as lease:
        info = guard_topic(spark, cfg, source.name, ingest_reader(topic))
        gappy = compacted(info)
        begun = open_checkpoint(spark, cfg, source.name, bronze, info, accept_loss)
        before = latest_version(spark, bronze) if table_exists(spark, bronze) else None
        with plain_errors(f"the ingest of {topic}"):
            records = read_topic(spark, cfg, source.name, begun.starting)
            query = write_bronze(records, cfg, bronze, begun.checkpoint, f"ingest {topic}")
            if not begun.recorded:
                add_record(spark, cfg, KIND, topic, {"query_id": str(query.id), "version": begun.version})

            def log(_: dict[int, int]) -> int:
                record_landing(spark, cfg, source.name, gappy=gappy)
                return query.lastProgress.batchId if query.lastProgress else -1

            state = follow(query, cfg, lease, log, stop or threading.Event(), on_progress)
        landed = recorded_landing(spark, cfg, topic)
    there = table_exists(spark, bronze)
    version = latest_version(spark, bronze) if there else None
    rows = rows_written(spark, bronze, before) if there else 0
    return RunSummary(
        mode="ingest",
        name=topic,
        run_id=new_run_id(),
        events=state.events if rows is None else rows,
        table=bronze,
        version=version,
        micro_batches=state.micro_batches,
        rows=rows,
        notes=notes_on_landing(cfg, source.name, landed),
        duration_ms=int((time.monotonic() - began) * 1000),
        stopped_by="request" if stop and stop.is_set() else None,
    )


@dataclass(frozen=True)
class IngestCheckpoint:
    """The checkpoint that an ingest goes on with.

    ``starting`` counts only before its first micro-batch; ``recorded``: its query is on record as that of bronze.
    """

    checkpoint: str
    version: int
    recorded: bool
    starting: str | Offsets


def open_checkpoint(
    spark: SparkSession, cfg: Config, source: str, bronze: str, info: TopicInfo, accept_loss: bool
) -> IngestCheckpoint:
    """The checkpoint to go on with: the one that fills bronze, or after an accepted loss a new one behind the hole.

    Raises
    ------
    CheckpointError
        It is not the one that filled this bronze table.
    DataLossError
        Kafka no longer has what is landed next, and nobody accepted that.
    """
    topic = cfg.source(source).topic
    known = latest_record(spark, cfg, KIND, topic)
    landed = recorded_landing(spark, cfg, topic)
    recorded = known is not None and int(known.payload.get("version", 1)) == landed.version
    checkpoint = cfg.checkpoint("ingest", topic, landed.version)
    guard_checkpoint(spark, bronze, checkpoint, known if recorded else None)
    landed = record_landing(spark, cfg, source, gappy=compacted(info))
    # A checkpoint behind an accepted loss that has planned nothing yet reads from there on.
    reads = next_offsets(spark, checkpoint) or ({topic: landed.ends} if landed.version > 1 else {})
    if accept_loss:
        landed = _accepted_before(spark, cfg, topic, landed)
        if gone_offsets(cfg, topic, reads.get(topic, {})):
            landed = _accepted(spark, cfg, topic, bronze, reads[topic])
            checkpoint, recorded = cfg.checkpoint("ingest", topic, landed.version), False
    else:
        way_out = f"go on from the oldest record left, with the hole on record: twinrun ingest {source} --accept-loss"
        guard_reads(cfg, [topic], checkpoint, reads, way_out)
    # A partition that came later begins at its first offset (-2 to Kafka).
    starting = {**dict.fromkeys(range(info.partitions), -2), **landed.ends} if landed.version > 1 else "earliest"
    return IngestCheckpoint(checkpoint, landed.version, recorded, starting)


def guard_checkpoint(spark: SparkSession, bronze: str, checkpoint: str, known: Record | None) -> None:
    """Refuse a checkpoint by which bronze would miss records or get them twice.

    Parameters
    ----------
    known : Record, optional
        Which query fills this bronze table; None before the first.

    Raises
    ------
    CheckpointError
        It is not the one that filled this bronze table.
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


def _accepted(spark: SparkSession, cfg: Config, topic: str, bronze: str, reads: Offsets) -> Landed:
    """Record what is lost, and where the next checkpoint begins."""
    if table_exists(spark, bronze):
        # A micro-batch may be in bronze and not in the checkpoint: a new one must not land it again.
        held = end_offsets(read_table(spark, bronze), "partition", "offset")
        reads = {partition: max(offset, held.get(partition, 0)) for partition, offset in reads.items()}
    at_ms = int(time.time() * 1000)
    gone = gone_offsets(cfg, topic, reads)
    losses = tuple(Loss(partition, start, end, at_ms) for partition, (start, end) in sorted(gone.items()))
    return record_loss(spark, cfg, topic, losses, {**reads, **{loss.partition: loss.end for loss in losses}})


def _accepted_before(spark: SparkSession, cfg: Config, topic: str, landed: Landed) -> Landed:
    """Record that what Kafka had removed before the first ingest is not to be waited for."""
    known = {(loss.partition, loss.end) for loss in landed.losses}
    at_ms = int(time.time() * 1000)
    losses = tuple(
        Loss(partition, 0, first, at_ms)
        for partition, first in sorted(landed.starts.items())
        if first and (partition, first) not in known
    )
    return record_loss(spark, cfg, topic, losses, {}) if losses else landed


def read_topic(spark: SparkSession, cfg: Config, source: str, starting: str | Offsets = "earliest") -> DataFrame:
    """The topic as a stream of raw records with headers, from its earliest record: bronze is complete."""
    return kafka_stream(spark, cfg, cfg.source(source), None, starting).select(*BRONZE_COLUMNS)


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
) -> list[RunSummary]:
    """Land the topics of a job's sources; as `run`, with the parameters of the runners. ``fresh`` is not used.

    Raises
    ------
    InputError
        The job has several sources, and ``stream.trigger`` makes of each a run that does not end.
    """
    if len(job.sources) != 1 and cfg.stream.trigger != "available-now":
        raise InputError(
            f"{job.job_name} has {len(job.sources)} sources, each a run of its own.",
            expected="a job with one source, or the trigger available-now",
            fix="submit a job that reads only one of them, or use twinrun ingest",
        )
    return [run(spark, cfg, source, stop) for source in job.sources if stop is None or not stop.is_set()]


def main(argv: list[str] | None = None) -> int:
    """Entry point of spark-submit; the same run as ``twinrun ingest``."""
    return submitted("ingest", run_job, sys.argv[1:] if argv is None else argv)


if __name__ == "__main__":
    sys.exit(main())
