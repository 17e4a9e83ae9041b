"""A real broker for the session, and a small world around it: topic, tables, runs and verify."""

from __future__ import annotations

import importlib
import json
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from twinrun.broker.process import BrokerInfo
from twinrun.broker.topics import create_topic
from twinrun.config.load import load_config
from twinrun.config.model import Config
from twinrun.explain.verify import verify
from twinrun.job.job import Job
from twinrun.job.loader import load_job
from twinrun.produce.producer import produce
from twinrun.produce.records import Record
from twinrun.results.records import RunSummary
from twinrun.results.verdict import Verdict

JOBS = Path(__file__).parent / "jobs"
T0_MS = 1_357_466_400_000
"""2013-01-06 10:00 UTC: minute 0 of every hand-built log."""


@dataclass
class World:
    """One topic with its tables; every step is the product's own."""

    spark: SparkSession
    root: Path
    topic: str
    bootstrap: str
    overrides: dict[str, Any]
    partitions: int = 1
    more_topics: dict[str, str] = field(default_factory=dict)
    """Topics of further sources by the name of the source."""

    def cfg(self, **more: Any) -> Config:
        """The configuration as a user's YAML file would give it."""
        file = self.root / "conf" / "test.yaml"
        file.parent.mkdir(exist_ok=True)
        text = {
            "kafka": {"bootstrap_servers": self.bootstrap},
            "warehouse": str(self.root / "wh"),
            "checkpoints": str(self.root / "cp"),
            "report": {"folder": str(self.root / "reports")},
            "sources": {name: {"topic": topic} for name, topic in {"clicks": self.topic, **self.more_topics}.items()},
            "verify": {"max_lag_events": 0},
        }
        file.write_text(json.dumps(text), encoding="utf-8")
        sets = {**self.overrides, **more}
        return load_config(file, [f"{key}={value}" for key, value in sets.items()], env={})

    def job(self, name: str = "per_minute") -> Job:
        return load_job(JOBS / f"{name}.py")

    def add_topic(self, source: str) -> None:
        """The topic of a further source, empty, with as many partitions as the first."""
        self.more_topics[source] = f"{self.topic}-{source}"
        create_topic(self.bootstrap, self.more_topics[source], self.partitions)

    def produce(self, records: Iterable[Record], source: str = "clicks") -> None:
        topic = {"clicks": self.topic, **self.more_topics}[source]
        assert produce(records, topic, {"bootstrap.servers": self.bootstrap}).failed == 0

    def ingest(self, job: str = "per_minute") -> RunSummary:
        runner = importlib.import_module("twinrun.streaming.ingest")
        return [runner.run(self.spark, self.cfg(), source) for source in self.job(job).sources][-1]

    def stream(self, job: str = "per_minute", fresh: str | None = None, **more: Any) -> RunSummary:
        runner = importlib.import_module("twinrun.streaming.runner")
        return runner.run(self.spark, self.cfg(**more), self.job(job), fresh)

    def batch(self, job: str = "per_minute", fresh: str | None = None) -> RunSummary:
        runner = importlib.import_module("twinrun.batch.runner")
        return runner.run(self.spark, self.cfg(), self.job(job), fresh)

    def verify(self, job: str = "per_minute", **more: Any) -> Verdict:
        return verify(self.spark, self.cfg(), self.job(job), **more)

    def run_all(self, records: Iterable[Record], job: str = "per_minute", **more: Any) -> Verdict:
        self.produce(records)
        self.ingest()
        self.stream(job, **more)
        self.batch(job)
        return self.verify(job)

    def table(self, kind: str, job: str = "per_minute") -> Path:
        return self.root / "wh" / "results" / job / f"{kind}_v1"


@pytest.fixture(scope="module")
def make_world(spark_session: SparkSession, broker: BrokerInfo, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Make worlds that share nothing but session and broker."""

    def make(partitions: int = 1, **overrides: Any) -> World:
        topic = f"clicks-{uuid.uuid4().hex[:8]}"
        create_topic(broker.bootstrap_servers, topic, partitions)
        root = tmp_path_factory.mktemp("world")
        options = {"stream.max_offsets_per_trigger": 4, **overrides}
        return World(spark_session, root, topic, broker.bootstrap_servers, options, partitions)

    return make


def click(
    second: float, page: str = "a", *, name: str | None = None, known: float | None = None, **more: Any
) -> Record:
    """One click at a second after `T0_MS`; ``known`` is the second at which Kafka got it."""
    at_ms = T0_MS + int(second * 1000)
    fields = {"id": name or uuid.uuid4().hex[:8], "at": at_ms, "page": page, "amount": 1.25, "weight": 0.1, **more}
    known_ms = at_ms if known is None else T0_MS + int(known * 1000)
    return Record(fields["id"].encode(), json.dumps(fields).encode(), known_ms)
