"""departures_per_hour in both modes, against polars."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal
from pyspark.sql import DataFrame, SparkSession

from twinrun.produce.flights import weather_frame, write_weather

SNOW = date(2013, 2, 8)
SCHEMA = (
    "struct<origin:string,window_start:timestamp,window_end:timestamp,flights:bigint,cancelled:bigint,"
    "mean_delay:double,max_delay:int,share_delayed_15:decimal(5,4),total_distance:bigint,wind:double,"
    "rain:decimal(5,2)>"
)
COLUMNS = ["flights", "cancelled", "mean_delay", "max_delay", "share_delayed_15", "total_distance", "wind", "rain"]


@pytest.fixture(scope="module")
def weather(spark_session: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> DataFrame:
    path = tmp_path_factory.mktemp("weather")
    write_weather(spark_session, str(path), "parquet")
    return spark_session.read.parquet(str(path))


def oracle(flights: pl.DataFrame) -> pl.DataFrame:
    """The same business rule in polars; the share by whole-number arithmetic, half up."""
    hour = pl.col("scheduled_departure").dt.truncate("1h")
    left, delayed = pl.col("dep_delay").count(), (pl.col("dep_delay") > 15).sum()
    ten_thousandths = (2 * 10_000 * delayed.cast(pl.Int64) + left) // (2 * left)
    per_hour = flights.group_by("origin", hour.alias("window_start")).agg(
        (hour.first() + pl.duration(hours=1)).alias("window_end"),
        pl.len().cast(pl.Int64).alias("flights"),
        pl.col("cancelled").sum().cast(pl.Int64),
        pl.col("dep_delay").mean().alias("mean_delay"),
        pl.col("dep_delay").max().alias("max_delay"),
        pl.when(left > 0).then(ten_thousandths).alias("share_delayed_15"),
        pl.col("distance").sum().cast(pl.Int64).alias("total_distance"),
    )
    weather = pl.from_pandas(weather_frame()).select(
        "origin",
        pl.col("hour").dt.cast_time_unit("us").alias("window_start"),
        pl.col("wind_speed").alias("wind"),
        pl.col("precip").cast(pl.Decimal(5, 2)).alias("rain"),
    )
    return per_hour.join(weather, on=["origin", "window_start"], how="left")


def assert_same(actual: pl.DataFrame, expected: pl.DataFrame) -> None:
    """Exact but for the mean; the share as ten-thousandths, which every decimal(5,4) is exactly."""
    scaled = actual.with_columns((pl.col("share_delayed_15") * 10_000).cast(pl.Int64))
    order = ["origin", "window_start"]
    exact = pl.exclude("mean_delay")
    assert_frame_equal(scaled.sort(order).select(exact), expected.sort(order).select(exact), check_exact=True)
    assert_frame_equal(scaled.sort(order), expected.sort(order), abs_tol=1e-9, rel_tol=0)


def test_a_day_of_snow_agrees_with_polars(mode, run, load, flights_of, weather) -> None:
    flights = flights_of(SNOW)
    batches = [flights[start : start + 200] for start in range(0, flights.height, 200)]
    result = run(load("departures_per_hour"), mode, batches, {"weather": weather})
    expected = oracle(flights)
    assert expected["share_delayed_15"].null_count() > 0, "an hour in which nothing left"
    assert (expected["share_delayed_15"] > 0).any()
    assert (expected["rain"] > 0).any()
    assert_same(result, expected)
    one_changed = flights.with_columns(
        pl.when(pl.int_range(pl.len()) == 0).then(pl.col("dep_delay") + 1).otherwise(pl.col("dep_delay"))
    )
    with pytest.raises(AssertionError):
        assert_same(result, oracle(one_changed))


def test_hand_written_hours(mode, run, load, events_of, spark_session: SparkSession) -> None:
    events = events_of(
        ("AA1", "10:00", "EWR", "IAH", 0),
        ("AA2", "10:30", "EWR", "IAH", None),
        ("AA3", "10:59", "EWR", "IAH", 16),
        ("AA4", "10:59", "EWR", "IAH", 15),
        ("AA5", "11:00", "EWR", "IAH", -7),
        ("AA6", "11:00", "JFK", "IAH", None),
    )
    weather = spark_session.sql(
        """SELECT 'EWR' AS origin, timestamp'2013-03-01 10:00:00Z' AS hour, 12.5D AS wind_speed, 0.05BD AS precip
        UNION ALL SELECT 'JFK', timestamp'2013-03-01 10:00:00Z', 99D, 9.99BD
        UNION ALL SELECT 'JFK', timestamp'2013-03-01 11:00:00Z', NULL, 0.00BD"""
    )
    job = load("departures_per_hour")
    result = run(job, mode, [events[:3], events[3:]], {"weather": weather}).sort("origin", "window_start")
    ten, eleven = (datetime(2013, 3, 1, hour, tzinfo=UTC) for hour in (10, 11))
    assert result.select("origin", "window_start").rows() == [("EWR", ten), ("EWR", eleven), ("JFK", eleven)]
    assert result.select(COLUMNS).rows() == [
        (4, 1, 31 / 3, 16, Decimal("0.3333"), 400, 12.5, Decimal("0.05")),
        (1, 0, -7.0, -7, Decimal("0.0000"), 100, None, None),
        (1, 1, None, None, None, 100, None, Decimal("0.00")),
    ]
    assert (result["window_end"] - result["window_start"]).dt.total_minutes().to_list() == [60, 60, 60]


def test_the_schema_is_the_contract(load, flights_of, spark_session: SparkSession, weather, tmp_path: Path) -> None:
    flights_of(SNOW)[:1].write_parquet(tmp_path / "one.parquet")
    job = load("departures_per_hour")
    result = job.apply({"flights": spark_session.read.parquet(str(tmp_path)), "weather": weather})
    assert result.schema.simpleString() == SCHEMA


def test_the_stream_really_streams(run, load, flights_of, weather) -> None:
    """With a short lateness the same run loses late flights: equality above is no accident of one micro-batch."""
    flights = flights_of(SNOW)
    batches = [flights[start : start + 100] for start in range(0, flights.height, 100)]
    result = run(load("departures_per_hour"), "stream", batches, {"weather": weather}, lateness="1 minute")
    assert result["flights"].sum() < flights.height
    with pytest.raises(AssertionError):
        assert_same(result, oracle(flights))
