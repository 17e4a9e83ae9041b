"""carrier_sessions in both modes, against DuckDB: busy periods as gaps and islands."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import duckdb
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from pyspark.sql import SparkSession

DAY = date(2013, 1, 9)
SCHEMA = (
    "struct<carrier:string,origin:string,window_start:timestamp,window_end:timestamp,flights:bigint,cancelled:bigint,"
    "total_delay:bigint,max_delay:int,destinations:int>"
)
KEYS = ["carrier", "origin", "window_start"]
# A flight begins a period if the one before it is more than the gap away: sessions that touch are one.
ISLANDS = """
with numbered as (
    select *, sum(begins) over (partition by carrier, origin order by moment, flight_id) as period
    from (
        select *, epoch_ms(scheduled_departure) as moment,
            case when epoch_ms(scheduled_departure) - lag(epoch_ms(scheduled_departure))
                over (partition by carrier, origin order by epoch_ms(scheduled_departure), flight_id)
                <= 45 * 60000 then 0 else 1 end as begins
        from flights
    )
)
select carrier, origin, min(moment) as window_start, max(moment) + 45 * 60000 as window_end, count(*) as flights,
    count_if(cancelled) as cancelled, sum(dep_delay)::bigint as total_delay, max(dep_delay) as max_delay,
    count(distinct dest)::int as destinations
from numbered group by carrier, origin, period
"""


def oracle(flights: pl.DataFrame) -> pl.DataFrame:
    """Busy periods by window functions over sorted flights, with no notion of a session."""
    with duckdb.connect() as connection:
        connection.register("flights", flights.to_arrow())
        rows = connection.sql(ISLANDS).pl()
    times = [
        pl.from_epoch(name, "ms").dt.cast_time_unit("us").dt.replace_time_zone("UTC")
        for name in ("window_start", "window_end")
    ]
    return rows.with_columns(*times, pl.col("cancelled").cast(pl.Int64), pl.col("max_delay").cast(pl.Int32))


def assert_same(actual: pl.DataFrame, expected: pl.DataFrame) -> None:
    assert_frame_equal(actual.sort(KEYS), expected.sort(KEYS), check_exact=True)


def test_a_day_agrees_with_duckdb(mode, run, load, flights_of) -> None:
    flights = flights_of(DAY)
    batches = [flights[start : start + 300] for start in range(0, flights.height, 300)]
    result = run(load("carrier_sessions"), mode, batches)
    expected = oracle(flights)
    assert expected.height > 100
    assert_same(result, expected)
    with pytest.raises(AssertionError):
        assert_same(result, oracle(flights[1:]))


def test_a_period_goes_on_for_as_long_as_flights_are_at_most_the_gap_apart(mode, run, load, events_of) -> None:
    events = events_of(
        ("AA1", "10:00", "EWR", "IAH", 10),
        ("AA2", "10:45", "EWR", "MIA", None),
        ("AA3", "11:31", "EWR", "IAH", 5),
        ("AA4", "10:20", "JFK", "IAH", 7),
    )
    result = run(load("carrier_sessions"), mode, [events[:2], events[2:]]).sort(KEYS)
    at = {minute: datetime(2013, 3, 1, minute // 60, minute % 60, tzinfo=UTC) for minute in range(600, 800)}
    assert result.rows() == [
        ("AA", "EWR", at[600], at[690], 2, 1, 10, 10, 2),
        ("AA", "EWR", at[691], at[736], 1, 0, 5, 5, 1),
        ("AA", "JFK", at[620], at[665], 1, 0, 7, 7, 1),
    ]


def test_the_schema_is_the_contract(load, flights_of, spark_session: SparkSession, tmp_path: Path) -> None:
    flights_of(DAY)[:1].write_parquet(tmp_path / "one.parquet")
    result = load("carrier_sessions").apply({"flights": spark_session.read.parquet(str(tmp_path))})
    assert result.schema.simpleString() == SCHEMA
