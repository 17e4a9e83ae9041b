"""The shipped jobs, run in both modes over typed events; results are read without Spark, by polars."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Sequence
from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from twinrun.durations import parse_ms
from twinrun.events.decode import event_schema
from twinrun.job.job import Job
from twinrun.job.loader import load_job
from twinrun.produce.flights import flight_events, flight_records

JOBS = Path(__file__).parents[3] / "jobs"
NEVER_LATE = "30 days"
WIRE = {"dep_delay": pl.Int32, "distance": pl.Int32}

Frames = Sequence[pl.DataFrame]
Run = Callable[..., pl.DataFrame]


@pytest.fixture(params=["batch", "stream"])
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def load() -> Callable[[str], Job]:
    return lambda name: load_job(JOBS / f"{name}.py")


@pytest.fixture
def flights_of() -> Callable[..., pl.DataFrame]:
    """Real flights of some days as events: read from the very bytes that are sent, in the order of sending."""

    def make(first_day: date, days: int = 1) -> pl.DataFrame:
        records = list(flight_events(flight_records(first_day, days)))
        lines = b"\n".join(record.value or b"" for record in records)
        events = pl.read_ndjson(io.BytesIO(lines), schema_overrides=WIRE, infer_schema_length=None)
        return with_coordinates(events, pl.Series([record.timestamp_ms for record in records]))

    return make


@pytest.fixture
def events_of() -> Callable[..., pl.DataFrame]:
    """Events written by hand: (flight_id, "HH:MM" of 1 March 2013, origin, dest, delay or None for cancelled)."""

    def make(*rows: tuple[str, str, str, str, int | None]) -> pl.DataFrame:
        start_ms = 1_362_096_000_000
        departures = [start_ms + (int(at[:2]) * 60 + int(at[3:])) * 60_000 for _, at, _, _, _ in rows]
        events = pl.DataFrame(
            {
                "flight_id": [row[0] for row in rows],
                "scheduled_departure": departures,
                "origin": [row[2] for row in rows],
                "dest": [row[3] for row in rows],
                "carrier": [row[0][:2] for row in rows],
                "tailnum": pl.Series([None] * len(rows), dtype=pl.String),
                "dep_delay": pl.Series([row[4] for row in rows], dtype=pl.Int32),
                "cancelled": [row[4] is None for row in rows],
                "distance": pl.Series([100] * len(rows), dtype=pl.Int32),
            }
        )
        return with_coordinates(events, events["scheduled_departure"])

    return make


def with_coordinates(events: pl.DataFrame, known_ms: pl.Series) -> pl.DataFrame:
    """Event time as a timestamp, and coordinates as if three partitions had been filled in turn."""
    number = pl.int_range(pl.len(), dtype=pl.Int64)
    return events.with_columns(
        utc(pl.col("scheduled_departure")),
        pl.lit("flights").alias("_topic"),
        (number % 3).cast(pl.Int32).alias("_partition"),
        (number // 3).alias("_offset"),
        utc(pl.lit(known_ms)).alias("_kafka_timestamp"),
    )


def utc(epoch_ms: pl.Expr) -> pl.Expr:
    return pl.from_epoch(epoch_ms, "ms").dt.cast_time_unit("us").dt.replace_time_zone("UTC")


@pytest.fixture
def run(spark_session: SparkSession, tmp_path: Path) -> Run:
    """Run a job over events in one mode: ``run(job, mode, [events per micro-batch], tables)``."""
    runs = iter(range(100))

    def in_mode(
        job: Job,
        mode: str,
        batches: Frames,
        tables: dict[str, DataFrame] | None = None,
        lateness: str = NEVER_LATE,
    ) -> pl.DataFrame:
        folder = tmp_path / f"run{next(runs)}"
        (folder / "events").mkdir(parents=True)
        runner = _batch if mode == "batch" else _stream
        return runner(spark_session, job, _landed(folder, batches), tables or {}, lateness, folder)

    return in_mode


def _landed(folder: Path, batches: Frames) -> str:
    """One file per micro-batch, with growing modification times: the order of the file source."""
    for number, events in enumerate(batches):
        file = folder / "events" / f"{number:03}.parquet"
        events.write_parquet(file)
        os.utime(file, (1_700_000_000 + number, 1_700_000_000 + number))
    return str(folder / "events")


def _batch(
    spark: SparkSession, job: Job, events: str, tables: dict[str, DataFrame], lateness: str, folder: Path
) -> pl.DataFrame:
    source = job.sources[0]
    frame = spark.read.schema(event_schema(source)).parquet(events)
    marked = frame.withWatermark(source.event_time, lateness) if source.lateness else frame
    job.apply({source.name: marked, **tables}).write.parquet(str(folder / "result"))
    return _read(folder / "result")


def _stream(
    spark: SparkSession, job: Job, events: str, tables: dict[str, DataFrame], lateness: str, folder: Path
) -> pl.DataFrame:
    source = job.sources[0]
    if job.windowed or job.gap:
        _land_sentinel(Path(events), parse_ms(lateness) + parse_ms(job.window or job.gap or ""))
    frame = spark.readStream.schema(event_schema(source)).option("maxFilesPerTrigger", 1).parquet(events)
    marked = frame.withWatermark(source.event_time, lateness) if source.lateness else frame
    result = folder / "result"
    seen: list[int] = []

    def append(rows: DataFrame, micro_batch: int) -> None:
        seen.append(micro_batch)
        rows.withColumn("_micro_batch", F.lit(micro_batch)).write.mode("append").parquet(str(result))

    query = (
        job.apply({source.name: marked, **tables})
        .writeStream.foreachBatch(append)
        .outputMode("update" if job.emit == "updates" else "append")
        .option("checkpointLocation", str(folder / "checkpoint"))
        .trigger(availableNow=True)
        .start()
    )
    assert query.awaitTermination(240), "the stream did not end"
    assert len(seen) >= len(os.listdir(events)), "each file is a micro-batch of its own"
    rows = _read(result).sort("_micro_batch")
    if job.emit == "updates":
        rows = rows.unique(job.keys, keep="last", maintain_order=True)
    return rows.drop("_micro_batch")


def _land_sentinel(events: Path, ahead_ms: int) -> None:
    """An event so far ahead that every real window closes; its own window never does, so it stays unseen."""
    files = sorted(events.iterdir())
    newest = max(pl.read_parquet(file)["scheduled_departure"].max() for file in files)
    assert newest is not None
    ahead = timedelta(milliseconds=ahead_ms) + timedelta(days=1)
    sentinel = pl.read_parquet(files[-1]).tail(1).with_columns(pl.lit(newest + ahead).alias("scheduled_departure"))
    file = events / "zzz.parquet"
    sentinel.write_parquet(file)
    os.utime(file, (1_700_001_000, 1_700_001_000))


def _read(folder: Path) -> pl.DataFrame:
    rows = pl.read_parquet(folder / "*.parquet")
    instants = [
        pl.col(name).dt.cast_time_unit("us").dt.replace_time_zone("UTC")
        for name, type_ in rows.schema.items()
        if isinstance(type_, pl.Datetime)
    ]
    return rows.with_columns(instants)
