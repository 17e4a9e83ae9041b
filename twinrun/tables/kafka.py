"""The Kafka side of a stream: reader options, the guards around a topic, and what is not there any more."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from twinrun.broker.topics import TopicInfo, describe_topic, offset_ranges
from twinrun.config.model import Config
from twinrun.config.sections import SourceBinding
from twinrun.errors import CheckpointError, DataLossError
from twinrun.tables.checkpoint import Offsets, next_offsets, plain
from twinrun.tables.control import add_record, latest_record, latest_records
from twinrun.tables.delta import read_table, table_exists

# The Kafka side of a stream: reader options, and the guards that a topic still is and has what is read next.


KIND = "topic"
_EARLIEST = -2  # as Spark writes it
# A time that is given for a start has a zone, and cannot be read so.
_PLACE = re.compile(r"([A-Za-z0-9._\-]+):([0-9]+):([0-9]+)")


def kafka_stream(
    spark: SparkSession,
    cfg: Config,
    binding: SourceBinding,
    max_offsets: int | None,
    starting: str | Offsets = "earliest",
) -> DataFrame:
    """A source's topic as a stream of raw records, by its isolation level; nothing is read yet.

    ``starting`` is ``earliest``, ``latest``, an ISO time, places as `places_of` reads them or an offset for each
    partition, and counts only for a new checkpoint. Lost offsets always fail the query (failOnDataLoss).
    """
    if isinstance(starting, str):
        starting = places_of(starting).get(binding.topic, starting)
    reader = spark.readStream.format("kafka").option("subscribe", binding.topic).option("includeHeaders", "true")
    reader = reader.options(**cfg.kafka.spark_options()).option("failOnDataLoss", "true")
    reader = reader.option("kafka.isolation.level", binding.isolation)
    if not isinstance(starting, str):
        offsets = {str(partition): offset for partition, offset in starting.items()}
        reader = reader.option("startingOffsets", json.dumps({binding.topic: offsets}))
    elif starting in ("earliest", "latest"):
        reader = reader.option("startingOffsets", starting)
    else:
        instant_ms = int(datetime.fromisoformat(starting).timestamp() * 1000)
        reader = reader.option("startingTimestamp", str(instant_ms))
        reader = reader.option("startingOffsetsByTimestampStrategy", "latest")
    if max_offsets is not None:
        reader = reader.option("maxOffsetsPerTrigger", str(max_offsets))
    return reader.load()


def places_of(text: str) -> dict[str, dict[int, int]]:
    """Topics with offsets by partition, from ``TOPIC:PARTITION:OFFSET,...``; none where it says another start."""
    found: dict[str, dict[int, int]] = {}
    for place in text.split(","):
        match = _PLACE.fullmatch(place)
        if match is None:
            return {}
        found.setdefault(match[1], {})[int(match[2])] = int(match[3])
    return found


def places_text(places: Mapping[str, Mapping[int, int]]) -> str:
    """The same as text."""
    return ",".join(f"{topic}:{number}:{at}" for topic, offsets in places.items() for number, at in offsets.items())


def kafka_range(spark: SparkSession, cfg: Config, binding: SourceBinding, starts: Offsets, ends: Offsets) -> DataFrame:
    """Records of a source's topic between offsets, as `kafka_stream` reads them; lazy.

    Only the partitions of ``ends``, of which there must be one, are read; one without a start begins at its first.
    """
    first = {str(partition): starts.get(partition, _EARLIEST) for partition in ends}
    reader = spark.read.format("kafka").option("includeHeaders", "true").options(**cfg.kafka.spark_options())
    reader = reader.option("kafka.isolation.level", binding.isolation).option("failOnDataLoss", "true")
    reader = reader.option("assign", json.dumps({binding.topic: sorted(ends)}))
    reader = reader.option("startingOffsets", json.dumps({binding.topic: first}))
    last = {str(partition): end for partition, end in ends.items()}
    return reader.option("endingOffsets", json.dumps({binding.topic: last})).load()


def topic_info(cfg: Config, topic: str) -> TopicInfo:
    """Describe the topic; BrokerError when the broker or the topic is not there."""
    return describe_topic(cfg.kafka.bootstrap_servers, topic, cfg.kafka.confluent_options())


def compacted(info: TopicInfo) -> bool:
    """Whether Kafka removes records in between, as a compacted topic does."""
    return "compact" in info.config.get("cleanup.policy", "")


def guard_topic(spark: SparkSession, cfg: Config, source: str, reader: str) -> TopicInfo:
    """Refuse a topic that was made anew since ``reader`` first read it, or that it read by another isolation level.

    Offsets of a new topic mean other records, and by another level other records count. About two small Spark jobs and
    two requests to Kafka.

    Parameters
    ----------
    source : str
        Its binding says the topic and the isolation level.
    reader : str
        Whose records these are: one ingest, or one version of a stream.

    Raises
    ------
    BrokerError
        Kafka or the topic cannot be reached.
    CheckpointError
        The topic has another id than before, or the source another isolation level.
    """
    binding = cfg.source(source)
    topic = binding.topic
    info = topic_info(cfg, topic)
    known = latest_record(spark, cfg, KIND, f"{reader}:{topic}")
    if known is None or (known.payload["topic_id"] == info.topic_id and "isolation" not in known.payload):
        now = {"topic_id": info.topic_id, "isolation": binding.isolation}
        add_record(spark, cfg, KIND, f"{reader}:{topic}", now)
    elif known.payload["topic_id"] != info.topic_id:
        raise CheckpointError(
            f"the topic {topic} was deleted and created anew since {reader} last read it; its offsets mean other "
            "records now.",
            expected=f"topic id {known.payload['topic_id']}, found {info.topic_id}",
            fix="for a stream: twinrun stream --new-checkpoint; for bronze: use a new topic name or a new warehouse",
        )
    elif known.payload["isolation"] != binding.isolation:
        raise CheckpointError(
            f"{reader} has read the topic {topic} by isolation level {known.payload['isolation']} so far, and now "
            f"sources.{source}.isolation_level says {binding.isolation}: records of aborted transactions would count "
            "in one part and not in the other.",
            expected=f"{known.payload['isolation']}, as before",
            fix=f"set sources.{source}.isolation_level to {known.payload['isolation']}; for a stream, "
            "--new-checkpoint reads everything by the new level, and bronze needs a warehouse of its own then",
        )
    return info


def stream_reader(job: str, version: int) -> str:
    """The name under which a version of a job's stream is on record as a reader of topics."""
    return f"{stream_readers(job)}{version}"


def stream_readers(job: str) -> str:
    """How the names of all versions of a job's stream begin."""
    return f"stream:{job}:v"


def ingest_reader(topic: str) -> str:
    """The same for the ingest of a topic."""
    return f"ingest:{topic}"


def topic_ids_of(spark: SparkSession, cfg: Config, topic: str, readers: Iterable[str]) -> dict[str, str]:
    """By reader the id that a topic had when it first read it, where that is on record. Two small Spark jobs."""
    found = latest_records(spark, cfg, [(KIND, f"{reader}:{topic}") for reader in readers])
    return {subject.removesuffix(f":{topic}"): str(each.payload["topic_id"]) for (_, subject), each in found.items()}


def isolation_of(spark: SparkSession, cfg: Config, topic: str, reader: str) -> str:
    """The isolation level that a reader has used; empty where that is not on record. One small Spark job."""
    known = latest_record(spark, cfg, KIND, f"{reader}:{topic}")
    return "" if known is None else str(known.payload.get("isolation", ""))


def guard_offsets(spark: SparkSession, cfg: Config, topics: list[str], checkpoint: str, way_out: str) -> None:
    """Refuse to go on where Kafka no longer has what a checkpoint reads next, before a new micro-batch is planned.

    Up to three small Spark jobs and two requests to Kafka per topic. Raises as `guard_reads`.
    """
    guard_reads(cfg, topics, checkpoint, next_offsets(spark, checkpoint), way_out)


def guard_reads(cfg: Config, topics: list[str], checkpoint: str, reads: Mapping[str, Offsets], way_out: str) -> None:
    """The same for offsets that are known, by topic: what a checkpoint reads next.

    Raises
    ------
    BrokerError
        Kafka cannot be reached.
    CheckpointError
        The checkpoint was made by a query over other topics.
    DataLossError
        Offsets are gone; the message names them.
    """
    foreign = sorted(set(reads) - set(topics))
    if foreign:
        raise CheckpointError(
            f"the checkpoint at {checkpoint} belongs to another query, which reads {', '.join(foreign)}.",
            expected=f"a checkpoint of a query over {', '.join(topics)}",
            fix=f"put back the checkpoint that belongs here, or {way_out}",
        )
    gone = [
        f"{topic} {span_text(partition, start, end)}"
        for topic, partitions in reads.items()
        for partition, (start, end) in sorted(gone_offsets(cfg, topic, partitions).items())
    ]
    if gone:
        raise DataLossError(
            f"Kafka no longer has records that were not read yet: {'; '.join(gone)}.",
            expected="a retention that keeps what is still to be read",
            fix=f"put the records back (a mirror, a backup), or {way_out}",
        )


def gone_offsets(cfg: Config, topic: str, reads: Offsets) -> dict[int, tuple[int, int]]:
    """Per partition the offsets (end exclusive) that are read next and that Kafka has removed; none: nothing is lost.

    Two requests to Kafka. A partition that the topic does not have is left out.
    """
    kept = offset_ranges(cfg.kafka.bootstrap_servers, topic, cfg.kafka.confluent_options())
    return {
        partition: (offset, kept[partition][0])
        for partition, offset in reads.items()
        if partition in kept and offset < kept[partition][0]
    }


def span_text(partition: int, start: int, end: int) -> str:
    """A span of offsets in words; ``end`` is exclusive."""
    if end - start == 1:
        return f"partition {partition} offset {start}"
    return f"partition {partition} offsets {start} to {end - 1}"


# What is not there any more: records that expired by age, were erased, or were lost before they could be landed.
#
# Checks must neither miss them nor judge by what is left.


EXPIRY = "expiry"
"""Kind of the control record, by topic, that says how far records have expired. Written before they are removed."""


@dataclass(frozen=True)
class Loss:
    """Offsets of one Kafka partition, ``start`` to ``end`` (exclusive), that Kafka had removed before they were landed.

    ``accepted_at_ms`` (epoch ms): when somebody said to go on without them; None while nobody has.
    """

    partition: int
    start: int
    end: int
    accepted_at_ms: int | None = None

    @property
    def offsets(self) -> int:
        """How many there are."""
        return self.end - self.start


@dataclass(frozen=True)
class Gone:
    """What of one source is gone.

    Attributes
    ----------
    ends : dict
        Per partition: every record below this offset has expired.
    steps : tuple of (int, int)
        Expiries, oldest first: only events before that instant (epoch ms) had expired then, and the number of the last
        decode at that time: what was decoded later came too late for windows that begin before the instant.
    erased : DataFrame or None
        Erased records of the topic that have not expired: ``partition``, ``offset``, ``event_time_ms`` (null for a
        record that never became an event). None where there are none.
    lost : tuple of Loss
        Offsets that the stream read and bronze never got; which windows their events belong to is not known.
    """

    ends: Offsets = field(default_factory=dict)
    steps: tuple[tuple[int, int], ...] = ()
    erased: DataFrame | None = None
    lost: tuple[Loss, ...] = ()

    @property
    def before_ms(self) -> int:
        """Windows that begin at or after this instant (epoch ms) have lost nothing to age; 0: none has."""
        return max((before_ms for before_ms, _ in self.steps), default=0)

    @property
    def anything(self) -> bool:
        """Whether anything is gone at all."""
        return self.before_ms > 0 or self.erased is not None or bool(self.lost)


def gone_of(spark: SparkSession, cfg: Config, source: str) -> Gone:
    """What is gone of a source. At most two small Spark jobs."""
    topic = cfg.source(source).topic
    record = latest_record(spark, cfg, EXPIRY, topic)
    payload = record.payload if record else {"ends": {}, "steps": []}
    return Gone(
        ends=plain(payload["ends"]),
        steps=tuple((int(step["before_ms"]), int(step["seqs"].get(source, 0))) for step in payload["steps"]),
        erased=_erased(spark, cfg, topic, plain(payload["ends"])),
    )


def _erased(spark: SparkSession, cfg: Config, topic: str, ends: Offsets) -> DataFrame | None:
    ref = cfg.table("erased")
    if not table_exists(spark, ref):
        return None
    mine = read_table(spark, ref).filter(F.col("topic") == topic)
    for partition, end in ends.items():
        mine = mine.filter((F.col("partition") != partition) | (F.col("offset") >= end))
    rows = mine.select("partition", "offset", "event_time_ms").distinct()
    return None if rows.isEmpty() else rows
