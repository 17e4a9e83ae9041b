"""delayed_departures in both modes, against polars: a record job."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal
from pyspark.sql import SparkSession

DAY = date(2013, 1, 9)
SCHEMA = (
    "struct<flight_id:string,scheduled_departure:timestamp,departure:timestamp,origin:string,dest:string,"
    "carrier:string,tailnum:string,dep_delay:int,delay_class:string>"
)


def oracle(flights: pl.DataFrame) -> pl.DataFrame:
    minutes = pl.col("dep_delay")
    edges = [(720, "extreme"), (180, "long"), (60, "delayed")]
    named = pl.coalesce(pl.when(minutes > edge).then(pl.lit(name)) for edge, name in edges)
    late = flights.filter(minutes > 60)
    departure = pl.col("scheduled_departure") + pl.duration(minutes=minutes)
    columns = ["origin", "dest", "carrier", "tailnum", "dep_delay"]
    return late.select(
        "flight_id", "scheduled_departure", departure.alias("departure"), *columns, named.alias("delay_class")
    )


def assert_same(actual: pl.DataFrame, expected: pl.DataFrame) -> None:
    assert_frame_equal(actual.sort("flight_id"), expected.sort("flight_id"), check_exact=True)


def test_a_day_agrees_with_polars(mode, run, load, flights_of) -> None:
    flights = flights_of(DAY, 2)
    batches = [flights[start : start + 600] for start in range(0, flights.height, 600)]
    result = run(load("delayed_departures"), mode, batches)
    assert set(result["delay_class"]) == {"delayed", "long", "extreme"}
    assert_same(result, oracle(flights))
    with pytest.raises(AssertionError):
        assert_same(result, oracle(flights.with_columns(pl.col("dep_delay") + 1)))


def test_limits_belong_to_the_lower_class(mode, run, load, events_of) -> None:
    minutes = [60, 61, 180, 181, 720, 721, None, -5]
    events = events_of(*((f"AA{number}", "23:59", "EWR", "IAH", delay) for number, delay in enumerate(minutes)))
    result = run(load("delayed_departures"), mode, [events[:4], events[4:]]).sort("flight_id")
    assert result.select("dep_delay", "delay_class").rows() == [
        (61, "delayed"),
        (180, "delayed"),
        (181, "long"),
        (720, "long"),
        (721, "extreme"),
    ]
    assert str(result["departure"][0]) == "2013-03-02 01:00:00+00:00"


def test_the_schema_is_the_contract(load, flights_of, spark_session: SparkSession, tmp_path: Path) -> None:
    flights_of(DAY)[:1].write_parquet(tmp_path / "one.parquet")
    result = load("delayed_departures").apply({"flights": spark_session.read.parquet(str(tmp_path))})
    assert result.schema.simpleString() == SCHEMA
