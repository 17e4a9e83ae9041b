"""The three other shipped jobs over two days of real flights, against polars, for batch, stream and what was dropped.

The stream's side is computed from Spark's own files: micro-batch and watermark of each flight come from the checkpoint.
"""

from __future__ import annotations

import importlib
import io
import json
from bisect import bisect_right
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from tests.integration.conftest import World
from tests.integration.shapes import result_of
from twinrun.job.job import Job
from twinrun.job.loader import load_job
from twinrun.produce.flights import flight_events, flight_records

pytestmark = pytest.mark.slow

SHIPPED = Path(__file__).parents[2] / "jobs"
FIRST_DAY, DAYS, PER_MICRO_BATCH = date(2013, 1, 9), 2, 150
WINDOW = timedelta(hours=3)
WIRE = {"dep_delay": pl.Int32, "distance": pl.Int32}
Oracle = Callable[[pl.DataFrame], pl.DataFrame]


class FlightsWorld(World):
    """A world whose jobs are the shipped ones, over the source ``flights``."""

    def job(self, name: str = "carrier_delays") -> Job:
        return load_job(SHIPPED / f"{name}.py")


@pytest.fixture(scope="module")
def world(make_world: Any) -> FlightsWorld:
    """Two days of flights in the order in which they became known, landed once for all jobs."""
    plain = make_world(partitions=3, **{"stream.max_offsets_per_trigger": PER_MICRO_BATCH})
    plain.overrides["sources.flights.topic"] = plain.topic
    world = FlightsWorld(**vars(plain))
    records = list(flight_events(flight_records(FIRST_DAY, DAYS)))
    world.produce(records)
    assert world.ingest("carrier_delays").events == len(records) > 10 * PER_MICRO_BATCH
    return world


@pytest.fixture(scope="module")
def flights(world: FlightsWorld) -> pl.DataFrame:
    """The events as polars reads them from bronze, with their coordinates."""
    bronze = pl.read_delta(world.cfg().table("bronze", topic=world.topic)).sort("partition", "offset")
    lines = b"\n".join(bronze["value"])
    events = pl.read_ndjson(io.BytesIO(lines), schema_overrides=WIRE, infer_schema_length=None)
    when = pl.from_epoch("scheduled_departure", "ms").dt.cast_time_unit("us").dt.replace_time_zone("UTC")
    places = [bronze[name].alias(f"_{name}") for name in ("topic", "partition", "offset")]
    return events.with_columns(when, *places)


def oracle_of(job: str) -> tuple[Oracle, Callable[[pl.DataFrame, pl.DataFrame], None]]:
    """The business rule in polars and the comparison that the job's unit tests use."""
    module = importlib.import_module(f"tests.unit.jobs.test_{job}")
    return module.oracle, module.assert_same


def judged(world: World, job: str, flights: pl.DataFrame) -> tuple[pl.DataFrame, datetime, int]:
    """Each flight with ``dropped_by``, the watermark of the micro-batch before the one that read it.

    Also the last watermark, and how many micro-batches there were.
    """
    files = [file for file in (world.root / "cp" / "stream" / job / "v1" / "offsets").iterdir() if file.name.isdigit()]
    plans = [file.read_text().splitlines() for file in sorted(files, key=lambda file: int(file.name))]
    watermarks = [json.loads(plan[1])["batchWatermarkMs"] for plan in plans]
    ends = [{int(p): end for p, end in json.loads(plan[2])[world.topic].items()} for plan in plans]
    late_ms = [
        ([0, *watermarks])[bisect_right([end[partition] for end in ends], offset)]
        for partition, offset in flights.select("_partition", "_offset").iter_rows()
    ]
    dropped_by = [datetime.fromtimestamp(ms / 1000, UTC) for ms in late_ms]
    marked = flights.with_columns(pl.Series("dropped_by", dropped_by, dtype=pl.Datetime("us", "UTC")))
    return marked, datetime.fromtimestamp(watermarks[-1] / 1000, UTC), len(plans)


def run(world: World, job: str) -> None:
    stream = world.stream(job)
    assert 8 <= stream.micro_batches <= 15
    world.batch(job)


def test_carrier_delays_differ_by_exactly_the_flights_that_each_window_dropped(
    world: FlightsWorld, flights: pl.DataFrame
) -> None:
    run(world, "carrier_delays")
    oracle, assert_same = oracle_of("carrier_delays")
    marked, watermark, micro_batches = judged(world, "carrier_delays", flights)
    batch = oracle(flights)
    assert_same(result_of(world, "batch", "carrier_delays"), batch)
    # Window by window, the business rule over the flights that this window did not drop.
    used = [
        oracle(marked.filter(pl.col("dropped_by") < start + WINDOW)).filter(pl.col("window_start") == start)
        for start in batch["window_start"].unique()
        if start + WINDOW <= watermark
    ]
    assert_same(result_of(world, "stream", "carrier_delays"), pl.concat(used))
    hour = pl.col("scheduled_departure").dt.truncate("1h")
    starts = pl.concat_list([hour - pl.duration(hours=back) for back in range(3)]).alias("window_start")
    pairs = marked.with_columns(starts).explode("window_start", empty_as_null=True)
    late = pairs.filter(pl.col("window_start") + WINDOW <= pl.col("dropped_by"))
    # Some flights are late for all of their windows, others only for the older ones.
    assert {1, 3} <= set(late.group_by("flight_id").len()["len"])

    verdict = world.verify("carrier_delays")
    assert (verdict.outcome, verdict.exit_code, verdict.rows_unexplained) == ("explained", 0, 0)
    rows = late.select("carrier", "window_start").unique()
    assert [(c.cause, c.rows, c.windows, c.events) for c in verdict.causes] == [
        ("late_dropped", rows.height, rows["window_start"].n_unique(), late["flight_id"].n_unique())
    ]
    named = pl.read_delta(world.cfg().table("late_events")).select(
        pl.col("id").str.json_path_match("$.flight_id").alias("flight_id"),
        pl.from_epoch("window_start_ms", "ms").dt.cast_time_unit("us").dt.replace_time_zone("UTC"),
    )
    named = named.rename({"window_start_ms": "window_start"}).sort("flight_id", "window_start")
    assert_frame_equal(named, late.select("flight_id", "window_start").sort("flight_id", "window_start"))
    assert verdict.windows_pending == batch.filter(pl.col("window_end") > watermark)["window_start"].n_unique()
    assert len(verdict.micro_batches) == micro_batches


@pytest.mark.parametrize("job", ["delayed_departures", "route_totals"])
def test_jobs_without_windows_agree(world: FlightsWorld, flights: pl.DataFrame, job: str) -> None:
    run(world, job)
    oracle, assert_same = oracle_of(job)
    expected = oracle(flights)
    for kind in ("batch", "stream"):
        assert_same(result_of(world, kind, job), expected)
    verdict = world.verify(job)
    assert (verdict.outcome, verdict.exit_code, verdict.rows_unexplained) == ("agree", 0, 0)
    assert (verdict.rows_compared, verdict.rows_equal) == (expected.height, expected.height)
    assert (verdict.causes, verdict.late_events, verdict.stream_lag_events) == ((), (), 0)
    assert verdict.expectations
    assert all(expectation.success for expectation in verdict.expectations)
