"""What a verify asks about its surroundings: how far have topic, bronze and batch come."""

from __future__ import annotations

from dataclasses import dataclass

from pyspark.sql import SparkSession

from twinrun.broker.topics import TopicInfo, offset_ranges
from twinrun.config.model import Config
from twinrun.errors import BrokerError
from twinrun.explain.lost import ByName, gone_from
from twinrun.job.job import Job
from twinrun.results.audit import audit_source
from twinrun.results.cut import StreamCut
from twinrun.results.state import BatchState
from twinrun.results.verdict import Audit
from twinrun.tables.delta import read_table
from twinrun.tables.kafka import topic_info
from twinrun.tables.offsets import Offsets, end_offsets, lag


@dataclass(frozen=True)
class Reach:
    """How far everything around the cut has come, per source, and what of it was removed on purpose."""

    broker: dict[str, Offsets | None]
    bronze: dict[str, Offsets]
    topics: dict[str, TopicInfo | None]
    gone: ByName


def reach_of(spark: SparkSession, cfg: Config, job: Job) -> Reach:
    """Ends of the topics and of bronze; a broker that does not answer is noted, not fatal: tables can be verified."""
    broker: dict[str, Offsets | None] = {}
    topics: dict[str, TopicInfo | None] = {}
    bronze = {}
    for source in job.sources:
        topic = cfg.source(source.name).topic
        bronze[source.name] = end_offsets(read_table(spark, cfg.table("bronze", topic=topic)), "partition", "offset")
        try:
            ranges = offset_ranges(cfg.kafka.bootstrap_servers, topic, cfg.kafka.confluent_options())
            broker[source.name] = {partition: high for partition, (_, high) in ranges.items()}
            topics[source.name] = topic_info(cfg, topic)
        except BrokerError:
            broker[source.name], topics[source.name] = None, None
    return Reach(broker, bronze, topics, gone_from(spark, cfg, job))


def unread(cut: StreamCut, reach: Reach, job: Job) -> int:
    """Records that the stream has not read yet, by the broker where it answers, else by bronze."""
    ahead = {s.name: reach.broker[s.name] or reach.bronze[s.name] for s in job.sources}
    started = {s.name: {**cut.start.get(s.name, {}), **cut.end.get(s.name, {})} for s in job.sources}
    return sum(lag(ahead[name], started[name]) for name in ahead)


def audits_of(spark: SparkSession, cfg: Config, job: Job, batch: BatchState, reach: Reach) -> tuple[Audit, ...]:
    """Whether what was landed, decoded and refused adds up, per source. About two Spark jobs each."""
    ends, topics, gone = batch.ends, reach.topics, reach.gone
    return tuple(audit_source(spark, cfg, s, ends[s.name], topics[s.name], gone[s.name]) for s in job.sources)
