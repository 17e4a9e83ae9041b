"""A year of real flights in small micro-batches: is every difference proven, are exactly the right flights named?

``python -m bench.flights_year`` replays all flights of 2013 through a real broker and runs ``departures_per_hour`` as
batch and, once per lateness, as stream, in micro-batches of about 250 flights. Then an oracle that shares no code with
the product (polars, over the recorded offsets and watermarks and the raw records) says which flights each stream
dropped and what both results must be. Prints a table, writes bench/results/flights_year.json; exit code 1 where
anything is unexplained, or where product and oracle differ.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
from pyspark.sql import SparkSession

from bench.flights_oracle import Expected, expected_of, tables_problems
from bench.machine import commit, cpu_s, machine
from twinrun.broker.process import start_broker, stop_broker
from twinrun.broker.topics import create_topic
from twinrun.config.load import load_config
from twinrun.config.model import Config
from twinrun.explain.verify import verify
from twinrun.job.job import Job
from twinrun.job.loader import load_job
from twinrun.produce.flights import flight_events, flight_records, write_weather
from twinrun.produce.producer import produce
from twinrun.results.verdict import Verdict
from twinrun.session.spark import build_session, stop_session

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).parent / "results" / "flights_year.json"
_SESSION = {
    "spark.driver.memory": "3g",
    "spark.driver.extraJavaOptions": "-XX:+UseSerialGC -XX:ReservedCodeCacheSize=256m",
    # A micro-batch of some hundred flights is one task's work.
    "spark.sql.shuffle.partitions": "1",
    "spark.databricks.delta.snapshotPartitions": "1",
}


@dataclass(frozen=True)
class Year:
    """One stream over the year, verified, and held against the oracle. Times in seconds."""

    lateness: str
    micro_batches: int
    windows_compared: int
    windows_different: int
    rows_explained: int
    rows_unexplained: int
    dropped: int
    dropped_by_oracle: int
    named_as_by_oracle: bool
    exit_code: int
    problems: tuple[str, ...]
    stream_s: float
    verify_s: float
    verify_cpu_s: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the year; 1 where it is not as it must be."""
    asked = _asked(arguments)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="twinrun-year-") as folder:
        root = Path(folder)
        spark = build_session("twinrun-year", {**_SESSION, "spark.sql.warehouse.dir": str(root / "spark")})
        try:
            years = list(_run(spark, root, asked))
        finally:
            stop_broker(root / "broker")
            stop_session(spark)
    result = {
        "days": asked.days,
        "flights_per_micro_batch": asked.size,
        "runs": [asdict(year) for year in years],
        "seconds": round(time.monotonic() - began, 1),
        "commit": commit(),
        "machine": machine(),
    }
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    asked.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print("\n".join(_table(years)))
    return 0 if all(_as_it_must_be(year) for year in years) else 1


def _asked(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="A year of flights, explained, against an independent oracle.")
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--size", type=int, default=250, help="flights per micro-batch")
    parser.add_argument("--lateness", nargs="+", default=["1 hour", "3 hours"])
    parser.add_argument("--out", type=Path, default=RESULTS)
    return parser.parse_args(arguments)


def _run(spark: SparkSession, root: Path, asked: argparse.Namespace) -> Any:
    broker = start_broker(root / "broker")
    cfg = _config(root, broker.bootstrap_servers, asked.size)
    options = cfg.kafka.confluent_options()
    create_topic(broker.bootstrap_servers, "flights", 3, options)
    produce(flight_events(flight_records(date(2013, 1, 1), asked.days)), "flights", options)
    write_weather(spark, cfg.tables["weather"].path)
    jobs = [_with_lateness(load_job(ROOT / "jobs" / "departures_per_hour.py"), text) for text in asked.lateness]
    ingest = importlib.import_module("twinrun.streaming.ingest")
    ingest.run(spark, cfg, jobs[0].sources[0], threading.Event())
    for job, lateness in zip(jobs, asked.lateness, strict=True):
        yield _year(spark, cfg, job, lateness)


def _year(spark: SparkSession, cfg: Config, job: Job, lateness: str) -> Year:
    stream, batch = (importlib.import_module(f"twinrun.{mode}.runner") for mode in ("streaming", "batch"))
    began = time.monotonic()
    stream.run(spark, cfg, job, None, threading.Event())
    stream_s = time.monotonic() - began
    print(f"{job.job_name}: streamed in {stream_s:.0f} s", flush=True)
    batch.run(spark, cfg, job, None)
    began, cpu = time.monotonic(), cpu_s()
    verdict = verify(spark, cfg, job)
    verify_s, verify_cpu_s = time.monotonic() - began, cpu_s() - cpu
    expected = expected_of(cfg, verdict.cut.query_id, job.window_ms or 0)
    print(f"{job.job_name}: verified in {verify_s:.0f} s: {verdict.outcome}", flush=True)
    return _judged(cfg, job, lateness, verdict, expected, (stream_s, verify_s, verify_cpu_s))


def _judged(
    cfg: Config, job: Job, lateness: str, verdict: Verdict, expected: Expected, took: tuple[float, float, float]
) -> Year:
    named = pl.read_delta(cfg.table("late_events")).filter(pl.col("query_id") == verdict.cut.query_id)
    coordinates = set(named.select("partition", "offset").unique().iter_rows())
    return Year(
        lateness=lateness,
        micro_batches=expected.micro_batches,
        windows_compared=verdict.windows_compared,
        windows_different=verdict.windows_different,
        rows_explained=verdict.rows_explained,
        rows_unexplained=verdict.rows_unexplained,
        dropped=len(coordinates),
        dropped_by_oracle=len(expected.dropped),
        named_as_by_oracle=coordinates == expected.dropped,
        exit_code=verdict.exit_code,
        problems=tables_problems(expected, verdict.cut.batch_table, verdict.cut.stream_table),
        stream_s=round(took[0], 1),
        verify_s=round(took[1], 1),
        verify_cpu_s=round(took[2], 1),
    )


def _with_lateness(job: Job, lateness: str) -> Job:
    source = replace(job.sources[0], lateness=lateness)
    return replace(job, sources=[source], name=f"{job.job_name}_{lateness.replace(' ', '_')}")


def _config(root: Path, servers: str, size: int) -> Config:
    settings = {
        "kafka.bootstrap_servers": servers,
        "warehouse": root / "wh",
        "checkpoints": root / "cp",
        "tables.weather.path": root / "weather",
        "report.folder": root / "reports",
        "stream.max_offsets_per_trigger": size,
        "verify.max_lag_events": 0,
    }
    return load_config(ROOT / "conf" / "local.yaml", [f"{key}={value}" for key, value in settings.items()])


def _as_it_must_be(year: Year) -> bool:
    return (
        year.rows_unexplained == 0
        and year.dropped > 0
        and year.named_as_by_oracle
        and not year.problems
        and year.exit_code == 0
    )


def _table(years: Sequence[Year]) -> list[str]:
    head = f"{'lateness':<10}{'micro-batches':>14}{'windows':>9}{'differ':>8}{'unexplained':>13}{'dropped':>9}"
    lines = [f"{head}{'oracle':>8}{'same':>6}{'exit':>6}{'stream':>10}{'verify':>10}"]
    for y in years:
        lines.append(
            f"{y.lateness:<10}{y.micro_batches:>14,}{y.windows_compared:>9,}{y.windows_different:>8,}"
            f"{y.rows_unexplained:>13,}{y.dropped:>9,}{y.dropped_by_oracle:>8,}"
            f"{'yes' if y.named_as_by_oracle else 'NO':>6}{y.exit_code:>6}{y.stream_s:>8.0f} s{y.verify_s:>8.0f} s"
        )
        lines += [f"  {problem}" for problem in y.problems]
    return lines


if __name__ == "__main__":
    sys.exit(main())
