"""carrier_delays in both modes, against polars: a sliding window."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal
from pyspark.sql import SparkSession

DAY = date(2013, 1, 9)
SCHEMA = (
    "struct<carrier:string,window_start:timestamp,window_end:timestamp,flights:bigint,cancelled:bigint,"
    "mean_delay:double,delay_spread:double,max_delay:int,total_delay:bigint,destinations:int>"
)
KEYS = ["carrier", "window_start"]
TOLERATED = ["mean_delay", "delay_spread"]


def oracle(flights: pl.DataFrame) -> pl.DataFrame:
    """Each flight stands in the windows that start in its hour and in the two hours before."""
    hour = pl.col("scheduled_departure").dt.truncate("1h")
    starts = pl.concat_list([hour - pl.duration(hours=back) for back in range(3)])
    copies = flights.with_columns(starts.alias("window_start")).explode("window_start", empty_as_null=True)
    return copies.group_by(KEYS).agg(
        (pl.col("window_start").first() + pl.duration(hours=3)).alias("window_end"),
        pl.len().cast(pl.Int64).alias("flights"),
        pl.col("cancelled").sum().cast(pl.Int64),
        pl.col("dep_delay").mean().alias("mean_delay"),
        pl.col("dep_delay").std(ddof=0).alias("delay_spread"),
        pl.col("dep_delay").max().alias("max_delay"),
        pl.when(pl.col("dep_delay").count() > 0).then(pl.col("dep_delay").sum()).cast(pl.Int64).alias("total_delay"),
        pl.col("dest").n_unique().cast(pl.Int32).alias("destinations"),
    )


def assert_same(actual: pl.DataFrame, expected: pl.DataFrame) -> None:
    mine, theirs = actual.sort(KEYS), expected.sort(KEYS)
    assert_frame_equal(mine.drop(TOLERATED), theirs.drop(TOLERATED), check_exact=True)
    assert_frame_equal(mine, theirs, abs_tol=1e-9, rel_tol=1e-9)


def test_a_day_agrees_with_polars(mode, run, load, flights_of) -> None:
    flights = flights_of(DAY)
    batches = [flights[start : start + 200] for start in range(0, flights.height, 200)]
    result = run(load("carrier_delays"), mode, batches)
    expected = oracle(flights)
    assert expected["max_delay"].max() == 1_301, "the latest flight of the year is in here"
    assert_same(result, expected)
    with pytest.raises(AssertionError):
        assert_same(result, oracle(flights[1:]))


def test_a_flight_stands_in_three_windows(mode, run, load, events_of) -> None:
    events = events_of(
        ("AA1", "10:59", "EWR", "IAH", 10),
        ("AA2", "11:00", "JFK", "IAH", 30),
        ("HA1", "11:30", "JFK", "HNL", None),
    )
    result = run(load("carrier_delays"), mode, [events[:1], events[1:]]).sort("carrier", "window_start")
    hours = {hour: datetime(2013, 3, 1, hour, tzinfo=UTC) for hour in range(8, 12)}
    assert result.drop("window_end").rows() == [
        ("AA", hours[8], 1, 0, 10.0, 0.0, 10, 10, 1),
        ("AA", hours[9], 2, 0, 20.0, 10.0, 30, 40, 1),
        ("AA", hours[10], 2, 0, 20.0, 10.0, 30, 40, 1),
        ("AA", hours[11], 1, 0, 30.0, 0.0, 30, 30, 1),
        ("HA", hours[9], 1, 1, None, None, None, None, 1),
        ("HA", hours[10], 1, 1, None, None, None, None, 1),
        ("HA", hours[11], 1, 1, None, None, None, None, 1),
    ]


def test_the_schema_is_the_contract(load, flights_of, spark_session: SparkSession, tmp_path: Path) -> None:
    flights_of(DAY)[:1].write_parquet(tmp_path / "one.parquet")
    result = load("carrier_delays").apply({"flights": spark_session.read.parquet(str(tmp_path))})
    assert result.schema.simpleString() == SCHEMA
