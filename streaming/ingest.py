"""Land a topic in bronze: every record once, its value untouched bytes, by Delta's own exactly-once sink."""

from __future__ import annotations

import threading
import time

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.streaming.query import StreamingQuery
from twinrun.streaming.progress import follow

from twinrun.config.model import Config
from twinrun.events.source import Source
from twinrun.results.run import OnProgress, RunSummary, new_run_id
from twinrun.session.plain import plain_errors
from twinrun.tables.delta import latest_version, table_exists
from twinrun.tables.kafka import guard_topic, kafka_stream
from twinrun.tables.lease import held_lease

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
        Another ingest of this topic is running.
    BrokerError
        Kafka or the topic cannot be reached, or the topic was recreated since.
    QueryError
        The query failed; offsets that were not landed stay in Kafka and are read by the next run.
    """
    topic = cfg.source(source.name).topic
    began = time.monotonic()
    bronze, checkpoint = cfg.table("bronze", topic=topic), cfg.checkpoint("ingest", topic, 1)
    with held_lease(spark, cfg, f"ingest:{topic}", f"twinrun ingest {topic}") as lease:
        guard_topic(spark, cfg, topic, f"ingest:{topic}")
        with plain_errors(f"the ingest of {topic}"):
            query = write_bronze(read_topic(spark, cfg, topic), cfg, bronze, checkpoint, f"ingest {topic}")
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


def read_topic(spark: SparkSession, cfg: Config, topic: str) -> DataFrame:
    """The topic as a stream of raw records with headers, from ``starting_offsets`` of conf."""
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
