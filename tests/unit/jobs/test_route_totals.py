"""route_totals in both modes, against polars: the latest row per key, whatever the order of arrival."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

DAY = date(2013, 1, 9)
SCHEMA = (
    "struct<origin:string,dest:string,flights:bigint,cancelled:bigint,worst_delay:int,latest_flight:string,"
    "latest_scheduled:timestamp,latest_delay:int>"
)
ROUTE = ["origin", "dest"]


def oracle(flights: pl.DataFrame) -> pl.DataFrame:
    """Sorted by the total order, the last row of a route is its latest flight."""
    ordered = flights.sort("scheduled_departure", "flight_id", "_topic", "_partition", "_offset")
    return ordered.group_by(ROUTE, maintain_order=True).agg(
        pl.len().cast(pl.Int64).alias("flights"),
        pl.col("cancelled").sum().cast(pl.Int64),
        pl.col("dep_delay").max().alias("worst_delay"),
        pl.col("flight_id").last().alias("latest_flight"),
        pl.col("scheduled_departure").last().alias("latest_scheduled"),
        pl.col("dep_delay").last().alias("latest_delay"),
    )


def assert_same(actual: pl.DataFrame, expected: pl.DataFrame) -> None:
    assert_frame_equal(actual.sort(ROUTE), expected.sort(ROUTE), check_exact=True)


def test_a_day_agrees_with_polars(mode, run, load, flights_of) -> None:
    flights = flights_of(DAY)
    batches = [flights[start : start + 200] for start in range(0, flights.height, 200)]
    result = run(load("route_totals"), mode, batches)
    expected = oracle(flights)
    assert_same(result, expected)
    with pytest.raises(AssertionError):
        assert_same(result, oracle(flights[:-1]))


def arrival_order_decides(flights: DataFrame) -> DataFrame:
    """The control: `last` takes what came last."""
    return flights.groupBy(*ROUTE).agg(F.last("flight_id").alias("latest_flight"))


def test_ties_and_repeats_do_not_depend_on_arrival(mode, run, load, events_of) -> None:
    events = events_of(
        ("AA2", "10:00", "EWR", "IAH", 5),
        ("AA1", "10:00", "EWR", "IAH", 9),
        ("AA2", "10:00", "EWR", "IAH", None),
        ("AA0", "09:00", "EWR", "IAH", 400),
    )
    job = load("route_totals")
    orders = [[events[:2], events[2:]], [events[2:].reverse(), events[:2].reverse()]]
    results = [run(job, mode, order) for order in orders]
    assert results[0].rows() == results[1].rows() == oracle(events).rows()
    # AA2 came twice with different delays: the greater coordinate (partition 2) wins, as the order says.
    assert results[0].drop("latest_scheduled").rows() == [("EWR", "IAH", 4, 1, 400, "AA2", None)]
    control = replace(job, logic=arrival_order_decides)
    assert len({run(control, "stream", order)["latest_flight"][0] for order in orders}) == 2


def test_the_schema_is_the_contract(load, flights_of, spark_session: SparkSession, tmp_path: Path) -> None:
    flights_of(DAY)[:1].write_parquet(tmp_path / "one.parquet")
    result = load("route_totals").apply({"flights": spark_session.read.parquet(str(tmp_path))})
    assert result.schema.simpleString() == SCHEMA
