"""What Spark or Python refuses becomes one sentence with its line, before a query starts."""

from __future__ import annotations

from dataclasses import replace

import pytest
from plan_jobs import (
    HOURLY,
    STATELESS,
    TOTALS,
    Logic,
    found,
    grouped,
    selected,
    totals,
    with_table,
)
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from tests.unit.processor import Same
from twinrun import Job, Table
from twinrun.job.plan import check_plan, not_checked


def unknown_column(flights: DataFrame) -> DataFrame:
    kept = flights.filter(F.col("delay") > 0)
    return kept.select("id", "orign")


def unknown_function(flights: DataFrame) -> DataFrame:
    return flights.select("id", F.expr("no_such_function(delay)").alias("x"))


def bad_types(flights: DataFrame) -> DataFrame:
    return flights.select("id", (F.col("ts") / F.lit(2)).alias("x"))


def bad_expression(flights: DataFrame) -> DataFrame:
    return flights.filter("delay >").select("id")


def python_error(flights: DataFrame) -> DataFrame:
    columns = {"id": "id"}
    return flights.select(columns["ids"])


def missing_attribute(flights: DataFrame) -> DataFrame:
    return flights.select(flights.ids)


def kept(flights: DataFrame, time_mode: str) -> DataFrame:
    groups = flights.select("id").groupBy("id")
    return groups.transformWithState(Same(), "id STRING", "append", time_mode).filter("id IS NOT NULL")


def kept_by_the_clock(flights: DataFrame) -> DataFrame:
    return kept(flights, "processingTime")


def kept_by_hand(flights: DataFrame) -> DataFrame:
    return kept(flights, "none")


def test_state_that_goes_by_the_clock_is_refused_since_its_stream_would_never_end(spark_session: SparkSession) -> None:
    by_clock, by_hand = (replace(STATELESS, logic=logic) for logic in (kept_by_the_clock, kept_by_hand))
    [problem] = check_plan(by_clock, spark_session, {})[1]
    assert "a stream with the trigger available-now never ends" in problem.found
    assert check_plan(by_hand, spark_session, {})[1] == []


def own_line(job: Job, offset: int) -> str:
    return f"test_job_plan_errors.py line {job.logic.__code__.co_firstlineno + offset}: "  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("logic", "offset", "says"),
    [
        (unknown_column, 2, "there is no column 'orign'"),
        (unknown_function, 1, "Cannot resolve routine `no_such_function`"),
        (bad_types, 1, 'Cannot resolve "(ts / 2)" due to data type mismatch'),
        (bad_expression, 1, "Syntax error at or near end of input"),
        (python_error, 2, "KeyError: 'ids'"),
        (missing_attribute, 1, "ids"),
    ],
)
def test_an_error_in_the_function_is_one_sentence_with_its_line(
    spark_session: SparkSession, logic: Logic, offset: int, says: str
) -> None:
    job = replace(STATELESS, logic=logic)
    schema, problems = check_plan(job, spark_session, {})

    assert schema == StructType([])
    assert len(problems) == 1
    assert problems[0].found.startswith(own_line(job, offset))
    assert says in problems[0].found
    for noise in ("\n", "SQLSTATE", "Project", "org.apache", "at java"):
        assert noise not in problems[0].found


def test_an_unknown_column_comes_with_the_nearest(spark_session: SparkSession) -> None:
    _, problems = check_plan(replace(STATELESS, logic=unknown_column), spark_session, {})
    assert problems[0].change == "write 'origin'"
    assert "origin" in problems[0].allowed


def counting(flights: DataFrame) -> DataFrame:
    flights.count()
    return flights.select("id")


def sorted_rows(flights: DataFrame) -> DataFrame:
    return flights.select("id", "ts").orderBy("ts")


def ranked(flights: DataFrame) -> DataFrame:
    from pyspark.sql import Window

    rank = F.row_number().over(Window.partitionBy("origin").orderBy("ts"))
    return flights.select("id", rank.alias("rank"))


def distinct_count(flights: DataFrame) -> DataFrame:
    per = flights.groupBy("origin", F.window("ts", "1 hour")).agg(F.count_distinct("dest").alias("n"))
    return per.select("origin", F.col("window.start").alias("window_start"), "n")


def wrong_clock(flights: DataFrame) -> DataFrame:
    return selected(grouped(flights, "origin", F.window("_kafka_timestamp", "1 hour")), "origin")


def limited(flights: DataFrame) -> DataFrame:
    return totals(flights).limit(3)


@pytest.mark.parametrize(
    ("job", "says"),
    [
        (replace(STATELESS, logic=counting), "the function runs an action or a write, which a stream cannot do"),
        (replace(STATELESS, logic=sorted_rows), "as a stream with emit='final': Sorting is not supported"),
        (replace(STATELESS, logic=ranked), "Window function is not supported in ROW_NUMBER()"),
        (replace(HOURLY, logic=distinct_count, tolerances={}), "Distinct aggregations are not supported"),
        (replace(HOURLY, logic=wrong_clock), "streaming aggregations without watermark"),
        (replace(TOTALS, logic=limited), "as a stream with emit='updates': Limits are not supported"),
    ],
)
def test_what_streaming_refuses_is_found_before_a_query_starts(
    spark_session: SparkSession, job: Job, says: str
) -> None:
    lines = found(spark_session, job)

    assert any(says in line for line in lines), lines
    assert len(lines) == 1
    assert spark_session.streams.active == []


def test_a_table_without_a_schema_is_named(spark_session: SparkSession) -> None:
    job = replace(HOURLY, logic=with_table, tables=[Table("weather")], tolerances={})
    assert "the table weather has no schema" in found(spark_session, job)[0]


def test_what_cannot_be_checked_without_a_jvm_is_said(spark_session: SparkSession) -> None:
    connect = type("SparkSession", (), {"__module__": "pyspark.sql.connect.session"})()

    assert not_checked(spark_session) == ()
    assert len(not_checked(connect)) == 3
    assert all("not checked" in sentence and "no JVM" in sentence for sentence in not_checked(connect))


def test_nothing_is_logged_about_a_refused_plan(spark_session: SparkSession, capfd: pytest.CaptureFixture[str]) -> None:
    check_plan(replace(STATELESS, logic=unknown_column), spark_session, {})
    assert "Traceback" not in capfd.readouterr().err
