"""The grain and the grouping keys of the plan, against what the job declares."""

from __future__ import annotations

from dataclasses import replace

import pytest
from plan_jobs import (
    HOURLY,
    SESSION,
    STATELESS,
    TOTALS,
    found,
    grouped,
    hourly,
    selected,
    session,
    sliding,
    stateless,
    totals,
)
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from twinrun import Job


def half_hourly(flights: DataFrame) -> DataFrame:
    return selected(grouped(flights, "origin", F.window("ts", "30 minutes")), "origin")


def by_day(flights: DataFrame) -> DataFrame:
    return grouped(flights.withColumn("window_start", F.date_trunc("day", "ts")), "origin", "window_start")


def from_half_past(flights: DataFrame) -> DataFrame:
    return selected(grouped(flights, "origin", F.window("ts", "1 hour", "1 hour", "30 minutes")), "origin")


def from_half_before(flights: DataFrame) -> DataFrame:
    return selected(grouped(flights, "origin", F.window("ts", "1 hour", "30 minutes", "-10 minutes")), "origin")


def dynamic_session(flights: DataFrame) -> DataFrame:
    gap = F.when(F.col("delay") > 1, "5 minutes").otherwise("10 minutes")
    per = grouped(flights, "origin", F.session_window("ts", gap))
    return per.select("origin", F.col("session_window.start").alias("window_start"), "n", "mean")


@pytest.mark.parametrize(
    ("job", "says"),
    [
        (replace(HOURLY, window="2 hours"), "declares windows of 2 h, and the function computes windows of 1 h"),
        (replace(HOURLY, logic=half_hourly), "declares windows of 1 h, and the function computes windows of 30 min"),
        (replace(HOURLY, logic=sliding), "and the function computes windows of 1 h every 15 min"),
        (replace(HOURLY, slide="30 minutes"), "declares windows of 1 h every 30 min, and the function"),
        (
            replace(HOURLY, logic=from_half_past),
            "computes windows of 1 h with a startTime of 30 min, which would be cut at other places",
        ),
        (
            replace(HOURLY, logic=from_half_before, slide="30 minutes"),
            "computes windows of 1 h every 30 min with a startTime of 20 min",
        ),
        (replace(HOURLY, logic=session), "the function computes sessions with a gap of 10 min"),
        (replace(SESSION, gap="11 minutes"), "declares sessions with a gap of 11 min, and"),
        (replace(SESSION, logic=dynamic_session), "computes sessions whose gap depends on the row"),
        (replace(SESSION, logic=hourly), "the function computes windows of 1 h"),
        (
            replace(HOURLY, logic=by_day),
            "groups by none; allowed: the same grain; change: group by F.window('ts', ...)",
        ),
        (replace(HOURLY, logic=totals, keys=["origin", "window_start"]), "the key 'window_start' is no column"),
        (replace(HOURLY, logic=stateless, keys=["id", "window_start"], tolerances={}), "the function groups by none"),
        (replace(HOURLY, window=None), "declares no window, and the function aggregates"),
        (replace(STATELESS, logic=totals, keys=["origin"]), "declares no window, and the function aggregates"),
        (replace(HOURLY, window=None, emit="updates"), "declares no window, and the function computes windows of 1 h"),
        (replace(TOTALS, logic=stateless, keys=["id"]), "the function does not aggregate"),
    ],
)
def test_another_grain_than_declared_is_refused(spark_session: SparkSession, job: Job, says: str) -> None:
    lines = found(spark_session, job)
    assert any(says in line for line in lines), lines
