"""The Kafka side of a stream: reader options, and the guards that a topic still is and has what is read next."""

from __future__ import annotations

from datetime import datetime

from pyspark.sql import DataFrame, SparkSession

from twinrun.broker.topics import TopicInfo, describe_topic, offset_ranges
from twinrun.config.model import Config
from twinrun.errors import CheckpointError, DataLossError
from twinrun.tables.checkpoint import next_offsets
from twinrun.tables.control import add_record, latest_record

KIND = "topic"


def kafka_stream(
    spark: SparkSession, cfg: Config, topic: str, max_offsets: int | None, starting: str = "earliest"
) -> DataFrame:
    """The topic as a stream of raw records; nothing is read yet.

    ``starting`` is ``earliest``, ``latest`` or an ISO time, and counts only for a new checkpoint. Lost offsets always
    fail the query (failOnDataLoss).
    """
    reader = spark.readStream.format("kafka").option("subscribe", topic).option("includeHeaders", "true")
    reader = reader.options(**cfg.kafka.spark_options()).option("failOnDataLoss", "true")
    if starting in ("earliest", "latest"):
        reader = reader.option("startingOffsets", starting)
    else:
        instant_ms = int(datetime.fromisoformat(starting).timestamp() * 1000)
        reader = reader.option("startingTimestamp", str(instant_ms))
        reader = reader.option("startingOffsetsByTimestampStrategy", "latest")
    if max_offsets is not None:
        reader = reader.option("maxOffsetsPerTrigger", str(max_offsets))
    return reader.load()


def topic_info(cfg: Config, topic: str) -> TopicInfo:
    """Describe the topic; BrokerError when the broker or the topic is not there."""
    return describe_topic(cfg.kafka.bootstrap_servers, topic, cfg.kafka.confluent_options())


def guard_topic(spark: SparkSession, cfg: Config, topic: str, reader: str) -> TopicInfo:
    """Refuse a topic that was deleted and created anew since ``reader`` first read it: its offsets mean other records.

    About two small Spark jobs and two requests to Kafka.

    Raises
    ------
    BrokerError
        Kafka or the topic cannot be reached.
    CheckpointError
        The topic has another id than before.
    """
    info = topic_info(cfg, topic)
    known = latest_record(spark, cfg, KIND, f"{reader}:{topic}")
    if known is None:
        add_record(spark, cfg, KIND, f"{reader}:{topic}", {"topic_id": info.topic_id})
    elif known.payload["topic_id"] != info.topic_id:
        raise CheckpointError(
            f"the topic {topic} was deleted and created anew since {reader} last read it; its offsets mean other "
            "records now.",
            expected=f"topic id {known.payload['topic_id']}, found {info.topic_id}",
            fix="for a stream: twinrun stream --new-checkpoint; for bronze: use a new topic name or a new warehouse",
        )
    return info


def guard_offsets(spark: SparkSession, cfg: Config, topics: list[str], checkpoint: str, way_out: str) -> None:
    """Refuse to go on where Kafka no longer has what a checkpoint reads next, before a new micro-batch is planned.

    Up to three small Spark jobs and four requests to Kafka per topic.

    Raises
    ------
    BrokerError
        Kafka cannot be reached.
    CheckpointError
        The checkpoint was made by a query over other topics.
    DataLossError
        Offsets are gone; the message names them.
    """
    reads = next_offsets(spark, checkpoint)
    foreign = sorted(set(reads) - set(topics))
    if foreign:
        raise CheckpointError(
            f"the checkpoint at {checkpoint} belongs to another query, which reads {', '.join(foreign)}.",
            expected=f"a checkpoint of a query over {', '.join(topics)}",
            fix=f"put back the checkpoint that belongs here, or {way_out}",
        )
    gone = [
        f"{topic} partition {partition} offsets {offset} to {kept[partition][0] - 1}"
        for topic, partitions in reads.items()
        for kept in [offset_ranges(cfg.kafka.bootstrap_servers, topic, cfg.kafka.confluent_options())]
        for partition, offset in sorted(partitions.items())
        if partition in kept and offset < kept[partition][0]
    ]
    if gone:
        raise DataLossError(
            f"Kafka no longer has records that were not read yet: {'; '.join(gone)}.",
            expected="a retention that keeps what is still to be read",
            fix=f"put the records back (a mirror, a backup), or {way_out}",
        )
