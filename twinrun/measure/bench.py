"""What all arms of a measurement share, and the topic, tables and checkpoints that each has of its own."""

from __future__ import annotations

import importlib
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

from twinrun.broker.process import BrokerInfo
from twinrun.broker.topics import create_topic
from twinrun.config.model import Config
from twinrun.config.sections import Kafka, SinkBinding, SourceBinding, TableBinding
from twinrun.errors import InputError
from twinrun.job.job import Job
from twinrun.measure.freshness import Freshness
from twinrun.measure.load import Due, Load, Order, Sent, write_dues
from twinrun.measure.results import Unit
from twinrun.measure.usage import Cpu, Peak
from twinrun.produce.producer import produce
from twinrun.produce.records import Record
from twinrun.results.cut import StreamCut, stream_cut
from twinrun.results.state import BatchState, batch_state, stream_state
from twinrun.tables.bronze import TOPIC

LEAD_S = 4.0
"""From the start of the producer's process until the first record is due."""


@dataclass(frozen=True)
class Bench:
    """What all arms share.

    Attributes
    ----------
    cfg : Config
        The user's; topics, tables and checkpoints are each arm's own.
    dues : sequence of Due
        The load; every arm gets the same.
    settle_s : float
        How long after the load an arm may take to read what is left.
    tables : dict
        Static tables that are bound otherwise than in the configuration.
    primer : sequence of Record
        Records that each arm has seen before its load begins, so that no run under load makes the tables.
        They have no due time and are in no figure; the verify compares them like all others.
    name : str
        Of the job, as the configuration has it, or the path of its file: how a process of its own finds it.
    topics : str
        What the names of its topics begin with.
    """

    spark: SparkSession
    cfg: Config
    job: Job
    broker: BrokerInfo
    folder: Path
    dues: Sequence[Due]
    partitions: int
    cores: int
    settle_s: float
    stop: threading.Event
    tables: dict[str, TableBinding] = field(default_factory=dict)
    primer: Sequence[Record] = ()
    name: str = ""
    topics: str = "measure"

    def tables_of(self, name: str) -> ArmTables:
        """A fresh topic and folder."""
        folder = self.folder / name
        folder.mkdir(parents=True)
        topic = f"{self.topics}-{name}"
        of_arm = ArmTables(self, folder, topic)
        for each in (topic, *(sink.topic for sink in of_arm.sinks.values())):
            create_topic(self.broker.bootstrap_servers, each, self.partitions)
        if self.primer:
            produce(self.primer, topic, {"bootstrap.servers": self.broker.bootstrap_servers})
        return of_arm


@dataclass(frozen=True)
class ArmTables:
    """The topic, tables and checkpoints of one arm."""

    bench: Bench
    folder: Path
    topic: str

    @property
    def sinks(self) -> dict[str, SinkBinding]:
        """A topic of the arm's own for the job's results, where the user's configuration has one."""
        name = self.bench.job.job_name
        return {name: SinkBinding(topic=f"{self.topic}-sink")} if name in self.bench.cfg.sinks else {}

    def cfg(self, trigger: str = "available-now", interval_ms: int = 0, reads: str = TOPIC) -> Config:
        """The user's configuration with the places of this arm."""
        base, source = self.bench.cfg, self.bench.job.sources[0].name
        isolation = base.source(source).isolation_level
        limit = base.stream.max_offsets_per_trigger if reads == TOPIC else None
        stream = base.stream.model_copy(
            update={"trigger": trigger, "interval_ms": interval_ms, "reads": reads, "max_offsets_per_trigger": limit}
        )
        return base.model_copy(
            update={
                "kafka": Kafka(bootstrap_servers=self.bench.broker.bootstrap_servers),
                "warehouse": str(self.folder / "warehouse"),
                "checkpoints": str(self.folder / "checkpoints"),
                "sources": {**base.sources, source: SourceBinding(topic=self.topic, isolation_level=isolation)},
                "tables": {**base.tables, **self.bench.tables},
                "sinks": self.sinks,
                "stream": stream,
            }
        )

    def load(self, lead_s: float = LEAD_S) -> tuple[Load, float]:
        """Start the producer; the process, and when its first record is due (epoch seconds)."""
        start_s = time.time() + lead_s
        dues = self.folder.parent / "dues.jsonl"
        order = Order(self.bench.broker.bootstrap_servers, self.topic, str(dues), start_s, f"{self.folder}/sent.json")
        return Load(order, self.folder), start_s

    def ingest(self) -> Any:
        """Land what the topic has."""
        return run_of("streaming.ingest")(self.bench.spark, self.cfg(), self.bench.job.sources[0], self.bench.stop)

    def batch(self) -> Any:
        """A batch run."""
        return run_of("batch.runner")(self.bench.spark, self.cfg(), self.bench.job, None, self.bench.stop)

    def drain(self) -> Any:
        """The stream to the end of the topic."""
        return run_of("streaming.runner")(self.bench.spark, self.cfg(), self.bench.job, None, self.bench.stop)

    def batch_state(self) -> BatchState:
        """What the last batch run covered."""
        found = batch_state(self.bench.spark, self.cfg(), self.bench.job.job_name)
        if found is None:
            raise InputError(f"no batch run of {self.bench.job.job_name} has ended.")
        return found

    def cut(self) -> StreamCut:
        """What the stream had done."""
        state = stream_state(self.bench.spark, self.cfg(), self.bench.job.job_name)
        assert state is not None
        return stream_cut(self.bench.spark, self.cfg(), self.bench.job, state)


@dataclass
class Did:
    """What one arm did, before it is verified.

    Attributes
    ----------
    fresh : function
        Works out the freshness, once there is a batch over all events.
    phases : dict or None
        By micro-batch what Spark says that each phase took, ms; None where there is none, or no micro-batch.
    state : dict
        ``state_rows`` and ``state_bytes``, the most that were seen.
    """

    start_s: float
    sent: Sent
    used: Cpu
    peak: Peak
    kept_up: bool
    fresh: Callable[[], Freshness]
    units: list[Unit] = field(default_factory=list)
    overran: int = 0
    phases: dict[int, dict[str, int]] | None = None
    state: dict[str, int] = field(default_factory=dict)


def prepare(bench: Bench) -> None:
    """Write the load down once, for all arms."""
    bench.folder.mkdir(parents=True, exist_ok=True)
    write_dues(bench.dues, bench.folder / "dues.jsonl")


def run_of(module: str) -> Callable[..., Any]:
    """The ``run`` of a module of batch/ or streaming/, by name: both stay replaceable."""
    run: Callable[..., Any] = importlib.import_module(f"twinrun.{module}").run
    return run
