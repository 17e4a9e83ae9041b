"""Sound jobs have no problem in the plan check: the negative control of every rule."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from plan_jobs import (
    HOURLY,
    SESSION,
    STATELESS,
    TOTALS,
    WEATHER,
    found,
    grouped,
    selected,
    sliding,
    with_table,
)
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from twinrun import Job, Table
from twinrun.gallery.entries import ENTRIES
from twinrun.job.loader import load_job
from twinrun.job.plan import check_plan

ROOT = Path(__file__).resolve().parents[3]


def many_slides(flights: DataFrame) -> DataFrame:
    return selected(grouped(flights, "origin", F.window("ts", "6 hours", "1 minute")), "origin")


def aliased(flights: DataFrame) -> DataFrame:
    return selected(
        grouped(flights, "origin", F.window("ts", "1 hour").alias("w")).withColumnRenamed("w", "window"), "origin"
    )


def by_column(flights: DataFrame) -> DataFrame:
    return selected(grouped(flights.withColumn("window", F.window("ts", "60 minutes")), "window", "origin"), "origin")


def derived_keys(flights: DataFrame) -> DataFrame:
    upper = F.upper("origin").alias("origin")
    return selected(grouped(flights, upper, F.window("ts", "1 hour")), "origin")


def chained(flights: DataFrame) -> DataFrame:
    first = grouped(flights, "origin", F.window("ts", "5 minutes"))
    second = first.groupBy("origin", F.window(F.window_time("window"), "1 hour").alias("hour"))
    return second.agg(F.sum("n").alias("n")).select("origin", F.col("hour.start").alias("window_start"), "n")


def filtered_key(flights: DataFrame) -> DataFrame:
    known = flights.filter(F.col("dest").isNotNull())
    return selected(grouped(known, "dest", F.window("ts", "1 hour")), "dest")


def filtered_sliding_key(flights: DataFrame) -> DataFrame:
    known = flights.filter(F.col("dest").isNotNull())
    return selected(grouped(known, F.col("dest").alias("to"), F.window("ts", "1 hour", "15 minutes")), "to")


def filled_key(flights: DataFrame) -> DataFrame:
    filled = flights.withColumn("dest", F.coalesce("dest", F.lit("?")))
    return selected(grouped(filled, "dest", F.window("ts", "1 hour")), "dest")


def aggregated_table(flights: DataFrame, weather: DataFrame) -> DataFrame:
    windy = weather.groupBy("origin").agg(F.max("wind").alias("wind"))
    return flights.join(windy, "origin", "left").select("id", "ts", "wind")


def latest_by_id(flights: DataFrame) -> DataFrame:
    return flights.dropDuplicates(["id", "ts"]).select("id", "ts", "delay")


SOUND: dict[str, tuple[Job, str | None]] = {
    "tumbling": (HOURLY, None),
    "sliding": (replace(HOURLY, logic=sliding, slide="15 minutes"), None),
    "aliased window": (replace(HOURLY, logic=aliased), None),
    "window as a column": (replace(HOURLY, logic=by_column), None),
    "derived keys": (replace(HOURLY, logic=derived_keys), None),
    "chained windows": (replace(HOURLY, logic=chained, tolerances={}), None),
    "session": (SESSION, None),
    "session by key": (replace(SESSION, keys=["origin"]), None),
    "updates of windows": (replace(HOURLY, emit="updates"), None),
    "stateless": (STATELESS, None),
    "latest": (TOTALS, None),
    "delete_when": (replace(TOTALS, delete_when="n > 3 AND mean IS NULL"), None),
    "latest without duplicates": (replace(TOTALS, logic=latest_by_id, keys=["id", "ts"]), None),
    "nullable key behind a filter": (replace(HOURLY, logic=filtered_key, keys=["dest", "window_start"]), None),
    "the same, sliding": (
        replace(HOURLY, logic=filtered_sliding_key, keys=["to", "window_start"], slide="15 minutes"),
        None,
    ),
    "nullable key filled in": (replace(HOURLY, logic=filled_key, keys=["dest", "window_start"]), None),
    "aggregation of a static table only": (
        replace(STATELESS, logic=aggregated_table, tables=[Table("weather")]),
        WEATHER,
    ),
    "static join": (replace(HOURLY, logic=with_table, tables=[Table("weather")], tolerances={"wind": 0.1}), WEATHER),
}


@pytest.mark.parametrize("name", SOUND)
def test_a_sound_job_has_no_problem(spark_session: SparkSession, name: str) -> None:
    job, weather = SOUND[name]
    assert found(spark_session, job, weather) == []


def test_many_windows_per_event_are_read_in_seconds(spark_session: SparkSession) -> None:
    job = replace(HOURLY, logic=many_slides, window="6 hours", slide="2 minutes")
    assert "computes windows of 6 h every 1 min" in found(spark_session, job)[0]
    assert found(spark_session, replace(job, slide="1 minute")) == []


def test_the_schema_comes_back_with_sparks_nullability(spark_session: SparkSession) -> None:
    schema, problems = check_plan(HOURLY, spark_session, {})

    assert problems == []
    assert schema.simpleString() == "struct<origin:string,window_start:timestamp,n:bigint,mean:double>"
    assert [field.nullable for field in schema] == [False, True, False, True]


def test_every_shipped_job_is_sound(spark_session: SparkSession) -> None:
    schemas = {"weather": "origin STRING NOT NULL, hour TIMESTAMP NOT NULL, wind_speed DOUBLE, precip DOUBLE"}
    schemas |= {name: table.schema for entry in ENTRIES for name, table in entry.tables.items()}
    tables = {name: StructType.fromDDL(schema) for name, schema in schemas.items()}
    for path in sorted(set((ROOT / "jobs").glob("*.py")) - set((ROOT / "jobs").glob("sources*.py"))):
        _, problems = check_plan(load_job(path), spark_session, tables)
        assert [problem.line() for problem in problems] == [], path
