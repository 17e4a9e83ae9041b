"""Small jobs that the tests of the plan check share, and the check as lines of text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from twinrun import Job, Source
from twinrun.job.check import definition_problems
from twinrun.job.plan import check_plan

FLIGHTS = Source(
    "flights",
    schema="id STRING NOT NULL, ts BIGINT NOT NULL, origin STRING NOT NULL, dest STRING, delay INT,"
    " tags MAP<STRING, INT>",
    event_time="ts",
    lateness="1 hour",
)
WEATHER = "origin STRING NOT NULL, hour TIMESTAMP NOT NULL, wind DOUBLE"
Logic = Callable[[DataFrame], DataFrame]


def grouped(flights: DataFrame, *groups: Any) -> DataFrame:
    return flights.groupBy(*groups).agg(F.count(F.lit(1)).alias("n"), F.avg("delay").alias("mean"))


def selected(frame: DataFrame, *columns: Any) -> DataFrame:
    return frame.select(*columns, F.col("window.start").alias("window_start"), "n", "mean")


def hourly(flights: DataFrame) -> DataFrame:
    return selected(grouped(flights, "origin", F.window("ts", "1 hour")), "origin")


def stateless(flights: DataFrame) -> DataFrame:
    return (
        flights.filter(F.col("delay") > 60)
        .select("id", "ts", "delay", "_topic", "_partition", "_offset")
        .select("id", "ts", "delay")
    )


def totals(flights: DataFrame) -> DataFrame:
    return grouped(flights, "origin").select("origin", "n", "mean")


def sliding(flights: DataFrame) -> DataFrame:
    return selected(grouped(flights, "origin", F.window("ts", "1 hour", "15 minutes")), "origin")


def session(flights: DataFrame) -> DataFrame:
    per = grouped(flights, "origin", F.session_window("ts", "10 minutes"))
    return per.select("origin", F.col("session_window.start").alias("window_start"), "n", "mean")


def with_table(flights: DataFrame, weather: DataFrame) -> DataFrame:
    near = flights.withColumn("hour", F.date_trunc("hour", "ts")).join(weather, ["origin", "hour"], "left")
    per = near.groupBy("origin", F.window("ts", "1 hour")).agg(F.max("wind").alias("wind"))
    return per.select("origin", F.col("window.start").alias("window_start"), "wind")


HOURLY = Job(hourly, sources=[FLIGHTS], keys=["origin", "window_start"], window="1 hour", tolerances={"mean": 1e-9})
STATELESS = Job(stateless, sources=[replace(FLIGHTS, lateness=None)], keys=["id"])
TOTALS = Job(totals, sources=[FLIGHTS], keys=["origin"], emit="updates")
SESSION = replace(HOURLY, logic=session, window=None, gap="10 minutes")


def found(spark: SparkSession, job: Job, weather: str | None = None) -> list[str]:
    assert definition_problems(job) == []
    tables = {"weather": StructType.fromDDL(weather)} if weather else {}
    _, problems = check_plan(job, spark, tables)
    return [problem.line() for problem in problems]
