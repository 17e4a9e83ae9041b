"""Where engines are run and judged: the log in its topics, twinrun's tables, and each verify row by row."""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl
import psutil
from confluent_kafka import Producer
from pyspark.sql import SparkSession

from bench.engine_log import PARTITIONS, Event, Log, RowKey
from bench.engine_runs import HERE
from bench.machine import cpu_s
from twinrun.config.load import load_config
from twinrun.config.model import Config
from twinrun.explain.verify import verify
from twinrun.external.declared import external_binding
from twinrun.external.verify import verify_external
from twinrun.job.loader import load_job
from twinrun.results.verdict import Verdict

TOPICS = {"sales": ("orders", PARTITIONS), "sales_one": ("orders_one", 1)}
SO_FAR = "sales_so_far"
Judged = dict[tuple[RowKey, str], tuple[str, dict[str, int]]]
"""By row and kind of difference: verdict and causes."""


@dataclass
class World:
    """Broker, session, tables; ``prefix`` stands before the name of each topic."""

    bootstrap: str
    root: Path
    spark: SparkSession | None = None
    prefix: str = ""

    def topic(self, job: str) -> str:
        """The topic that a job reads."""
        return self.prefix + TOPICS[job][0]

    def cfg(self, **more: Any) -> Config:
        file = self.root / "conf" / "engines.yaml"
        file.parent.mkdir(exist_ok=True)
        text = {
            "kafka": {"bootstrap_servers": self.bootstrap},
            "warehouse": str(self.root / "wh"),
            "checkpoints": str(self.root / "cp"),
            "report": {"folder": str(self.root / "reports")},
            "sources": {source: {"topic": self.prefix + source} for source, _ in TOPICS.values()},
            "stream": {"max_offsets_per_trigger": 1_000},
        }
        file.write_text(json.dumps(text), encoding="utf-8")
        return load_config(file, [f"{key}={value}" for key, value in more.items()], env={})

    def lay(self, events: Sequence[Event], per_s: float = 0) -> None:
        """Send events to both topics, each partition in the order of the log; at once, or so many a second."""
        producer = Producer({"bootstrap.servers": self.bootstrap, "enable.idempotence": True, "linger.ms": 5})
        began = time.monotonic()
        for number, event in enumerate(events):
            while per_s and (early_s := number / per_s - (time.monotonic() - began)) > 0:
                producer.poll(early_s)
            key, value = event.record()
            producer.produce(self.topic("sales"), key=key, value=value, partition=event.partition)
            producer.produce(self.topic("sales_one"), key=key, value=value, partition=0)
            producer.poll(0)
        if producer.flush(30):
            sys.exit("the log could not be laid")

    def external(self, job: str, **declared: Any) -> tuple[Verdict, Judged]:
        """Verify a topic against the batch, and every differing row as it was judged."""
        assert self.spark is not None
        cfg = self.cfg(**{f"external.{job}.{key}": json.dumps(value) for key, value in declared.items()})
        loaded = load_job(HERE / "jobs" / f"{job}.py")
        table = cfg.table("external_differences")
        before = _ids(table)
        verdict = verify_external(self.spark, cfg, loaded, external_binding(cfg, loaded))
        found: Judged = {}
        for row in _table(table).iter_rows(named=True):
            if row["verify_id"] in before:
                continue
            key = json.loads(row["key_id"])
            start = round(datetime.fromisoformat(key["window_start"]).timestamp() * 1000)
            found[(key["shop"], start), row["kind"]] = row["verdict"], dict(row["causes"])
        return verdict, found


def _table(path: str) -> pl.DataFrame:
    if not (Path(path) / "_delta_log").exists():
        return pl.DataFrame(schema={"verify_id": pl.String})  # no verify has had anything to write there
    return pl.read_delta(path)


def _ids(path: str) -> set[str]:
    return set(_table(path)["verify_id"].to_list())


def run_batches(world: World, jobs: Sequence[str] = (*TOPICS, SO_FAR)) -> dict[str, float]:
    """Land both topics and run these jobs over what was landed; CPU seconds of each batch run."""
    assert world.spark is not None
    ingest, batch = (importlib.import_module(f"twinrun.{name}") for name in ("streaming.ingest", "batch.runner"))
    for job in TOPICS:
        ingest.run(world.spark, world.cfg(), load_job(HERE / "jobs" / f"{job}.py").sources[0])
    taken = {}
    for job in jobs:
        before = cpu_s()
        batch.run(world.spark, world.cfg(), load_job(HERE / "jobs" / f"{job}.py"))
        taken[job] = cpu_s() - before
    return taken


def run_twinrun(world: World, log: Log) -> dict[str, Any]:
    """Both modes, and the ordinary verify."""
    assert world.spark is not None
    cpu = {"batch": run_batches(world)["sales"]}
    loaded, before = load_job(HERE / "jobs" / "sales.py"), cpu_s()
    importlib.import_module("twinrun.streaming.runner").run(world.spark, world.cfg(), loaded)
    cpu["stream"] = cpu_s() - before
    print(f"twinrun: {cpu}", flush=True)
    verdict = verify(world.spark, world.cfg(), loaded)
    version = f"Spark {world.spark.version}"
    million = 1e6 / len(log.events)
    return {
        "version": version,
        "batch": {
            "rows": verdict.rows_compared + verdict.rows_pending,
            "cpu_s_per_million": round(cpu["batch"] * million),
        },
        "stream": {
            "rows": verdict.rows_compared,
            "lost": sum(each.events or 0 for each in verdict.causes if each.cause == "late_dropped"),
            "explained": verdict.rows_explained,
            "unexplained": verdict.rows_unexplained,
            "pending": verdict.rows_pending,
            "outcome": verdict.outcome,
            "cpu_s_per_million": round(cpu["stream"] * million),
        },
        "memory_bytes": _java_memory(),
    }


def _java_memory() -> int:
    """Of this process and its Java, without the broker."""
    own = psutil.Process()
    java = [each for each in own.children() if "java" in each.name() and "kafka.Kafka" not in each.cmdline()]
    return sum(each.memory_info().rss for each in (own, *java))
