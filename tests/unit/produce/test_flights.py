"""The flights are the published ones, each once, in the order in which they became known."""

from __future__ import annotations

import json
import warnings
from datetime import date
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import polars as pl
import pytest
from pyspark.sql import SparkSession

from twinrun.errors import InputError, MachineError
from twinrun.produce import flights as module
from twinrun.produce.flights import (
    EVENT_FIELDS,
    FIRST_DAY,
    flight_events,
    flight_records,
    weather_frame,
    write_weather,
)

WEEK = date(2013, 1, 6)
DATA = Path(str(find_spec(module.DATASET).origin)).parent / "data"


@pytest.fixture(scope="module")
def year() -> pd.DataFrame:
    return flight_records(FIRST_DAY, 365)


def early_minutes(frame: pd.DataFrame) -> float:
    return float((frame["scheduled_departure"] - frame["known_at_ms"]).max() / 60_000)


def test_the_week_of_6_january_is_the_timetables_week() -> None:
    week = flight_records(WEEK, 7)
    late_hours = (week["known_at_ms"] - week["scheduled_departure"]) / 3_600_000
    assert len(week) == 6_118
    assert (late_hours > 21).sum() == 1
    assert round(late_hours.max(), 1) == 21.7
    # Days in UTC would be another week: the last evening of New York belongs to the next UTC day.
    first_ms, end_ms = (pd.Timestamp(day, tz="UTC").value // 10**6 for day in (WEEK, date(2013, 1, 13)))
    around = flight_records(date(2013, 1, 5), 9)["scheduled_departure"]
    assert ((around >= first_ms) & (around < end_ms)).sum() == 6_131


def test_the_whole_year(year: pd.DataFrame) -> None:
    assert len(year) == 336_776
    assert list(year.columns) == [*EVENT_FIELDS, "known_at_ms"]
    assert year["cancelled"].sum() == 8_255
    assert early_minutes(year) == 43
    assert year["dep_delay"].max() == 1_301


def test_every_flight_id_is_unique_and_needs_its_instant(year: pd.DataFrame) -> None:
    assert year["flight_id"].is_unique
    without_instant = year["flight_id"].str.rsplit("-", n=3).str[0]
    assert not without_instant.is_unique
    assert year["flight_id"].iloc[0] == "UA1545-EWR-2013-01-01T10:15Z"


def test_the_order_is_total_and_by_what_became_known(year: pd.DataFrame) -> None:
    order = list(zip(year["known_at_ms"], year["flight_id"], strict=True))
    assert order == sorted(order)
    assert len(set(order)) == len(order)
    assert year["known_at_ms"].duplicated().any(), "without ties this would show nothing"
    assert not year["scheduled_departure"].is_monotonic_increasing, "the flights arrive out of order"


def test_a_cancelled_flight_is_known_at_its_scheduled_departure(year: pd.DataFrame) -> None:
    cancelled = year[year["cancelled"]]
    assert (cancelled["known_at_ms"] == cancelled["scheduled_departure"]).all()
    assert cancelled["dep_delay"].isna().all()
    assert year.loc[~year["cancelled"], "dep_delay"].notna().all()


def test_scheduled_departure_agrees_with_the_published_local_time(year: pd.DataFrame) -> None:
    columns = ["year", "month", "day", "sched_dep_time"]
    published = pl.from_pandas(pd.read_csv(DATA / "flights.csv.zip", usecols=columns))
    local = published.select(
        pl.datetime("year", "month", "day", pl.col("sched_dep_time") // 100, pl.col("sched_dep_time") % 100)
        .dt.replace_time_zone("America/New_York")
        .dt.epoch("ms")
        .alias("ms")
    )
    assert sorted(local["ms"].to_list()) == sorted(year["scheduled_departure"].tolist())


def test_records_are_keyed_json_with_the_instant_of_knowing() -> None:
    flights = flight_records(WEEK, 1)
    records = list(flight_events(flights))
    assert len(records) == len(flights)
    first, row = json.loads(records[0].value or b""), flights.iloc[0]
    assert list(first) == EVENT_FIELDS
    assert first["scheduled_departure"] == row["scheduled_departure"]
    assert records[0].key == row["flight_id"].encode()
    assert [record.timestamp_ms for record in records] == flights["known_at_ms"].tolist()
    types = {(type(v["dep_delay"]), type(v["cancelled"])) for v in (json.loads(r.value or b"") for r in records)}
    assert types == {(int, bool), (type(None), bool)}


def test_chunks_join_without_a_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    flights = flight_records(WEEK, 1)
    whole = list(flight_events(flights))
    monkeypatch.setattr(module, "_CHUNK_ROWS", 7)
    assert list(flight_events(flights)) == whole
    assert list(flight_events(flights.iloc[:0])) == []


@pytest.mark.parametrize(("first", "days"), [(date(2012, 12, 31), 2), (date(2013, 12, 31), 2), (WEEK, 0)])
def test_days_outside_the_data_are_refused(first: date, days: int) -> None:
    with pytest.raises(InputError, match="2013-01-01 to 2013-12-31"):
        flight_records(first, days)
    assert len(flight_records(date(2013, 12, 31), 1)) == 776


def test_a_missing_data_set_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DATASET", "no_such_data_set")
    with pytest.raises(MachineError, match="not installed"):
        flight_records(WEEK, 1)


def test_weather_has_one_row_per_airport_and_utc_hour() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        weather = weather_frame()
    assert len(weather) == 26_115
    assert not weather.duplicated(["origin", "hour"]).any()
    local = weather["hour"].dt.tz_convert("America/New_York").dt.tz_localize(None)
    assert weather.assign(hour=local).duplicated(["origin", "hour"]).sum() == 3, "the hour that clocks repeat"
    assert str(weather["hour"].dt.tz) == "UTC"
    assert weather["wind_speed"].isna().sum() == 4


def test_weather_is_written_exactly(spark_session: SparkSession, tmp_path: Path) -> None:
    path = tmp_path / "weather"
    write_weather(spark_session, str(path), "parquet")
    write_weather(spark_session, str(path), "parquet")
    written = pl.read_parquet(path / "*.parquet")
    published = pl.from_pandas(weather_frame())
    assert written.height == published.height == 26_115
    assert written.schema["precip"] == pl.Decimal(5, 2)
    instants = pl.col("hour").dt.epoch("ms")
    measured = ["temp", "wind_speed", "visib"]
    values = [instants, *measured, pl.col("precip").cast(pl.Float64)]
    assert written.sort("origin", "hour").select(values).equals(published.select(values), null_equal=True)
    assert written["wind_speed"].null_count() == 4
    assert not written["wind_speed"].is_nan().any()
